"""The trail of deliveries in the log: whoever looks for one id finds all of it.

A delivery's id is that of its push row. DEBUG has a line for each delivery and step,
INFO a line for each lot of outcomes with all its ids, WARNING one for what failed,
by code. No line holds an address: contacts are named by their ids.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from onward.delivery.claiming import Claimed
from onward.delivery.queue import Wish
from onward.delivery.retry import Decision
from onward.logs.addresses import without_addresses
from onward.logs.context import named
from onward.models import PushState

log = logging.getLogger("onward.trail")


def queued(rows: Mapping[Wish, int]) -> None:
    """Say what was queued, after the commit."""
    if not log.isEnabledFor(logging.DEBUG):
        return
    for wish, row in rows.items():
        log.debug(
            "delivery %d is queued: contact %d",
            row,
            wish.contact_id,
            extra={
                "delivery_id": row,
                "contact_id": wish.contact_id,
                "connection_id": wish.connection_id,
                "event_id": wish.event_id,
                "cause": f"{wish.kind} {wish.key}".strip(),
            },
        )


def claimed(rows: Sequence[Claimed]) -> None:
    """Say what a drain took up."""
    if log.isEnabledFor(logging.DEBUG):
        for row in rows:
            both = {"delivery_id": row.id, "contact_id": row.contact_id}
            log.debug("delivery %d is claimed", row.id, extra=both)


def leaves(attempt_id: int, rows: Sequence[int]) -> None:
    """Say that the first request of a batch is about to go."""
    log.debug("attempt %d: %d leave", attempt_id, len(rows), extra=named(list(rows)))


def put_back(rows: Iterable[int], code: str) -> None:
    """Say what waits again as it was."""
    ids = list(rows)
    if ids:
        more = {"code": code or None, **named(ids)}
        log.debug("%d returned to waiting", len(ids), extra=more)


def rests(until: datetime, code: str, why: str) -> None:
    """Say that a connection is left in peace, until when and why."""
    words = without_addresses(why)
    log.warning("rests until %s: %s", f"{until:%H:%M:%S}", words, extra={"code": code})


def settled(decisions: Mapping[int, Decision], contact_of: Mapping[int, int]) -> None:
    """Say what became of deliveries, after the commit."""
    if not decisions or not log.isEnabledFor(logging.WARNING):
        return
    all_of_them = log.isEnabledFor(logging.INFO)
    alike: dict[tuple[PushState, str], list[int]] = {}
    for row, decision in decisions.items():
        if all_of_them or decision.state is PushState.FAILED:
            alike.setdefault((decision.state, decision.code), []).append(row)
    if log.isEnabledFor(logging.DEBUG):
        _each(decisions, contact_of)
    if all_of_them:
        words = ", ".join(
            f"{len(rows)} {' '.join(dict.fromkeys(filter(None, end)))}"
            for end, rows in alike.items()
        )
        log.info("%s", words, extra=named(list(decisions)))
    for (state, code), rows in alike.items():
        if state is PushState.FAILED:
            log.warning(
                "%d failed: %s",
                len(rows),
                code,
                extra={
                    "state": state.value,
                    "code": code,
                    "reason": without_addresses(decisions[rows[0]].reason),
                    "contact_ids": [contact_of.get(row, 0) for row in rows],
                    **named(rows),
                },
            )


def _each(decisions: Mapping[int, Decision], contact_of: Mapping[int, int]) -> None:
    for row, decision in decisions.items():
        log.debug(
            "delivery %d is %s",
            row,
            decision.state.value,
            extra={
                "delivery_id": row,
                "contact_id": contact_of.get(row, 0),
                "state": decision.state.value,
                "code": decision.code,
                "reason": without_addresses(decision.reason),
            },
        )
