"""Whom a command is about, in the words of `onward fire`."""

from __future__ import annotations

from typing import Annotated

import typer

from onward.errors import InputError

Email = Annotated[str, typer.Argument(metavar="[EMAIL|NUMBER]")]
Visitor = Annotated[
    str, typer.Option(help="Who it is, when there is no e-mail address yet.")
]


def one_person(email: str, visitor: str) -> tuple[str, str]:
    """Return (address, number or identity, kind of the identity or "").

    Raises:
        InputError: nobody is named, or two are.
    """
    email, visitor = email.strip(), visitor.strip()
    if bool(email) == bool(visitor):
        raise InputError(
            "name one contact: by its e-mail address, its number, or --visitor with "
            "the identity it had before it said who it is"
        )
    if email and "@" not in email and not email.isdigit():
        raise InputError(
            f'"{email}" is no e-mail address and no number of a contact; write '
            f"--visitor {email} if it is a visitor"
        )
    return (visitor, "visitor") if visitor else (email, "")
