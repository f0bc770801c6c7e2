"""The shapes of request bodies, and the shape of the answers to them.

Source:
    icontact-api.md 4.1, 4.2 and 4.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import texts
from .exchange import Answer, RefusalError

if TYPE_CHECKING:
    from collections.abc import Collection

    from .exchange import Call, JsonValue, Record


def items(call: Call, singular: str) -> list[Record]:
    """Return what a collection POST holds: an array, or one wrapped object.

    Raises:
        RefusalError: 400 for anything else (a bare object is said not to work),
            413 above the switch `batch_cap`.
    """
    body = call.json()
    if isinstance(body, dict) and isinstance(wrapped := body.get(singular), dict):
        body = [wrapped]
    if not isinstance(body, list):
        raise RefusalError(400, texts.MALFORMED)
    cap = call.switches.batch_cap
    if cap and len(body) > cap:
        raise RefusalError(413, texts.TOO_MANY_ITEMS)
    return [one if isinstance(one, dict) else {} for one in body]


def bare(call: Call) -> Record:
    """Return what a member POST or PUT holds.

    An array is read as an object with the keys `0`, `1`, ...: that is how the real
    service comes to answer `Invalid field: 0` and change nothing.

    Raises:
        RefusalError: 400, it is neither.
    """
    body = call.json()
    if isinstance(body, list):
        return {str(index): one for index, one in enumerate(body)}
    if not isinstance(body, dict):
        raise RefusalError(400, texts.MALFORMED)
    return body


def text_of(value: JsonValue) -> str | None:
    """Return a scalar as the service stores it, None for an array or object."""
    if value is None or value is False:
        return ""
    if value is True:
        return "1"
    if isinstance(value, str | int | float):
        return str(value)
    return None


def number_text(value: JsonValue) -> str:
    """Return an id, sent as number or text, as text; '' when it is neither."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value).strip()


def unknown_fields(record: Record, known: Collection[str]) -> list[str]:
    """Return a warning for each key that is not a field."""
    return [texts.invalid_field(name) for name in record if name not in known]


def answered(call: Call, key: str, value: JsonValue, warnings: list[str]) -> Answer:
    """Return a write's answer with its warnings, if there are any."""
    if call.switches.extra_warning == "yes" and value:
        warnings = [*warnings, texts.INFORMATION]
    answer: Record = {key: value}
    if warnings:
        answer["warnings"] = [*warnings]
    return Answer(answer)


def collection_answer(
    call: Call,
    plural: str,
    records: list[Record],
    warnings: list[str],
    id_field: str = "",
) -> Answer:
    """Return the answer to a collection POST.

    `id_field` is given for the resources whose answer the manual calls "resource
    locations"; the shape of those is invented.
    """
    if call.switches.echo_order == "reversed":
        records = records[::-1]
    values: list[JsonValue] = [*records]
    if id_field and call.switches.post_answer == "locations":
        values = [f"{call.address}/{record[id_field]}" for record in records]
    return answered(call, plural, values, warnings)
