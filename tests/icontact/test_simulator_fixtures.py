"""The simulator answers the recorded exchanges word for word."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from onward_icontact.simulator import Simulator

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.json"))
MADE = "2026-03-04T14:15:00Z"


def seeded(sim: Simulator, given: dict[str, Any]) -> None:
    """Put what a fixture presupposes into the main folder."""
    folder = sim.folder()
    for one in given.get("custom_fields", []):
        folder.add_custom_field(one["name"], one["type"], one["label"])
    for one in given.get("contacts", []):
        fields, lists = one.get("fields", {}), one.get("lists", [])
        folder.add_contact(one["email"], one.get("status", "normal"), lists, **fields)
    for one in given.get("actions", []):
        at, details = datetime.fromisoformat(one["at"]), one.get("details", {})
        whose = next(iter(folder.contacts))
        folder.note_action(whose, one["kind"], details, one["actor"], at)
    if "lists" in given:
        for list_id in list(folder.lists):
            folder.delete_list(list_id)
        for one in given["lists"]:
            folder.add_list(**one)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_answers_as_recorded(path: Path) -> None:
    """Status, reason phrase and body equal the quoted exchange."""
    fixture = json.loads(path.read_text(encoding="utf-8"))
    given, asked = fixture.get("given", {}), fixture["request"]
    moments = [given.get("at", MADE)]
    sim = Simulator(lambda: datetime.fromisoformat(moments[-1]))
    seeded(sim, given)
    new_list = {"4412": "4410"} if "lists" in given else {}
    moments.append(fixture["at"])
    request = httpx.Request(
        asked["method"],
        "https://app.icontact.com" + renamed(asked["path"], new_list, back=True),
        params=asked["query"] or None,
        headers={
            "API-Version": "2.2",
            "API-AppId": sim.app_id,
            "API-Username": sim.username,
            "API-Password": sim.password,
            "Accept": "application/json",
            "Content-Type": "application/json",
            **asked.get("headers", {}),
        },
        content=asked.get("text") or json.dumps(asked.get("body")),
    )

    response = sim.handle(request)

    expected = fixture["response"]
    assert response.status_code == expected["status"]
    assert expected.get("reason") in (None, response.reason_phrase)
    assert json.loads(renamed(response.text, new_list)) == expected["body"]


def renamed(text: str, ids: dict[str, str], *, back: bool = False) -> str:
    """Give a new list the id that the quotation has."""
    for ours, quoted in ids.items():
        text = text.replace(quoted, ours) if back else text.replace(ours, quoted)
    return text
