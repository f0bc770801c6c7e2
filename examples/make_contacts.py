"""Write a file of invented contacts, shaped like Mautic's contact export.

    python examples/make_contacts.py --seed 7 --rows 2400

The same seed and rows give the same file, byte for byte. Among ordinary people
it holds every kind of row that imports trip over (`UGLY`), people who opted
out, visitors without an e-mail address, people written twice, and `EXISTING`:
addresses that a service is to hold already when the file is pushed to it.
Nobody in it exists: all addresses are under .example, all telephone numbers in
the 555-01 range.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

COLUMNS = (
    "id",
    "title",
    "firstname",
    "lastname",
    "email",
    "company",
    "position",
    "mobile",
    "phone",
    "address1",
    "address2",
    "city",
    "state",
    "zipcode",
    "country",
    "website",
    "points",
    "tags",
    "preferred_locale",
    "last_active",
    "doNotContact",
    "loyaltytier",
    "birthday",
)

# How `contacts import` is to take the two custom fields.
MAPPING = {"loyaltytier": "loyaltytier:choice", "birthday": "birthday:date"}

# Addresses that the service holds before the first push.
EXISTING = [f"existing-{number:02}@remote.example" for number in range(1, 41)]

# Ordinary people whom the file holds a second time, the e-mail in capitals.
TWICE = 12

Cells = dict[str, str]


@dataclass(frozen=True, slots=True)
class Ugly:
    """One row that imports trip over.

    Args:
        what: is the matter with it.
        cells: of its row; the others are blank.
        taken: it is a contact; otherwise it must be refused and reported.
    """

    what: str
    cells: Cells
    taken: bool = True


UGLY: tuple[Ugly, ...] = (
    Ugly(
        "the same person twice, first",
        {
            "id": "9001",
            "firstname": "Dora",
            "lastname": "Twice",
            "email": "dora.twice@shop.example",
            "city": "Durham",
            "state": "NC",
            "points": "10",
        },
    ),
    Ugly(
        "the same person twice, other case, other city, a company besides",
        {
            "id": "9002",
            "firstname": "Dora",
            "lastname": "Twice",
            "email": " Dora.Twice@SHOP.example ",
            "company": "Twice and Sons",
            "city": "Raleigh",
            "state": "NC",
            "points": "25",
        },
    ),
    Ugly(
        "a state of 14 letters",
        {
            "id": "9003",
            "firstname": "Nora",
            "lastname": "Carlin",
            "email": "nora.carlin@shop.example",
            "city": "Durham",
            "state": "North Carolina",
            "zipcode": "27701",
            "country": "United States",
        },
    ),
    Ugly(
        "line breaks in a street",
        {
            "id": "9004",
            "firstname": "Liam",
            "lastname": "Breaker",
            "email": "liam.breaker@shop.example",
            "address1": "Harbour House\n12 Quay Street\r\nBack door",
            "city": "Norfolk",
            "state": "VA",
        },
    ),
    Ugly(
        "accents and letters of other alphabets",
        {
            "id": "9005",
            "firstname": "Zoë Ángela",
            "lastname": "Nguyễn-Müller",
            "email": "zoe.nguyen@café.example",
            "company": "Ελληνικό Καφενείο",
            "city": "São Paulo",
            "country": "Brazil",
        },
    ),
    Ugly(
        "an accent of two characters, as some systems write it",
        {
            "id": "9006",
            "firstname": "Rene\u0301e",
            "lastname": "D'Arcy",
            "email": "renee.darcy@shop.example",
        },
    ),
    Ugly(
        "emoji",
        {
            "id": "9007",
            "firstname": "Max 🦊",
            "lastname": "Field",
            "email": "max.field@shop.example",
            "company": "Fox & Family 👩‍👩‍👧",
        },
    ),
    Ugly(
        "a company that is a formula",
        {
            "id": "9008",
            "firstname": "Eve",
            "lastname": "Formula",
            "email": "eve.formula@shop.example",
            "company": '=HYPERLINK("http://evil.example";"click")',
            "position": "@SUM(1+1)",
        },
    ),
    Ugly(
        "names that begin with a plus and a minus",
        {
            "id": "9009",
            "firstname": "+Ana",
            "lastname": "-Stein",
            "email": "ana.stein@shop.example",
            "points": "-15",
        },
    ),
    Ugly(
        "tabs and blanks around and inside of values",
        {
            "id": " 9010",
            "firstname": "\tTom ",
            "lastname": "  Tabb\t",
            "email": "\ttom.tabb@shop.example",
            "city": "New\tBern",
            "state": " NC ",
        },
    ),
    Ugly(
        "a very long company",
        {
            "id": "9011",
            "firstname": "Lena",
            "lastname": "Long",
            "email": "lena.long@shop.example",
            "company": "The Most Honourable Society of " + "Very " * 80 + "Long Names",
        },
    ),
    Ugly(
        "quotation marks and commas",
        {
            "id": "9012",
            "firstname": 'Robert "Bob"',
            "lastname": "Quote, Jr.",
            "email": "bob.quote@shop.example",
            "company": 'The "Comma, Semicolon; and Bar|" Pub',
        },
    ),
    Ugly(
        "all that an address may hold",
        {
            "id": "9013",
            "firstname": "Patrick",
            "lastname": "O'Neil",
            "email": "o'neil+news/2024_x-y@sub-1.mail.example",
        },
    ),
    Ugly(
        "a contact with nothing but an address",
        {"id": "9014", "email": "bare@shop.example"},
    ),
    Ugly(
        "a visitor: no address, only Mautic's number",
        {"id": "9015", "points": "5", "last_active": "2024-05-01 10:20:30"},
    ),
    Ugly(
        "opted out",
        {
            "id": "9016",
            "firstname": "Una",
            "lastname": "Subscribed",
            "email": "una@shop.example",
            "doNotContact": "unsubscribed",
        },
    ),
    Ugly(
        "bounced",
        {
            "id": "9017",
            "firstname": "Bo",
            "lastname": "Unce",
            "email": "bo.unce@shop.example",
            "doNotContact": "Bounced",
        },
    ),
    Ugly(
        "opted out by a mere 1",
        {
            "id": "9018",
            "firstname": "Manny",
            "lastname": "Wall",
            "email": "manny.wall@shop.example",
            "doNotContact": "1",
        },
    ),
    Ugly(
        "somebody the service holds already, opted out here, in other case",
        {
            "id": "9019",
            "firstname": "Otto",
            "lastname": "Out",
            "email": "Existing-40@Remote.example",
            "doNotContact": "unsubscribed",
        },
    ),
    Ugly("every cell blank", {}),
    Ugly(
        "an address without @",
        {"id": "9101", "firstname": "No", "email": "no-at.shop.example"},
        taken=False,
    ),
    Ugly(
        "an address with blanks",
        {"id": "9102", "firstname": "Blank", "email": "a b@shop.example"},
        taken=False,
    ),
    Ugly(
        "an address that ends at the @",
        {"id": "9103", "firstname": "Foo", "email": "foo@"},
        taken=False,
    ),
    Ugly(
        "an address with two @",
        {"id": "9104", "firstname": "Two", "email": "two@@shop.example"},
        taken=False,
    ),
    Ugly(
        "two addresses in one cell",
        {"id": "9105", "email": "one@shop.example, two@shop.example"},
        taken=False,
    ),
    Ugly(
        "an address without a dot behind the @",
        {"id": "9106", "email": "admin@localhost"},
        taken=False,
    ),
    Ugly(
        "points that are no number",
        {"id": "9107", "email": "points@shop.example", "points": "many"},
        taken=False,
    ),
    Ugly(
        "a birthday that is no day",
        {"id": "9108", "email": "birthday@shop.example", "birthday": "2023-02-30"},
        taken=False,
    ),
    Ugly(
        "an unclear word about contacting",
        {"id": "9109", "email": "unclear@shop.example", "doNotContact": "perhaps"},
        taken=False,
    ),
    Ugly("nobody: neither address nor number", {"firstname": "Ghost"}, taken=False),
)

_FIRST = (
    "Ada Amir Ana Anton Aroha Ben Bianca Carla Chidi Chloé Dan Devi Elena Emeka "
    "Farah Felix Grace Hana Hugo Ines Ivan Jade Jin Jonas José Kaia Karim Kofi Lars "
    "Leila Luca Maya Mei Milan Nadia Noah Olga Omar Paula Priya Quinn Rafael Rosa Sami "
    "Sofia Tariq Tess Uma Victor Wei Xenia Yara Yusuf Zofia"
)
_LAST = (
    "Abbott Adeyemi Baker Bauer Becker Boateng Brook Castro Chen Clarke Costa Diaz "
    "Dubois Eriksen Farmer Fischer Garcia Gupta Haas Hansen Ito Ivers Jansen Jones "
    "Kaya Keller Khan Kim Larsen Lopez Marsh Meyer Moreau Novak Okafor Olsen Park "
    "Patel Quist Rossi Saito Schmidt Silva Singh Tanaka Torres Ueda Vogel Walker "
    "Weber Yilmaz Zhou"
)
FIRST, LAST = _FIRST.split(), _LAST.split()
TOWNS = (
    ("Durham", "NC", "27701"),
    ("Raleigh", "NC", "27601"),
    ("Asheville", "NC", "28801"),
    ("Richmond", "VA", "23219"),
    ("Norfolk", "VA", "23510"),
    ("Austin", "TX", "78701"),
    ("Portland", "OR", "97201"),
    ("Albany", "NY", "12207"),
    ("Boise", "ID", "83702"),
    ("Savannah", "GA", "31401"),
    ("Madison", "WI", "53703"),
    ("Tucson", "AZ", "85701"),
)
STREETS = ("Main St", "Oak Ave", "Mill Rd", "Church St", "Lake Dr", "Elm St")
TRADES = ("Bakery", "Books", "Bikes", "Garden", "Studio", "Foods", "Tools", "Travel")
POSITIONS = ("Owner", "Buyer", "Manager", "Engineer", "Teacher", "Nurse")
TAGS = ("newsletter", "webinar", "trial", "customer", "vip", "trade-fair")
TIERS = ("bronze", "silver", "gold", "platinum")


def make_rows(seed: int = 7, rows: int = 2400) -> list[Cells]:
    """Return the rows in file order: always the same for the same arguments.

    Args:
        seed: of the random numbers.
        rows: how many, at least those of `UGLY` and `EXISTING` together.
    """
    dice = random.Random(seed)  # noqa: S311 - invented people, no secrets
    special = [dict(ugly.cells) for ugly in UGLY]
    special += [
        {**_person(dice, 8000 + number), "email": email, "doNotContact": ""}
        for number, email in enumerate(EXISTING, 1)
    ]
    count = rows - len(special) - TWICE
    ordinary = [_person(dice, number) for number in range(1, count + 1)]
    known = [row for row in ordinary if "email" in row]
    special += [
        {**row, "id": str(7000 + number), "email": row["email"].upper(), "points": "30"}
        for number, row in enumerate(dice.sample(known, TWICE), 1)
    ]
    # Spread evenly, so that every batch of an import meets some of them.
    step = max(1, len(ordinary) // len(special))
    for place, row in enumerate(special):
        ordinary.insert(min(place * (step + 1) + step, len(ordinary)), row)
    return ordinary


def _person(dice: random.Random, number: int) -> Cells:
    first, last = dice.choice(FIRST), dice.choice(LAST)
    plain = first.lower().replace("é", "e")
    city, state, code = dice.choice(TOWNS)
    domain = dice.choice(TRADES).lower()
    cells = {
        "id": str(number),
        "firstname": first,
        "lastname": last,
        "email": f"{plain}.{last.lower()}.{number}@{domain}.example",
        "city": city,
        "state": state,
        "zipcode": code,
        "country": "United States",
        "points": str(dice.choice((0, 0, 5, 10, 20, 45, 80, 100, 120))),
        "loyaltytier": dice.choice(("", *TIERS)),
    }
    maybe = dice.random
    if maybe() < 0.04:  # somebody who came by and left no address
        return {"id": str(number), "points": cells["points"], "city": city}
    if maybe() < 0.15:
        cells["title"] = dice.choice(("Mr", "Ms", "Dr"))
    if maybe() < 0.4:
        cells["company"] = f"{last} {dice.choice(TRADES)}"
    if maybe() < 0.3:
        cells["position"] = dice.choice(POSITIONS)
    if maybe() < 0.05:
        cells["website"] = f"https://www.{last.lower()}.example"
    if maybe() < 0.4:
        cells["phone"] = f"+1 919-555-01{dice.randrange(100):02}"
    if maybe() < 0.2:
        cells["mobile"] = f"919-555-01{dice.randrange(100):02}"
    if maybe() < 0.6:
        cells["address1"] = f"{dice.randrange(1, 999)} {dice.choice(STREETS)}"
    if maybe() < 0.1:
        cells["address2"] = f"Apt {dice.randrange(1, 60)}"
    if maybe() < 0.5:
        count = dice.randrange(1, 3)
        cells["tags"] = "|".join(sorted(dice.sample(TAGS, count)))
    if maybe() < 0.3:
        cells["birthday"] = (
            f"{dice.randrange(1950, 2005)}-{dice.randrange(1, 13):02}-"
            f"{dice.randrange(1, 29):02}"
        )
    if maybe() < 0.03:
        cells["doNotContact"] = dice.choice(("unsubscribed", "bounced", "manual"))
    if maybe() < 0.05:  # typed with the caps lock on
        cells["email"] = cells["email"].upper()
    return cells


@dataclass(frozen=True, slots=True)
class Expected:
    """What an import of the file must come to.

    Args:
        taken: rows that are contacts, the second one of a person included.
        refused: rows that must be reported.
        people: different e-mail addresses among the rows taken.
        visitors: rows taken without an e-mail address.
        opted_out: addresses that must not be pushed anywhere.
    """

    taken: int
    refused: int
    people: frozenset[str]
    visitors: int
    opted_out: frozenset[str]


def expect(rows: Iterable[Cells]) -> Expected:
    """Say what an import of these rows, with `MAPPING`, must come to."""
    bad = [ugly.cells for ugly in UGLY if not ugly.taken]
    rows = [row for row in rows if any(value.strip() for value in row.values())]
    taken = [row for row in rows if row not in bad]
    emails = [row.get("email", "").strip().lower() for row in taken]
    return Expected(
        taken=len(taken),
        refused=len(rows) - len(taken),
        people=frozenset(filter(None, emails)),
        visitors=emails.count(""),
        opted_out=frozenset(
            email
            for email, row in zip(emails, taken, strict=True)
            if email and row.get("doNotContact")
        ),
    )


def to_csv(rows: Iterable[Cells]) -> str:
    """Return the rows as Mautic writes them: commas, quotes where needed."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_in_order(rows))
    return text.getvalue()


def _in_order(rows: Iterable[Cells]) -> Iterator[list[str]]:
    for row in rows:
        yield [row.get(column, "") for column in COLUMNS]


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description="Write a file of invented contacts.")
    parser.add_argument("--seed", type=int, default=7, help="of the random numbers")
    parser.add_argument("--rows", type=int, default=2400, help="at least 100")
    default = Path(__file__).with_name("contacts.csv")
    parser.add_argument("--out", type=Path, default=default, help="file to write")
    options = parser.parse_args()
    if options.rows < 100:
        parser.error("--rows must be at least 100")
    rows = make_rows(options.seed, options.rows)
    options.out.write_bytes(to_csv(rows).encode())
    expected = expect(rows)
    sys.stdout.write(
        f"{options.out}: {len(rows)} rows, {expected.taken} to be taken, "
        f"{expected.refused} to be refused, {len(expected.people)} different "
        f"addresses, {expected.visitors} visitors, {len(expected.opted_out)} opted "
        "out\n"
    )


if __name__ == "__main__":
    main()
