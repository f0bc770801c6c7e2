"""What services report to, and whether anybody is there."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter

from onward.config import Config
from onward.connections.state import read_all
from onward.database import Database
from onward.doctor.check import Check, ok, warning
from onward.webhooks.address import Address, read_all_addresses, registered_one


def check_webhooks(config: Config, database: Database) -> list[Check]:
    """Check the addresses that services know or may know; asks no service."""
    with database.read() as transaction:
        names = {state.id: state.name for state in read_all(transaction)}
        found = read_all_addresses(transaction)
    checks: list[Check] = []
    for of, addresses in groupby(found, attrgetter("connection_id")):
        if of in names:
            checks += _check(config, names[of], list(addresses))
    return checks


def _check(config: Config, connection: str, addresses: list[Address]) -> list[Check]:
    name = f"webhook {connection}"
    again = f"`onward connections webhook {connection}`"
    one = registered_one(addresses)
    found: list[Check] = []
    left = len(addresses) - (one is not None)
    if left:
        were = "address was" if left == 1 else "addresses were"
        message = f"{left} {were} left behind, which the service may know still"
        found.append(warning(name, message, f"{again}, or with --remove, cleans up"))
    if one is None:
        return found
    if not config.listen:
        message = (
            f"{one.shown} is registered and `listen` is not set: unless a worker was "
            "started with --listen, nobody answers there"
        )
        found.append(warning(name, message, "set `listen` in [onward]"))
    if config.public_url != one.place:
        said = config.public_url or "not set"
        message = f"{one.shown} is registered and public_url is {said}"
        advice = f'set public_url = "{one.place}" in [onward], or {again} moves it'
        found.append(warning(name, message, advice))
    found.append(ok(name, f"{one.shown}, {_heard(one)}"))
    return found


def _heard(one: Address) -> str:
    if one.heard_at is None:
        return f"no report came since {one.created_at:%Y-%m-%d %H:%M} UTC"
    return f"the last report came {one.heard_at:%Y-%m-%d %H:%M} UTC"
