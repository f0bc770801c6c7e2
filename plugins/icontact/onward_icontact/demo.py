"""The main job in front of your eyes: `onward demo`.

Starts the simulator as a real server, connects to it, imports a file of ugly
contacts, fires actions and points through the public API, delivers, and then
compares what the simulator holds with what must be there, worked out here from
the file alone.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from onward import ConfigError, CredentialsRefused, Onward
from onward.testing import serve
from onward_icontact.rows import text_of
from onward_icontact.simulator import Folder, Simulator

Say = Callable[[str], None]

NOBODY: set[str] = set()
LIST = "Newsletter"
HOT = 100
FORM_POINTS = 10
# What the service holds of `EXISTING` in a field that is not mapped.
UNTOUCHED = {"loyaltytier": "kept by iContact", "birthday": "1980-01-02"}

TOML = """\
[onward]
database_url = "sqlite:///onward.db"

[connections.icontact]
integration = "icontact"
segment = "Newsletter"
limits = ["60000/minute"]      # raised for the demo; the default is 60 a minute
[connections.icontact.settings]
app_id = "{app_id}"
username = "{username}"
password = "{password}"
account_id = "{account_id}"
client_folder_id = "{folder_id}"
api_url = "{url}"

[connections.patient]          # another folder, with the limits every account gets
integration = "icontact"
segment = "Welcome"
[connections.patient.settings]
app_id = "{app_id}"
username = "{username}"
password = "{password}"
account_id = "{other_account}"
client_folder_id = "{other_folder}"
api_url = "{url}"

[[rules]]
key = "forms-to-icontact"
when = "form.submitted"
push_to = ["icontact"]
points = {form_points}

