"""What iContact's answers hold, however they are written."""

from __future__ import annotations

from typing import cast

from onward import Answer, Lost, Temporary
from onward_icontact.rows import Row


def body_of(answer: Answer) -> Row:
    """Return the object an answer is; an empty array is an empty one.

    Raises:
        Temporary, Lost: it is something else.
    """
    body = answer.json()
    if isinstance(body, dict):
        return cast("Row", body)
    if body == []:
        return {}
    sort = Temporary if answer.method == "GET" else Lost
    raise sort(
        "iContact answered something that is no answer to this call",
        status=answer.status,
        code="not_understood",
    )


def words_of(body: Row) -> str:
    """Return what stands beside the data (warnings and the like) as one line."""
    said: list[str] = []
    for name in ("errors", "warnings", "notices"):
        entries: object = body.get(name) or []
        several = (
            cast("list[object]", entries) if isinstance(entries, list) else [entries]
        )
        said += map(str, several)
    return " ".join("; ".join(said).split())[:300]


def _entries(found: object) -> list[object]:
    """Return what a collection holds; an array with gaps comes as an object."""
    if isinstance(found, dict):
        return list(cast("dict[str, object]", found).values())
    return cast("list[object]", found) if isinstance(found, list) else []


def rows_of(body: Row, key: str) -> list[Row]:
    """Return the records of a collection; `null` and bare addresses are none."""
    rows = _entries(body.get(key))
    return [cast("Row", row) for row in rows if isinstance(row, dict) and row]


def is_collection(found: object) -> bool:
    """Tell whether all there is are records; `null` and blank ones are none."""
    if not (found is None or isinstance(found, (list, dict))):
        return False
    entries = _entries(cast("object", found))
    return all(not one or isinstance(one, dict) for one in entries)


def not_shown(key: str) -> Temporary:
    """Return what to raise when an answer lacks what it was asked for."""
    return Temporary(
        f"iContact answered without the {key} that was asked for",
        code="not_understood",
    )
