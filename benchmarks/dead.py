"""One dead connection among ten: what the other nine call, in simulated time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import ClassVar

import httpx

import onward.testing
from benchmarks.measure import Section, say
from onward import (
    Account,
    Api,
    ConnectionSettings,
    Integration,
    Item,
    Outcome,
    RemoteField,
    RemoteSegment,
)
from onward.testing.pool import Pool

CONNECTIONS = 10
DEAD = "c3"
THREADS = 4
BATCH = 10
CALL = timedelta(milliseconds=200)
TIMEOUT = timedelta(seconds=30)
LENGTH = timedelta(minutes=10)


class _Settings(ConnectionSettings):
    """Which of them."""

    account: str


class Plain(Integration):
    """One POST for a batch."""

    key, title, hosts = "plain", "Plain", ("plain.example",)
    batch_size = BATCH
    default_map: ClassVar[dict[str, str]] = {"email": "email"}
    Settings = _Settings

    def verify(self, api: Api) -> Account:
        """Believe everything."""
        of = self.settings.account
        return Account(of, of, of)

    def fields(self, api: Api, segment: RemoteSegment | None) -> Iterator[RemoteField]:
        """Have the address."""
        yield RemoteField("email", required=True)

    def push(
        self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """POST it."""
        api.post(self.settings.account, [item.email for item in batch])
        for item in batch:
            yield item.delivered(item.email)


def _toml() -> str:
    """Configure ten connections of 60 calls a minute, and a rule that names all."""
    names = [f"c{number}" for number in range(CONNECTIONS)]
    tables = [
        f'[connections.{name}]\nintegration = "plain"\nsegment = false\n'
        f'limits = ["60/minute"]\nsettings = {{ account = "{name}" }}\n'
        for name in names
    ]
    targets = ", ".join(f'"{name}"' for name in names)
    rule = f'[[rules]]\nkey = "all"\nwhen = "form.sent"\npush_to = [{targets}]\n'
    return "".join(tables) + rule


def calls(people: int, *, dead: bool) -> dict[str, list[float]]:
    """Deliver everybody to all ten; return connection -> seconds of its calls.

    Args:
        dead: one of them never answers.
    """
    made: dict[str, list[float]] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        of = request.url.path.strip("/")
        made.setdefault(of, []).append((app.clock.now - start).total_seconds())
        if dead and of == DEAD:
            app.clock.tick(TIMEOUT)
            raise httpx.ConnectTimeout("no answer", request=request)
        app.clock.tick(CALL)
        return httpx.Response(200, json={})

    app = onward.testing.app(
        _toml(), integrations=[Plain], transport=httpx.MockTransport(answer)
    )
    for number in range(CONNECTIONS):
        app.verify(f"c{number}")
    app.record_actions(
        {"action": "form.sent", "email": f"p{number}@shop.example"}
        for number in range(people)
    )
    start: datetime = app.clock.now
    Pool(app, THREADS).run(LENGTH)
    app.close()
    return made


def compare(people: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return the calls with all alive, and with one dead."""
    return calls(people, dead=False), calls(people, dead=True)


def measure(people: int) -> Section:
    """Compare the nine, call by call."""
    say(f"  {CONNECTIONS} connections, {people:,} people each, {THREADS} threads")
    alive, other = compare(people)
    section = Section(
        f"One dead connection among {CONNECTIONS}, simulated time",
        ("what", "all alive", f"{DEAD} dead", "unchanged", ""),
    )
    nine = [name for name in alive if name != DEAD]
    runs = (alive, other)
    before, after = (sum(len(run[name]) for name in nine) for run in runs)
    ends = [f"{max(run[name][-1] for name in nine):.1f}" for run in runs]
    lost = [f"{len(run.get(DEAD, ()))}" for run in runs]
    verdict = "kept" if before == after else "**missed**"
    section.rows += [
        ("calls of the other nine", f"{before}", f"{after}", "yes", verdict),
        ("the last of them, seconds", *ends, "", ""),
        ("calls of the dead one", *lost, "", ""),
    ]
    section.notes.append(
        f"{LENGTH // timedelta(minutes=1)} simulated minutes of one worker: the real "
        f"sweep, turns and `drain()` on {THREADS} simulated threads; a call takes "
        f"{CALL / timedelta(milliseconds=1):.0f} ms, the dead one's "
        f"{TIMEOUT / timedelta(seconds=1):.0f} s; 60 calls a minute each."
    )
    return section
