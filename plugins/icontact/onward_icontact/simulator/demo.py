"""The data a new simulator holds; all of it invented."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .accounts import Account
    from .folder import Folder
    from .service import Service

MAIN_ACCOUNT = "510001"
MAIN_FOLDER = "8801"
AGENCY = "400204"

_PEOPLE = (
    ("Ana", "Ruiz"),
    ("Bo", "Larsen"),
    ("Chidi", "Okafor"),
    ("Dewi", "Hartono"),
    ("Elif", "Arslan"),
    ("Femke", "de Boer"),
    ("Goran", "Petrović"),
    ("Hana", "Sato"),
    ("Idris", "Cole"),
    ("Júlia", "Alves"),
)
_PLACES = (
    ("Durham", "NC", "27701"),
    ("Raleigh", "NC", "27601"),
    ("Austin", "TX", "73301"),
    ("Portland", "OR", "97201"),
)
_COMPANIES = ("Mill Lane Bakery", "Harbour Books", "Northside Cycles", "")
_DOMAINS = ("shop.example", "mail.example", "post.example")
_STATUSES = ("normal",) * 7 + ("donotcontact", "bounced", "pending", "deleted")
_TYPES = ("text", "date", "checkbox", "number")
_CLIENTS = ("Bakery", "Books", "Cycles", "Dental", "Eye Care", "Florist")


def fill_plain(service: Service) -> Account:
    """Make one account with one folder, two lists and nobody in it."""
    account = service.add_account(MAIN_ACCOUNT, [MAIN_FOLDER])
    folder = account.folders[MAIN_FOLDER]
    folder.add_list("Newsletter")
    folder.add_list("VIP")
    return account


def fill_demo(service: Service, seed: int) -> Account:
    """Make an agency account, and the main one full of data.

    The agency comes first in `GET a`, so that whoever takes the first account
    without asking takes the wrong one. It has more folders than a page.
    """
    dice = random.Random(seed)  # noqa: S311  # demo data, not a secret
    folder_ids = [str(7300 + number) for number in range(24)]
    names = [f"{_CLIENTS[n % 6]} {n // 6 + 1}" for n in range(24)]
    service.add_account(AGENCY, folder_ids, is_agency=True, names=names)
    account = service.add_account(MAIN_ACCOUNT, [MAIN_FOLDER])
    folder = account.folders[MAIN_FOLDER]
    _add_lists(folder)
    _add_custom_fields(folder)
    for number in range(60):
        _add_person(folder, number, dice, service)
    return account


def _add_lists(folder: Folder) -> None:
    """Add 45 lists; the ones people look for are not on the first page."""
    for number in range(1, 46):
        match number:
            case 31:
                folder.add_list("Newsletter", publicname="Our news")
            case 38:
                folder.add_list("VIP", description="Our best customers")
            case 12 | 40:
                folder.add_list("Open day")  # names need not be unique
            case _:
                folder.add_list(f"Campaign {number:02}")


def _add_custom_fields(folder: Folder) -> None:
    """Add 30 custom fields; the named ones are beyond the first page too."""
    for number in range(1, 31):
        match number:
            case 24:
                folder.add_custom_field("loyaltytier", "text", "Loyalty tier")
            case 26:
                folder.add_custom_field("birthday", "date", "Birthday")
            case 28:
                folder.add_custom_field("acceptsphone", "checkbox", "May we call?")
            case 29:
                folder.add_custom_field("orders", "number", "Orders so far")
            case _:
                kind = _TYPES[number % len(_TYPES)]
                folder.add_custom_field(f"extra{number:02}", kind, f"Extra {number}")


def _add_person(
    folder: Folder, number: int, dice: random.Random, service: Service
) -> None:
    first, last = dice.choice(_PEOPLE)
    city, state, postal_code = dice.choice(_PLACES)
    email = f"{_ascii(first)}.{_ascii(last)}{number:02}@{dice.choice(_DOMAINS)}"
    status = dice.choice(_STATUSES)
    # The first eleven have one status each, so that every seed has them all.
    if number < len(_STATUSES):
        status = _STATUSES[number]
    contact = folder.add_contact(
        email,
        status,
        ["Newsletter"] if status != "deleted" and number % 3 else [],
        created=service.now() - timedelta(hours=dice.randrange(1, 24 * 400)),
        firstName=first,
        lastName=last,
        city=city,
        state=state,
        postalCode=postal_code,
    )
    details = {
        "business": dice.choice(_COMPANIES),
        "fax": f"555-{dice.randrange(1000):04}" if number % 2 else "",
        "loyaltytier": dice.choice(("gold", "silver", "")),
        "orders": str(dice.randrange(40)),
    }
    contact.values.update({name: text for name, text in details.items() if text})
    if number % 7 == 4:
        folder.unsubscribe("Newsletter", email)
    if number % 5 == 0 and status == "normal":
        folder.subscribe(folder.list_named("VIP").list_id, contact.contact_id, "normal")


def _ascii(name: str) -> str:
    return name.lower().translate(str.maketrans("ćú ", "cu."))
