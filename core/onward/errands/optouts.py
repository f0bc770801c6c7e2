"""A do-not-contact of ours, pushed out: `push_opt_outs = true` on a connection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select

from onward.among import ForEach
from onward.config.model import PullConfig
from onward.errands.queue import UNSUBSCRIBE, Order, queue_errands
from onward.integrations import can
from onward.models import Connection, RemoteContactRow, table
from onward.plugins import Plugins
from onward.remote import ALIVE, RETURNED
from onward.sql import unindexed

connections = table(Connection)
remote_contacts = table(RemoteContactRow)

_CONNECTIONS = select(
    connections.c.id, connections.c.integration, connections.c.options
).where(connections.c.enabled)
# Who opted out, bounced or was deleted there gets nothing already.
_LIVE = (
    remote_contacts.c.connection_id == bindparam("of"),
    unindexed(remote_contacts.c.status).in_([*sorted(ALIVE), RETURNED]),
)
_FOUND = (remote_contacts.c.contact_id, remote_contacts.c.remote_id)
_OURS = ForEach(
    lambda among: select(*_FOUND).where(
        *_LIVE, among(remote_contacts.c.contact_id, "ids")
    )
)
_OF_NOBODY = ForEach(
    lambda among: select(*_FOUND).where(
        *_LIVE,
        among(remote_contacts.c.email, "emails"),
        unindexed(remote_contacts.c.contact_id) == 0,
    )
)


def push_out(
    transaction: Transaction,
    plugins: Plugins,
    people: Mapping[int, Sequence[str]],
    asked_by: str,
    now: datetime,
    *,
    learned_from: int = 0,
) -> int:
    """Queue unsubscribing people wherever that is wished and they get something.

    Args:
        people: contact → addresses, as for `find_suppressions`; 0 for addresses of
            nobody.
        learned_from: connection that said so itself.

    Returns:
        How many errands that makes.
    """
    orders = [
        order
        for of in _wishing(transaction, plugins)
        if of != learned_from
        for order in _orders(transaction, of, people)
    ]
    return len(queue_errands(transaction, orders, asked_by, now))


def _wishing(transaction: Transaction, plugins: Plugins) -> list[int]:
    """Return the connections that have the setting and can unsubscribe.

    What this process does not know, the one that runs the errand may.
    """
    found: list[int] = []
    for row in transaction.execute(_CONNECTIONS).all():
        known = plugins.integrations.get(row.integration)
        able = known is None or can(known, "unsubscribe")
        if able and PullConfig.of(row.options.get("pull", {})).opt_outs:
            found.append(row.id)
    return found


def _orders(
    transaction: Transaction, of: int, people: Mapping[int, Sequence[str]]
) -> Iterator[Order]:
    ids = [contact for contact in people if contact]
    emails = [email for addresses in people.values() for email in addresses if email]
    for found, named in (
        (_OURS, {"ids": ids}),
        (_OF_NOBODY, {"emails": emails}),
    ):
        for row in transaction.execute(found(transaction), {"of": of, **named}):
            yield Order(of, row.contact_id, row.remote_id, UNSUBSCRIBE)
