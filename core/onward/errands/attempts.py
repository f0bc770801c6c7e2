"""What is kept of the requests of errands that are over: nothing of the person."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote

import httpx
from sqlalchemy import Connection as Transaction
from sqlalchemy import select, update

from onward.contacts.traces import MARK
from onward.instrument import path_template
from onward.models import Attempt, table

attempts = table(Attempt)


def scrub_attempts(
    transaction: Transaction, ids: Collection[int], people: Collection[str]
) -> None:
    """Leave of some attempts what was asked where, and how it ended.

    Args:
        people: remote ids.
    """
    if not ids:
        return
    found = transaction.execute(
        select(attempts.c.id, attempts.c.exchanges, attempts.c.error)
        .where(attempts.c.id.in_(ids))
        .order_by(attempts.c.id)
    ).all()
    for row in found:
        transaction.execute(
            update(attempts)
            .where(attempts.c.id == row.id)
            .values(
                exchanges=[scrub_exchange(one, people) for one in row.exchanges],
                error=scrub_error(row.error),
            )
        )


def scrub_exchange(
    exchange: Mapping[str, Any], people: Collection[str]
) -> dict[str, Any]:
    """Return an exchange without its bodies, and its address without ids."""
    url = httpx.URL(str(exchange.get("url", "")))
    names = {form for one in people for form in (one, quote(one, safe=""))}
    parts = (
        "{id}" if part in names else part for part in path_template(url.path).split("/")
    )
    clean: dict[str, Any] = {
        **exchange,
        "url": f"{url.scheme}://{url.netloc.decode()}{'/'.join(parts)}",
    }
    for name in ("request", "answer", "error"):
        if clean.get(name):
            clean[name] = MARK
    return clean


def scrub_error(error: str) -> str:
    """Return what kind of error it was, without the service's words."""
    return error.partition(":")[0]
