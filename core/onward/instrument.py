"""What can be measured: the core says what it does, and somebody may listen.

Nobody does unless asked; then each of these calls costs next to nothing. Metrics,
spans and probes are listeners. Nothing that is said names a person.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from onward.logs.context import bound, named


@dataclass(slots=True)
class Drain:
    """Working through one connection under its lease.

    Args:
        stopped: why it ended, as in the drain's report; "" = it failed.
    """

    connection_id: int
    fence: int
    connection: str = ""
    integration: str = ""
    stopped: str = ""

    def facts(self) -> Mapping[str, object]:
        """Return what log lines about it carry."""
        return {
            "connection": self.connection or None,
            "connection_id": self.connection_id,
            "fence": self.fence,
        }


@dataclass(slots=True)
class Batch:
    """Sending some deliveries, or reading them back.

    Args:
        kind: of the attempt: `push` or `read`.
        attempt_id: None until something is asked.
        stopped: the code of what kept the connection from going on, "" = nothing.
    """

    connection: str
    integration: str
    kind: str
    rows: Sequence[int]
    attempt_id: int | None = None
    stopped: str = ""

    def facts(self) -> Mapping[str, object]:
        """Return what log lines about it carry."""
        return {"attempt_id": self.attempt_id, **named(list(self.rows))}


@dataclass(slots=True)
class Call:
    """One request of an integration.

    Args:
        path: its template: what may be an id is `{id}`; no query.
        status: None when there was no answer; then an httpx error is raised.
    """

    connection: str
    integration: str
    method: str
    path: str
    status: int | None = None


@dataclass(slots=True)
class Sweep:
    """One look for connections that have work."""


Work = Drain | Batch | Call | Sweep
Watch = AbstractContextManager[object]


class Instrument(Protocol):
    """Listens to what is done."""

    def watch(self, work: Work) -> Watch:
        """Be there while some work is done; it is filled in until the end."""
        ...

    def settled(self, connection: str, ends: Iterable[tuple[str, str]]) -> None:
        """Take note of deliveries whose next state is committed: (state, code)."""
        ...

    def waited(self, connection: str, seconds: float) -> None:
        """Take note of a wait for the limit of calls."""
        ...


_NOTHING: Watch = nullcontext()


class Nobody:
    """Listens to nothing."""

    def watch(self, work: Work) -> Watch:
        """Do nothing."""
        return _NOTHING

    def settled(self, connection: str, ends: Iterable[tuple[str, str]]) -> None:
        """Do nothing."""

    def waited(self, connection: str, seconds: float) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Several:
    """Lets several listen."""

    listeners: Sequence[Instrument]

    @contextmanager
    def watch(self, work: Work) -> Generator[None]:
        """Let each be there."""
        with ExitStack() as stack:
            for one in self.listeners:
                stack.enter_context(one.watch(work))
            yield

    def settled(self, connection: str, ends: Iterable[tuple[str, str]]) -> None:
        """Tell each."""
        listed = list(ends)
        for one in self.listeners:
            one.settled(connection, listed)

    def waited(self, connection: str, seconds: float) -> None:
        """Tell each."""
        for one in self.listeners:
            one.waited(connection, seconds)


def joined(first: Instrument, second: Instrument) -> Instrument:
    """Return an instrument for both."""
    before = first.listeners if isinstance(first, Several) else (first,)
    return Several((*before, second))


@contextmanager
def watching(instrument: Instrument, work: Drain | Batch) -> Generator[None]:
    """Do some work under the eyes of an instrument; log lines carry its facts."""
    with bound(work), instrument.watch(work):
        yield


_WORD = re.compile(r"[A-Za-z][A-Za-z_-]{0,31}|v[0-9]{1,3}|[0-9]\.[0-9]")


def path_template(path: str) -> str:
    """Return a path with `{id}` for each part that may name somebody or something.

    `/a/510001/c/8801/contacts` → `/a/{id}/c/{id}/contacts`.
    """
    return "/".join(
        part if not part or _WORD.fullmatch(part) else "{id}"
        for part in path.split("/")
    )
