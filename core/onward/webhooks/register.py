"""Let a service report changes to a secret address, and no longer to an older one.

An address is stored before the service hears of it, and forgotten after the service
forgot it. So whatever is killed when, the next run finds every address the service may
know. (Two runs at once, of which the slower is killed at its last step, may leave one
with the service; it answers nobody.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from urllib.parse import urlsplit

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, delete, insert, update

from onward.address import is_loopback
from onward.api import Api
from onward.config.values import as_public_url
from onward.connections.open import Opened, open_connection, secrets_of
from onward.connections.state import State
from onward.connections.verify import foreign, verify_connection
from onward.errors import InputError
from onward.failpoints import failpoint
from onward.integrations import can
from onward.models import Webhook, table
from onward.redact import Redactor
from onward.runtime import Runtime
from onward.vault import KeyLost
from onward.webhooks.address import (
    LEAVING,
    REGISTERED,
    REGISTERING,
    Address,
    make_address,
    open_secret,
    open_url,
    read_addresses,
    registered_one,
)

rows = table(Webhook)

_ADD = insert(rows)
_SUPERSEDE = (
    update(rows)
    .where(
        rows.c.connection_id == bindparam("of"), rows.c.digest != bindparam("but_this")
    )
    .values(state=LEAVING)
)
_PROMOTE = (
    update(rows)
    .where(rows.c.digest == bindparam("this"), rows.c.state == REGISTERING)
    .values(state=REGISTERED)
)
_FORGET = delete(rows).where(rows.c.digest == bindparam("this"))


@dataclass(frozen=True, slots=True)
class Registered:
    """What a service reports to now.

    Args:
        address: None = to nothing.
        removed: how many older addresses it forgot.
        lost: places of older ones that nobody here can name to it any more.
    """

    address: Address | None
    removed: int = 0
    lost: tuple[str, ...] = ()


def check_place(text: str) -> str:
    """Return where the listener is reached from outside, without a slash at its end.

    Raises:
        InputError: it cannot be used: what goes over plain http others read.
    """
    try:
        place = as_public_url(text)
    except ValueError as error:
        raise InputError(f"{text}: the address {error}") from None
    url = urlsplit(place)
    if url.scheme != "https" and not is_loopback(url.hostname or ""):
        raise InputError(
            f"{place}: the address must begin with https:// (http:// on this machine "
            "only), because whoever sees it can write to it"
        )
    return place


def register(runtime: Runtime, state: State, place: str) -> Registered:
    """Let the service of a connection report to a new address, and to no other.

    If the service refuses, the older one stays as it was.

    Args:
        place: as `check_place` returns it.

    Raises:
        InputError: the integration takes no reports, the connection is switched off
            or leads to another account, or somebody else registered one meanwhile.
        ConfigError: secrets cannot be stored here, or the settings do not work.
        ServiceError: the service could not be asked.
        PluginError: the integration failed.
    """
    state = _usable(runtime, state)
    opened = open_connection(runtime, state)
    # What an earlier run left comes first: however often this fails, one is left.
    left = _cleared(runtime, opened, lambda one: one.state != REGISTERED)
    address, secret = make_address(runtime, state.id, place)
    runtime.database.run(lambda transaction: _insert(transaction, address))
    failpoint("before_watch")
    _call(runtime, opened, "watch", open_url(runtime, address), secret)
    failpoint("after_watch")
    if not runtime.database.run(lambda transaction: _promote(transaction, address)):
        _call(runtime, opened, "unwatch", open_url(runtime, address), secret)
        raise InputError(
            f"{state.name}: somebody else registered or removed an address meanwhile, "
            "and that stands; `onward connections list --json` says what there is"
        )
    failpoint("before_unwatch")
    old = _cleared(runtime, opened, lambda one: one.state != REGISTERED)
    return Registered(
        replace(address, state=REGISTERED),
        left.removed + old.removed,
        (*left.lost, *old.lost),
    )


def unregister(runtime: Runtime, state: State) -> Registered:
    """Let the service of a connection report to nothing any more.

    The address answers nobody from this moment, also when the service cannot be told.

    Raises:
        InputError, ConfigError, ServiceError, PluginError: see `register`.
    """
    given = {"of": state.id, "but_this": ""}
    runtime.database.run(lambda transaction: transaction.execute(_SUPERSEDE, given))
    failpoint("before_unwatch")
    opened = open_connection(runtime, state)
    _refuse_without(opened)
    return _cleared(runtime, opened, lambda one: True)


def _usable(runtime: Runtime, state: State) -> State:
    if not state.enabled:
        raise InputError(f"{state.name} is switched off: nobody would read the reports")
    if state.paused_code == "identity_changed":
        raise InputError(
            f"{state.name}: {state.paused_why.removeprefix(f'{state.name}: ')}"
        )
    _refuse_without(open_connection(runtime, state))
    if state.verified_at is None:
        # Never to an account nobody confirmed.
        return verify_connection(runtime, state)
    return state


def _refuse_without(opened: Opened) -> None:
    integration = opened.integration
    if not (
        can(integration, "watch")
        and can(integration, "unwatch")
        and can(integration, "receive")
    ):
        raise InputError(
            f"{opened.state.name}: {integration.title or integration.key} reports no "
            "changes to Onward; the pull finds them"
        )


def _insert(transaction: Transaction, address: Address) -> None:
    transaction.execute(_ADD, asdict(address))


def _promote(transaction: Transaction, address: Address) -> bool:
    """Make an address the one; tell whether it is there still."""
    if not transaction.execute(_PROMOTE, {"this": address.digest}).rowcount:
        return False
    given = {"of": address.connection_id, "but_this": address.digest}
    transaction.execute(_SUPERSEDE, given)
    return True


def _cleared(
    runtime: Runtime, opened: Opened, wanted: Callable[[Address], bool]
) -> Registered:
    """Let the service forget addresses, then forget them; return what is left."""
    removed, lost = 0, list[str]()
    for one in _addresses(runtime, opened.state):
        if not wanted(one):
            continue
        try:
            url, secret = open_url(runtime, one), open_secret(runtime, one)
        except KeyLost:
            lost.append(one.place)
        else:
            _call(runtime, opened, "unwatch", url, secret)
            removed += 1
        _forget(runtime, one)
    left = registered_one(_addresses(runtime, opened.state))
    return Registered(left, removed, tuple(lost))


def _forget(runtime: Runtime, address: Address) -> None:
    given = {"this": address.digest}
    runtime.database.run(lambda transaction: transaction.execute(_FORGET, given))


def _addresses(runtime: Runtime, state: State) -> Sequence[Address]:
    with runtime.database.read() as transaction:
        return read_addresses(transaction, state.id)


def _call(runtime: Runtime, opened: Opened, method: str, url: str, secret: str) -> None:
    """Tell the service; neither log nor error names the secret."""
    secrets = [*secrets_of(opened.integration.settings), secret]
    private = replace(opened, redactor=Redactor(secrets))
    api: Api = private.api(runtime)
    foreign(private, lambda: getattr(private.integration, method)(api, url))
