"""`onward why`: why somebody was pushed, or was not."""

from __future__ import annotations

from typing import Annotated

import typer

from onward.cli.opening import open_runtime
from onward.cli.person import Email, Visitor, one_person
from onward.cli.printing import print_document, say
from onward.errors import InputError


def why(
    ctx: typer.Context,
    email: Email = "",
    visitor: Visitor = "",
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Say what happened to a contact, what followed, what did not, and why."""
    from onward.why import explain

    who, kind = one_person(email, visitor)
    with open_runtime(ctx) as runtime:
        found = explain(runtime, who, kind=kind)
    if not found.contact_id and len(found.answer) == 1:
        raise InputError(" ".join(found.answer))
    if json:
        print_document(found.as_dict())
        return
    for line in found.lines():
        say(line)
