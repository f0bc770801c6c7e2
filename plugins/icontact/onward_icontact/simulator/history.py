"""The history of one contact.

Source:
    icontact-api.md 13.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import query, texts
from .exchange import Answer, RefusalError, allow
from .wire import action_record

if TYPE_CHECKING:
    from .exchange import Call
    from .query import Kind, Value
    from .records import Action

_KINDS: dict[str, Kind] = {
    "actor": "text",
    "actionType": "text",
    "actionTime": "moment",
}
_ACTORS = ("system", "admin", "contact")


def actions(call: Call, contact_id: str) -> Answer:
    """Answer `contacts/{id}/actions`, newest first."""
    allow(call, "GET")
    if contact_id not in call.folder.contacts:
        raise RefusalError(404, texts.NOT_FOUND)
    search = query.parse(call.query, _KINDS, call.switches)
    search.limit = min(search.limit, call.switches.actions_cap)
    newest_first = call.folder.actions.get(contact_id, [])[::-1]
    found = query.narrow(newest_first, search, _KINDS, _value_of, call.switches)
    return Answer(query.paged(search, "actions", found, action_record))


def _value_of(action: Action, name: str) -> Value:
    match name:
        case "actionTime":
            return action.at
        case "actor":
            return action.actor if action.actor in _ACTORS else "user"
        case _:
            return action.kind
