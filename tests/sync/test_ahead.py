"""The next page is read in a thread of its own, while one is stored."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event

import pytest

from onward import Page
from onward.sync.ahead import Ahead


def test_ask_waits_for_the_request_and_not_for_its_answer() -> None:
    """Its call is noted by then, so that storing a page does not keep it here."""
    done: list[str] = []
    answered = Event()

    def pull() -> Iterator[Page]:
        done.append("noted")
        pages.is_on_its_way()
        answered.wait()
        done.append("answered")
        yield Page([], None)

    with Ahead(pull) as pages:
        pages.ask()
        before = list(done)
        answered.set()
        page = pages.take()

    assert before == ["noted"]
    assert page == Page([], None)
    assert done == ["noted", "answered"]


def test_looking_for_the_end_takes_nothing_away() -> None:
    """Whoever looked gets the page, the end, or what reading raised."""

    def pull() -> Iterator[Page]:
        yield Page([], 1)
        raise LookupError

    with Ahead(pull) as pages:
        assert not pages.is_over()
        assert pages.take() == Page([], 1)
        assert not pages.is_over()
        with pytest.raises(LookupError):
            pages.take()
        assert pages.is_over()
        assert pages.take() is None
