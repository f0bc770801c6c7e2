"""HTTP calls on iContact's simulator, beside what Mautic's plugin needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onward.testing
from benchmarks.measure import Section, at_most, say
from benchmarks.services import email, person
from onward.testing.app import TestApp
from onward_icontact.simulator import Simulator

LIST = "Newsletter"
POPULATION = 2_000
PAGE = 500
RUNS = 3

TOML = f"""\
[connections.icontact]
integration = "icontact"
segment = "{LIST}"
limits = ["600000/minute"]
[connections.icontact.settings]
app_id = "${{APP}}"
username = "${{USER}}"
password = "${{PASSWORD}}"
account_id = "${{ACCOUNT}}"
client_folder_id = "${{FOLDER}}"
[[rules]]
key = "forms"
when = "form.submitted"
push_to = ["icontact"]
"""


@dataclass(slots=True)
class World:
    """A simulator with people in it, and an Onward connected to it."""

    simulator: Simulator
    app: TestApp
    verifying: int

    def submit(self, people: Sequence[int], moved: int = 0) -> int:
        """Let these people submit a form and deliver; return the calls made.

        Args:
            moved: so many of them give another city than before.
        """
        self.app.record_actions(
            {
                "action": "form.submitted",
                "email": email(number),
                "contact": person(number) | ({"city": "Austin"} if n < moved else {}),
            }
            for n, number in enumerate(people)
        )
        before = len(self.simulator.requests)
        done = self.app.deliver()
        assert set(done.counts) <= {
            ("delivered", "delivered"),
            ("unchanged", "unchanged"),
        }, done
        assert done.next_at is None, done
        return len(self.simulator.requests) - before

    def check(self, people: Sequence[int]) -> None:
        """Make sure that they really are on the list."""
        missing = {email(n) for n in people} - self.simulator.folder().on_list(LIST)
        assert not missing, f"{len(missing)} people are not on the list"


def world(population: int, commas: str) -> World:
    """Return a new one, its connection verified.

    Args:
        population: people of somebody else's who are in the folder before.
        commas: the simulator's switch of that name.
    """
    simulator = Simulator(commas=commas)
    folder = simulator.folder()
    for number in range(population):
        folder.add_contact(f"old{number:05d}@mail.example", lists=[LIST])
    app = onward.testing.app(
        TOML,
        fake=simulator,
        env={
            "APP": simulator.app_id,
            "USER": simulator.username,
            "PASSWORD": simulator.password,
            "ACCOUNT": simulator.account_id,
            "FOLDER": simulator.client_folder_id,
        },
    )
    app.verify("icontact")
    return World(simulator, app, len(simulator.requests))


def count(commas: str) -> tuple[dict[str, int], int]:
    """Go through every situation once; return its calls, and those of verifying."""
    few, more, thousand = range(100), range(100, 200), range(1_000)
    calls: dict[str, int] = {}
    here = world(POPULATION, commas)
    calls[f"100 new contacts, {POPULATION:,} others there"] = here.submit(few)
    calls["100 more on the same day"] = here.submit(more)
    here.check([*few, *more])
    here.app.close()

    empty = world(0, commas)
    calls["100 new contacts, empty folder"] = empty.submit(few)
    empty.check(few)
    empty.app.close()

    here = world(POPULATION, commas)
    calls[f"1,000 new contacts, {POPULATION:,} others there"] = here.submit(thousand)
    here.check(thousand)
    calls["1,000 known contacts, nothing changed"] = here.submit(thousand)
    calls["1,000 known contacts, 50 of them changed"] = here.submit(thousand, moved=50)
    here.check(thousand)
    folder = here.simulator.folder()
    found = [folder.find(email(number)) for number in thousand]
    assert [one.values["city"] for one in found if one].count("Austin") == 50
    here.app.close()
    return calls, here.verifying


def measure(*, commas: str) -> Section:
    """Count in every situation, for accounts that honour commas or do not."""
    honoured = commas == "honoured"
    how = "honours" if honoured else "does not honour"
    say(f"  an account that {how} commas")
    runs = [count(commas) for _ in range(RUNS)]
    # New contacts where commas are not honoured: the folder is read once.
    pages = 0 if honoured else POPULATION // PAGE
    bounds = [*([4, 4] if honoured else [None, None]), 4, 40 + pages, 3, 60]
    section = Section(
        f"HTTP calls, iContact {how} several addresses in one search",
        ("what", "calls", "at most", "", "Mautic"),
    )
    for what, most in zip(runs[0][0], bounds, strict=True):
        seen = sorted({calls[what] for calls, _ in runs})
        contacts = 1_000 if what.startswith("1,000") else 100
        section.rows.append(
            (
                what,
                " to ".join(f"{one}" for one in {seen[0]: 0, seen[-1]: 0}),
                "" if most is None else f"{most}",
                "" if most is None else at_most(seen[-1], most),
                f"{2 * contacts:,} to {3 * contacts:,}",
            )
        )
    section.notes.append(
        f"Counted on the simulator's request log, {RUNS} times; two batches are on "
        "their way at once, so that a count may differ by one. Verifying a connection "
        f"costs {runs[0][1]} more calls, once a day (accounts, folders, lists, custom "
        "fields). Mautic's plugin makes 2 calls a contact, and a third where a process "
        "pushes only one (it reads the custom fields once per process), whether "
        "anything changed or not."
    )
    if not honoured:
        section.notes.append(
            f"The bound of new contacts is 40 and one call per {PAGE} contacts of the "
            "folder."
        )
    return section
