"""What a row of iContact means."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from onward import RemoteContact
from onward_icontact import IContact
from onward_icontact.rows import Odd, membership, moment_of, record, same, standing


@pytest.mark.parametrize(
    ("sent", "got", "is_same"),
    [
        ("Ana", "Ana ", True),
        ("a\r\nb", "a\nb", True),
        ("0", "", True),
        ("", "0", True),
        ("1", "1.00", True),
        ("0.5", "0.50", True),
        ("2026-03-04", "2026-03-04 00:00:00", True),
        ("2026-03-04", "2026-03-04T00:00", True),
        ("2026-03-04", "2026-03-05 00:00:00", False),
        ("Ana", "An", False),
        ("Ana", "", False),
        ("007", "7", False),
        ("+15550100", "15550100", False),
        ("1", "0", False),
        ("1e3", "1000", False),
    ],
)
def test_same(sent: str, got: str, is_same: bool) -> None:
    """What differs in writing only is the same; what lost something is not."""
    settings = {"app_id": "a", "username": "b", "password": "c"}
    integration = IContact(IContact.Settings.model_validate(settings))

    assert same(sent, got) is is_same
    assert integration.same("city", sent, got) is is_same


@pytest.mark.parametrize(
    ("written", "hour"),
    [
        ("2026-03-04 09:15:00", "2026-03-04T14:15"),  # winter
        ("2026-07-04 09:15:00", "2026-07-04T13:15"),  # summer
        ("2026-11-01 01:30:00", "2026-11-01T05:30"),  # comes twice
        ("2026-03-08 02:30:00", "2026-03-08T07:30"),  # never comes
        ("2026-03-04T09:15:00-05:00", "2026-03-04T14:15"),
        ("2026-03-05T10:02:00-0500", "2026-03-05T15:02"),
        ("2026-03-04", "2026-03-04T05:00"),
    ],
)
def test_times_are_of_the_us_east(written: str, hour: str) -> None:
    """A time without offset is Eastern wall time; one with an offset is what it says.

    Of the hour that comes twice the first is taken.
    """
    assert moment_of(written) == datetime.fromisoformat(f"{hour}:00+00:00")


@pytest.mark.parametrize(
    "written",
    [None, "", "0000-00-00 00:00:00", "yesterday", 7, [], "0001-01-01 00:00:00+14:00"],
)
def test_what_is_no_time_is_none(written: object) -> None:
    """A date that cannot be read is unknown, and breaks nothing."""
    assert moment_of(written) is None


def test_a_row_of_a_contact() -> None:
    """Ids and blanks are texts, the address is lower case, bookkeeping is no field."""
    row = {
        "contactId": 7,
        "email": " Ana@Shop.example",
        "firstName": " Ana ",
        "fax": None,
        "vip": True,
        "orders": 3,
        "status": "invitable",
        "bounceCount": 2,
        "createDate": "2026-03-04 09:15:00",
    }

    got = record(row)

    assert got == RemoteContact(
        "7",
        "ana@shop.example",
        {
            "email": "Ana@Shop.example",
            "firstName": "Ana",
            "fax": "",
            "vip": "1",
            "orders": "3",
        },
        "pending",
        created_at=datetime(2026, 3, 4, 14, 15, tzinfo=UTC),
    )


@pytest.mark.parametrize("blank", [None, "", "  ", [], {}, [""], {"@nil": "true"}])
def test_what_is_no_scalar_is_blank(blank: object) -> None:
    """However a blank is written, it is nobody's text; a box is a box."""
    got = record({"contactId": "7", "city": blank, "vip": False, "zip": "0"})

    assert got.fields == {"city": "", "vip": "0", "zip": "0"}


@pytest.mark.parametrize(
    ("written", "status"),
    [
        ("DoNotContact", "opted_out"),
        (" donotcontact ", "opted_out"),
        ("BOUNCED", "bounced"),
        ("Normal", "normal"),
        ("Quarantined", "Quarantined"),
        (None, ""),
    ],
)
def test_status_of_a_contact_in_any_letters(written: object, status: str) -> None:
    """Case and blanks are no difference; an unknown one stays as it is written."""
    assert record({"contactId": "7", "status": written}).status == status


@pytest.mark.parametrize(
    ("written", "meant", "told"),
    [
        ("normal", "normal", "normal"),
        ("Pending ", "pending", "pending"),
        ("UNSUBSCRIBED", "unsubscribed", "unsubscribed"),
        ("bounced", Odd("bounced"), "none"),
        (None, Odd(""), "none"),
        ([], Odd(""), "none"),
    ],
)
def test_status_of_a_membership(written: object, meant: object, told: str) -> None:
    """An unknown one is kept as such; elsewhere it is neither member nor opt-out."""
    row = {"status": written}

    assert (standing(row), membership(row)) == (meant, told)