[[point_triggers]]
key = "hot-lead"
name = "Hot lead"
points = {hot}
push_to = [{{ to = "icontact", segment = "VIP" }}]
"""


def run(say: Say = print) -> bool:
    """Run the demonstration; return whether everything was as it must be."""
    example = _load_example()
    simulator = Simulator(demo=True)
    other = simulator.folder("400204", "7300")
    other.add_list("Welcome")
    with (
        tempfile.TemporaryDirectory(prefix="onward-demo-") as folder,
        serve(simulator.handle) as server,
    ):
        stage = Stage(Path(folder), simulator, f"{server.url}/icp", example, say)
        return stage.play()


class Stage:
    """One run of the demonstration."""

    def __init__(
        self,
        folder: Path,
        simulator: Simulator,
        url: str,
        example: ModuleType,
        say: Say,
    ) -> None:
        self.path = folder / "onward.toml"
        self.simulator = simulator
        self.remote: Folder = simulator.folder()
        self.url = url
        self.example = example
        self.say = say
        self.rows: list[dict[str, str]] = example.make_rows()
        self.expected: Any = example.expect(self.rows)
        self.problems: list[str] = []
        self.before: set[str] = set()
        self.app: Onward

    def play(self) -> bool:
        """Go through all steps."""
        started = time.monotonic()
        self._seed()
        self._refusals()
        with self._opened() as app:
            self.app = app
            self._import()
            self._fire()
            self._deliver()
            self._check()
            self._nothing_twice()
            self._pull()
            self._default_limits()
        took = time.monotonic() - started
        if self.problems:
            self.say(f"\n{len(self.problems)} things are not as they must be:")
            for problem in self.problems:
                self.say(f"  - {problem}")
            return False
        self.say(f"\nEverything is as it must be ({took:.0f} s).")
        return True

    # -- steps

    def _seed(self) -> None:
        """Let the service hold some of the people already."""
        for place, email in enumerate(self.example.EXISTING):
            status = {7: "donotcontact", 11: "bounced"}.get(place, "normal")
            on_lists = [LIST] if place % 2 else []
            held = self.remote.add_contact(email, status, on_lists, fax="555-0100")
            held.values.update(UNTOUCHED)
            if place in (13, 17):
                self.remote.unsubscribe(LIST, email)
        self.before = self.remote.on_list(LIST)
        self.say(
            f"A simulated iContact at {self.url}: "
            f"{len(self.remote.lists)} lists, {len(self.remote.contacts)} contacts"
        )

    def _refusals(self) -> None:
        """Show what wrong settings answer."""
        self._step("What a wrong entry answers (nothing is saved)")
        for what, wrong in (
            ("a wrong password", {"password": "a-login-password"}),
            ("a wrong folder", {"folder_id": "1234"}),
        ):
            with self._opened(**wrong) as app:
                try:
                    app.verify("icontact")
                except CredentialsRefused as error:
                    self.say(f"  {what}:\n    {error.message}\n    {error.hint}")
                except ConfigError as error:
                    self.problems.append(f"{what}: {error.message}")
                else:
                    self.problems.append(f"{what} was accepted")

    def _import(self) -> None:
        self._step("Import examples/contacts.csv, shaped like a Mautic export")
        verified = self.app.verify("icontact")
        self.say(f'  connected: {verified.title}, list "{LIST}"')
        source = Path(str(self.example.__file__)).with_name("contacts.csv")
        summary = self.app.import_contacts(source, mapping=self.example.MAPPING)
        self.say(
            f"  {summary.taken} lines taken, {summary.refused} refused; "
            f"{summary.created} contacts"
        )
        for number, reason, _ in list(summary.problems)[:3]:
            self.say(f"    line {number}: {reason}")
        self._expect("lines taken", summary.taken, self.expected.taken)
        self._expect("lines refused", summary.refused, self.expected.refused)

    def _fire(self) -> None:
        self._step("Fire actions and points, as a marketing automation would")
        everybody = sorted(self.expected.people)
        pushes = 0
        for start in range(0, len(everybody), 200):
            results = self.app.record_actions(
                [
                    {
                        "action": "form.submitted",
                        "email": email,
                        "data": {"form": "newsletter"},
                        "key": f"form-{email}",
                    }
                    for email in everybody[start : start + 200]
                ]
            )
            pushes += sum(bool(result.pushes) for result in results)
        again = self.app.record_action(
            "form.submitted",
            email=everybody[0],
            data={"form": "newsletter"},
            key=f"form-{everybody[0]}",
        )
        hot = 0
        for email in everybody[:50]:
            result = self.app.add_points(60, email=email, reason="visited the fair")
            hot += bool(result.fired)
        visitor = {"visitor": "browser-1"}
        self.app.record_action("form.submitted", identities=visitor)
        self.app.record_action(
            "page.visited", email="late.visitor@shop.example", identities=visitor
        )
        self.say(
            f"  {len(everybody)} forms → {pushes} pushes queued, 50 times +60 points, "
            f"{hot} point triggers fired by them\n"
            f"  the same form again, same key: "
            f"{'no effect' if again.repeated else 'TAKEN TWICE'}\n"
            "  a visitor without e-mail submitted a form, then gave an address"
        )
        self._expect("a repeated key", again.repeated, True)

    def _deliver(self) -> None:
        self._step("Deliver")
        before = len(self.simulator.requests)
        started = time.monotonic()
        done = self.app.deliver()
        took = time.monotonic() - started
        calls = len(self.simulator.requests) - before
        rows = sum(done.counts.values())
        self.say(f"  {rows} rows in {took:.1f} s with {calls} HTTP calls")
        for (state, code), count in sorted(
            done.counts.items(), key=lambda entry: -entry[1]
        ):
            self.say(f"    {count:>5}  {state:<10} {code}")
        self.say("  for example:")
        seen: set[str] = set()
        for row in self.app.deliveries():
            if row["state"] != "delivered" and row["reason"] not in seen:
                seen.add(row["reason"])
                self.say(f"    {row['email']}: {row['state']}, {row['reason']}")
            elif row["state"] == "delivered" and "left out" in row["reason"]:
                self.say(f"    {row['email']}: delivered, {row['reason']}")
            if len(seen) >= 6:
                break

    def _check(self) -> None:
        self._step("Compare the simulator with what must be there")
        remote = self.remote
        stopped = self._stopped()
        wished = set(self.expected.people) - stopped | {"late.visitor@shop.example"}
        present = remote.on_list(LIST)
        added = present - self.before
        self._expect("put on the list against their will", added & stopped, NOBODY)
        self._expect("missing on the list", wished - present, NOBODY)
        emails = [c.email for c in remote.contacts.values()]
        self._expect("contacts twice", len(emails), len(set(map(str.lower, emails))))
        for email in self.example.EXISTING:
            contact = remote.find(email)
            kept = {
                name: text_of(contact.values.get(name)) if contact else ""
                for name in UNTOUCHED
            }
            self._expect(f"{email}: a field that is not mapped", kept, UNTOUCHED)
        nora = remote.find("nora.carlin@shop.example")
        state = text_of(nora.values.get("state")) if nora else "missing"
        self._expect("a state of 14 letters, left out", state, "")
        self._check_rows(present)
        self.say(
            f"  {len(wished & present)} of {len(wished)} on the list, "
            f"none of {len(stopped)} who opted out was put there, nobody twice, "
            "unmapped fields untouched"
        )

    def _check_rows(self, present: set[str]) -> None:
        hot = remote_hot = 0
        for row in self.app.deliveries():
            if row["state"] == "delivered" and row["email"] not in present:
                self.problems.append(f"{row['email']} is delivered and not there")
            if row["state"] != "delivered" and not (row["code"] and row["reason"]):
                self.problems.append(f"{row['email']}: {row['state']} without reason")
        vip = self.remote.on_list("VIP")
        for contact in self.app.contacts():
            if contact["points"] >= HOT and contact["email"]:
                hot += 1
                remote_hot += contact["email"] in vip | self._stopped()
        self._expect("hot leads on the list VIP", remote_hot, hot)
        self.say(f"  {hot} contacts have {HOT} points or more, all on the list VIP")

    def _nothing_twice(self) -> None:
        self._step("The same again: nothing is sent twice")
        before = len(self.simulator.requests)
        self.app.push(to="icontact", emails=sorted(self.expected.people))
        done = self.app.deliver()
        writes = [
            call for call in self.simulator.requests[before:] if call.method != "GET"
        ]
        self.say(
            f"  {sum(done.counts.values())} pushes, "
            f"{len(self.simulator.requests) - before} calls, {len(writes)} writes"
        )
        self._expect("writes for unchanged contacts", len(writes), 0)

    def _pull(self) -> None:
        self._step("Pull: what people and others did in iContact comes here")
        free = sorted(set(self.expected.people) - self._stopped())
        left, angry, moved = free[20:23]
        self.remote.unsubscribe(LIST, left)
        for email, change in ((angry, "status"), (moved, "city")):
            contact = self.remote.find(email)
            assert contact is not None  # noqa: S101 - it was delivered
            if change == "status":
                contact.status = "donotcontact"
            else:
                contact.values["city"] = "Elsewhere"
        self.remote.add_contact("new.there@shop.example", firstName="Nadia")
        before = len(self.simulator.requests)
        synced = self.app.sync("icontact")
        calls = len(self.simulator.requests) - before
        counts = Counter[str]() if synced.run is None else synced.run.counts
        self.say(
            f"  {counts['shown']} contacts with {calls} calls: "
            f"{counts['created']} new here, {counts['unsubscribed']} unsubscribed, "
            f"{counts['do_not_contact']} do not contact; the next pull is "
            f"{synced.again_at:%Y-%m-%d %H:%M} UTC"
        )
        self._expect("the pull", synced.stopped, "done")
        self.app.push(to="icontact", emails=[left, angry], force=True)
        self.app.deliver()
        last = {row["email"]: row for row in self.app.deliveries()}
        for email, words in ((left, f"unsubscribed from {LIST}"), (angry, "do not")):
            row = last[email]
            self.say(f"    {email}: {row['state']}: {row['reason']}")
            self._expect(f"{email} pushed after the pull", row["state"], "skipped")
            self._expect(f"{email}'s reason", words in row["reason"], True)
        member = self.remote.subscription(LIST, left)
        self._expect(f"{left} on the list", member, "unsubscribed")
        known = {contact["email"]: contact for contact in self.app.contacts()}
        nadia = known.get("new.there@shop.example", {})
        self._expect("who was added there", nadia.get("first_name"), "Nadia")
        self._expect_drift(moved)

    def _expect_drift(self, moved: str) -> None:
        found = self.app.drift("icontact")
        cities = [one.fields.get("city") for one in found if one.email == moved]
        ours, there = next(filter(None, cities), ("", ""))
        self.say(f"    {moved}: differs: we wrote {ours!r}, there is {there!r}")
        self._expect("what differs there", there, "Elsewhere")

    def _default_limits(self) -> None:
        self._step("The default limits at work: 60 calls a minute, 8 people singly")
        before = len(self.simulator.requests)
        started = time.monotonic()
        free = sorted(set(self.expected.people) - self._stopped())
        for email in free[:8]:
            self.app.push(to="patient", email=email)
            self.app.deliver()
        took = time.monotonic() - started
        calls = len(self.simulator.requests) - before
        there = self.simulator.folder("400204", "7300").on_list("Welcome")
        self.say(
            f"  {calls} calls in {took:.0f} s: the first quarter of a minute's calls "
            "at once, then evenly, never more than 60 in any minute"
        )
        self._expect("people on the list Welcome", there, set(free[:8]))

    # -- helpers

    def _stopped(self) -> set[str]:
        """Return who must not be on the list, by file and by the service."""
        existing: Sequence[str] = self.example.EXISTING
        remote = {existing[place] for place in (7, 11, 13, 17)}
        return set(self.expected.opted_out) | (remote & set(self.expected.people))

    def _step(self, title: str) -> None:
        self.say(f"\n{title}")

    def _expect(self, what: str, got: object, wanted: object) -> None:
        if got != wanted:
            self.problems.append(f"{what}: {got!r} instead of {wanted!r}"[:300])

    @contextmanager
    def _opened(self, **wrong: str) -> Generator[Onward]:
        entries = {
            "app_id": self.simulator.app_id,
            "username": self.simulator.username,
            "password": self.simulator.password,
            "account_id": self.simulator.account_id,
            "folder_id": self.simulator.client_folder_id,
            "other_account": "400204",
            "other_folder": "7300",
            "url": self.url,
            "form_points": FORM_POINTS,
            "hot": HOT,
            **wrong,
        }
        self.path.write_text(TOML.format(**entries), encoding="utf-8")
        app = Onward.from_config(self.path)
        try:
            yield app
        finally:
            app.close()


def _load_example() -> ModuleType:
    """Import `examples/make_contacts.py`: packaged, or beside `plugins/`."""
    packaged = Path(__file__).parent / "examples"
    folder = packaged if packaged.is_dir() else Path(__file__).parents[3] / "examples"
    path = folder / "make_contacts.py"
    spec = importlib.util.spec_from_file_location("onward_example_contacts", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"the demonstration's contacts are missing: {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
