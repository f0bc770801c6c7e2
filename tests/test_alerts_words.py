"""Alerts as sentences: every kind has two, and stands in the documentation."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from onward.alerts.book import LONGEST, Kind, plain_reason
from onward.alerts.words import body, document, sentence, told_of
from onward.testing.app import START

DOCS = (Path(__file__).parents[1] / "docs/alerts.md").read_text("utf-8")


def an_alert(kind: str, *, closed: bool = False) -> dict[str, object]:
    """Return one as plain data."""
    return document(
        {
            "id": 1,
            "kind": kind,
            "connection": "acme",
            "subject": "thing",
            "code": "word",
            "reason": "somebody must act",
            "count": 1,
            "opened_at": START,
            "last_at": START,
            "closed_at": START + timedelta(hours=1) if closed else None,
        }
    )


@pytest.mark.parametrize("kind", [*Kind, "a kind of somebody else"])
def test_every_kind_says_what_is_wrong_and_that_it_is_over(kind: str) -> None:
    """Both name what it is about; only the first says why."""
    wrong, over = sentence(an_alert(kind)), sentence(an_alert(kind, closed=True))

    assert "acme" in wrong or "thing" in wrong
    assert "acme" in over or "thing" in over
    assert "somebody must act" in wrong
    assert "somebody must act" not in over


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_is_documented(kind: Kind) -> None:
    """The page has a line for it."""
    assert f"\n| `{kind}` | " in DOCS


def test_the_documentation_shows_the_body() -> None:
    """Every key of a message stands there, and every type."""
    message = body([an_alert("paused")], START)

    assert {*message, *message["data"]} == {
        word for word in {*message, *message["data"]} if f'"{word}": ' in DOCS
    }
    for kind in ("opened", "closed", "digest", "test"):
        assert f"| `alert.{kind}` | " in DOCS


def test_a_digest_is_about_all_of_its_alerts() -> None:
    """And one that says how often is a digest, also of a single alert."""
    one, other = an_alert("paused"), an_alert("late", closed=True)

    assert told_of(body([one, other], START)) == [one, other]
    assert told_of(body([other], START)) == [other]
    assert body([other], START)["type"] == "alert.closed"
    assert body([{**other, "times": 3}], START)["type"] == "alert.digest"


def test_reasons_are_one_line_without_addresses() -> None:
    """Whatever a service or a plugin says."""
    said = "no outcome for <Ana@shop.example>,\nbo%40shop.example (sam@x.example)."

    assert plain_reason(said) == ("no outcome for <<address>>, <address> (<address>).")
    assert len(plain_reason("x" * 2_000)) == LONGEST
    assert plain_reason("rule 4 at 9:00 UTC") == "rule 4 at 9:00 UTC"
