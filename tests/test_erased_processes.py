"""An erasure that is killed anywhere is finished by the same command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlmodel import SQLModel

from onward.database import Database

AtOnce = Callable[[Sequence[str]], list[Any]]

FILL = """
from pathlib import Path
from onward.contacts.importing import import_contacts
for number, email in enumerate(("ana@old.example", "ana@new.example")):
    app.upsert_contact({"email": email, "identities": {"user": "u"},
                        "first_name": "Anastasia"})
app.record_action("seen", email="ana@new.example", data={"name": "Anastasia"})
app.record_action("seen", email="ben@shop.example", data={"of": "ana@old.example"})
app.record_action("seen", email="ben@shop.example", data={"of": "ana@new.example"})
path = Path(app.config.path).parent / "people.csv"
line = "Anastasia," + 80 * "x" + ",many,z@z.example"
path.write_text("first_name,company,points,email\\n" + line + "\\n")
import_contacts(app.runtime, path)
"""
ERASE = """
import os
from onward.contacts.erasing import erase_contact
os.environ["ONWARD_FAILPOINT"] = HERE
done = erase_contact(app.runtime, "ana@new.example")
result = [done.contact_id, done.sending]
"""
POINTS = (
    "during_erase",
    "after_erase",
    "during_cleaning",
    "after_cleaning",
    "before_compacting",
)


def everything(database: Database) -> str:
    """Return all rows as text, of a file all bytes."""
    if database.path is not None:
        files = sorted(database.path.parent.glob("onward.db*"))
        return b"".join(one.read_bytes() for one in files).decode("latin-1").lower()
    with database.read() as transaction:
        return "\n".join(
            f"{rows.name} {dict(row)!r}"
            for rows in SQLModel.metadata.sorted_tables
            for row in transaction.execute(select(rows)).mappings()
        ).lower()


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_the_same_command_finishes_it(
    at_once: AtOnce, tmp_path: Path, database_url: str, point: str
) -> None:
    """Also what only the first run could tell by: the other address, the name."""
    (tmp_path / "onward.toml").write_text(
        f'[onward]\ndatabase_url = "{database_url}"\n'
    )
    at_once([FILL])
    [killed] = at_once([ERASE.replace("HERE", repr(point))])
    assert killed == {"ended": -9}

    at_once([ERASE.replace("HERE", "''")])

    database = Database(database_url)
    said = everything(database)
    database.close()
    for trace in ("anastasia", "ana@old", "ana@new", "erasing:"):
        assert trace not in said, trace
    assert "ben@shop.example" in said


def test_erasing_at_the_same_moment(
    at_once: AtOnce, tmp_path: Path, database_url: str
) -> None:
    """Four who erase the same person do it once, and none fails."""
    (tmp_path / "onward.toml").write_text(
        f'[onward]\ndatabase_url = "{database_url}"\n'
    )
    at_once([FILL])
    told = at_once([ERASE.replace("HERE", "''")] * 4)

    assert sum(bool(contact) for contact, _ in told) == 1
    database = Database(database_url)
    assert "anastasia" not in everything(database)
    database.close()
