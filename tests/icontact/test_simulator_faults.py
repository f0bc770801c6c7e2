"""Faults strike as armed, and the service recovers after them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from onward_icontact.simulator import FOREVER, KINDS, Simulator, connect

ANA = [{"email": "ana@x.example"}]


@pytest.mark.parametrize(
    ("kind", "error", "is_stored", "is_logged"),
    [
        ("connect_error", httpx.ConnectError, False, False),
        ("timeout_before_write", httpx.ReadTimeout, False, True),
        ("timeout_after_write", httpx.ReadTimeout, True, True),
        ("close_before_write", httpx.RemoteProtocolError, False, True),
        ("close_after_write", httpx.RemoteProtocolError, True, True),
    ],
)
def test_loses_the_connection(
    kind: str, error: type[Exception], is_stored: bool, is_logged: bool
) -> None:
    """The client sees the exception, stored or not, and the next call works."""
    sim = Simulator()
    sim.fail(kind)
    client = connect(sim)

    with pytest.raises(error):
        client.post("contacts", json=ANA)

    assert (sim.folder().find("ana@x.example") is not None) == is_stored
    assert [one.fault for one in sim.requests] == ([kind] if is_logged else [])
    assert client.post("contacts", json=ANA).status_code == 200


@pytest.mark.parametrize(
    ("kind", "options", "status", "content_type", "is_stored"),
    [
        ("html_503", {}, 503, "text/html", False),
        ("json_503", {"retry_after": 7}, 503, "application/json", False),
        ("html_200", {}, 200, "text/html", False),
        ("status", {"status": 507}, 507, "application/json", False),
        ("status", {"status": 400, "errors": ["No."]}, 400, "application/json", False),
        ("truncated_json", {}, 200, "application/json", True),
        ("empty_body", {}, 200, "application/json", True),
    ],
)
def test_answers_wrongly(
    kind: str,
    options: dict[str, Any],
    status: int,
    content_type: str,
    is_stored: bool,
) -> None:
    """The answer is the fault's, and the next one is right again."""
    sim = Simulator()
    sim.fail(kind, **options)
    client = connect(sim)

    answer = client.post("contacts", json=ANA)

    assert answer.status_code == status
    assert answer.headers["content-type"].startswith(content_type)
    after = options.get("retry_after")
    assert answer.headers.get("retry-after") == (str(after) if after else None)
    assert (sim.folder().find("ana@x.example") is not None) == is_stored
    assert client.post("contacts", json=ANA).json()["contacts"]


def test_strikes_only_what_it_is_armed_for() -> None:
    """Method, resource, `after` and `times` choose the requests."""
    sim = Simulator()
    sim.fail("json_503", times=2, method="GET", resource="lists", after=1)
    client = connect(sim)

    statuses = [client.get("lists").status_code for _ in range(4)]

    assert statuses == [200, 503, 503, 200]
    sim.fail("json_503", times=2, method="GET", resource="lists")
    assert client.get("contacts").status_code == 200
    assert client.post("lists", json=[{"name": "New"}]).status_code == 200
    sim.clear_faults()
    assert client.get("lists").status_code == 200


def test_lasts_for_ever_until_cleared() -> None:
    """A fault armed for ever ends with `clear_faults`."""
    sim = Simulator()
    sim.fail("html_503", times=FOREVER)
    client = connect(sim)

    assert {client.get("lists").status_code for _ in range(5)} == {503}
    sim.clear_faults()
    assert client.get("lists").status_code == 200


def test_slow_answers_use_the_given_sleep() -> None:
    """`slow` waits by the injected function and then answers."""
    waited: list[float] = []
    sim = Simulator(sleep=waited.append)
    sim.fail("slow", seconds=90)

    assert connect(sim).get("lists").status_code == 200
    assert waited == [90]


def test_rejects_some_addresses() -> None:
    """The whole POST is refused, or the item only; members are left alone."""
    sim = Simulator()
    client = connect(sim)
    batch = [{"email": "good@x.example"}, {"email": "BAD@x.example"}]

    sim.fail("reject_emails", emails=["bad@x.example"])
    whole = [client.post("contacts", json=batch).status_code for _ in range(2)]
    nobody = sim.folder().counts()["contacts"]
    sim.clear_faults()
    sim.fail("reject_emails", emails=["bad@x.example"], how="warning")
    part = client.post("contacts", json=batch).json()

    assert whole == [400, 400]
    assert nobody == 0
    assert [row["email"] for row in part["contacts"]] == ["good@x.example"]
    assert len(part["warnings"]) == 1
    assert client.post("contacts", json=batch[:1]).json()["contacts"]


@pytest.mark.parametrize(("stored", "expected"), [("nothing", 0), ("before", 1)])
def test_crashes_on_one_address(stored: str, expected: int) -> None:
    """A POST holding the address is a 500, with or without the items before it."""
    sim = Simulator()
    sim.fail("crash_500", email="bad@x.example", stored=stored)
    batch = [{"email": f"{name}@x.example"} for name in ("one", "bad", "two")]
    client = connect(sim)

    assert client.post("contacts", json=batch).status_code == 500
    assert sim.folder().counts()["contacts"] == expected
    assert client.post("contacts", json=[batch[0], batch[2]]).status_code == 200


def test_contacts_go_and_come_back_while_they_are_read() -> None:
    """`shift` moves the rows of the next pages, `emptied` leaves none."""
    sim = Simulator()
    for number in range(5):
        sim.folder().add_contact(f"p{number}@x.example")
    sim.fail("shift", resource="contacts", rows=2, after=1)
    sim.fail("shift", resource="contacts", rows=-1, after=1)
    sim.fail("emptied", resource="contacts", after=1)
    client = connect(sim)

    def seen() -> list[str]:
        """Read the folder."""
        rows = client.get("contacts?status=total").json()["contacts"]
        return [row["email"][:2] for row in rows]

    assert seen() == ["p0", "p1", "p2", "p3", "p4"]
    assert seen() == ["p2", "p3", "p4"]
    assert seen() == ["p0", "p2", "p3", "p4"]
    assert seen() == []
    assert client.post("contacts", json=ANA).json()["contacts"]
    assert seen() == ["an"]


def test_unknown_kinds_are_refused() -> None:
    """The message names the kinds there are."""
    with pytest.raises(ValueError, match="html_503"):
        Simulator().fail("html_504")
    assert all(KINDS.values())
