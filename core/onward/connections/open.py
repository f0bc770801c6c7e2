"""A connection ready to be used: integration, client, map."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
from pydantic import ValidationError
from sqlalchemy import Connection as Transaction

from onward import remote
from onward.address import check_address
from onward.api import Api, Wire
from onward.config.problems import did_you_mean
from onward.connections.state import State, hold_identity
from onward.contacts.declared import custom_fields
from onward.contacts.erased import erased_addresses
from onward.contacts.fields import DERIVED_FIELDS, STANDARD_FIELDS, ContactField
from onward.contract import Limit, RemoteContact
from onward.errors import ConfigError, CredentialsRefused, OnwardError, PluginError
from onward.fieldmap import BoundMap, FieldMap
from onward.integrations import ConnectionSettings, Integration
from onward.limiter import windows_for
from onward.memory import Memory
from onward.redact import Redactor
from onward.runtime import Runtime
from onward.transport import make_transport
from onward.vault import KeyLost

TIMEOUT = httpx.Timeout(30.0, connect=10.0)


class RemoteIndex:
    """The remote index of one connection, as integrations see it.

    Args:
        is_current: see `Memory`.
    """

    def __init__(
        self,
        runtime: Runtime,
        connection_id: int,
        is_current: Callable[[Transaction], bool],
    ) -> None:
        self._runtime = runtime
        self._of = connection_id
        self._is_current = is_current

    def learn(self, records: Iterable[RemoteContact]) -> None:
        """Add what the service showed, but of nobody who was erased."""
        shown, now = list(records), self._runtime.clock()

        def work(transaction: Transaction) -> None:
            if self._is_current(transaction):
                who = {record.email.lower() for record in shown}
                gone = erased_addresses(transaction, who)
                kept = (one for one in shown if one.email.lower() not in gone)
                remote.learn(transaction, self._of, kept, now)

        self._runtime.database.run(work)

    def known_ids(self, ids: Sequence[str]) -> dict[str, RemoteContact]:
        """Return remote id → contact."""
        with self._runtime.database.read() as transaction:
            found = remote.by_ids(transaction, self._of, ids)
        return {key: snapshot.shown() for key, snapshot in found.items()}

    def known_emails(self, emails: Sequence[str]) -> dict[str, RemoteContact]:
        """Return lower-cased address → contact."""
        with self._runtime.database.read() as transaction:
            found = remote.by_emails(transaction, self._of, emails)
        return {key: snapshot.shown() for key, snapshot in found.items()}


@dataclass(slots=True)
class Opened:
    """A connection ready to be used, for one version of its row.

    Args:
        unfit: why settings older than its row may not be used; "" = they lead to the
            same account, None = nobody asked yet.
    """

    state: State
    integration: Integration
    memory: Memory
    index: RemoteIndex
    client: httpx.Client
    redactor: Redactor
    limits: tuple[Limit, ...]
    unfit: str | None = None

    @property
    def in_flight(self) -> int:
        """How many requests may be on their way at the same time."""
        return max(1, self.integration.in_flight)

    def wire(
        self,
        runtime: Runtime,
        *,
        live: bool,
        renew: Callable[[], None] = lambda: None,
        left: Callable[[], timedelta | None] = lambda: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Wire:
        """Return what requests share.

        Args:
            live: which of the limiter's shares they take from.
            renew, left: of the lease, when there is one.
            stopping: tells that no call may be waited for any more.
        """
        return Wire(
            client=self.client,
            authenticator=self.integration,
            limiter=runtime.limiter,
            windows=windows_for(self.state.counted_as, self.limits, live=live),
            in_flight=self.in_flight,
            redactor=self.redactor,
            clock=runtime.clock,
            sleep=runtime.sleep,
            renew=renew,
            left=left,
            stopping=stopping,
            instrument=runtime.instrument,
            connection=self.state.name,
            integration=self.state.integration,
        )

    def api(self, runtime: Runtime, *, renew: Callable[[], None] = lambda: None) -> Api:
        """Return a client for one errand outside a batch."""
        wire = self.wire(runtime, live=True, renew=renew)
        return Api(wire, self.memory, self.index)


def local_problem(runtime: Runtime, state: State) -> tuple[str, str] | None:
    """Return (code, sentence) of what this process lacks to use a connection.

    Another process may have it, and this one after its next start: a connection
    paused for such a reason goes on by itself.
    """
    if state.integration not in runtime.plugins.integrations:
        try:
            runtime.plugins.integration(state.integration)
        except PluginError as error:
            return "no_plugin", f"{state.name}: {error.message}"
    declared = runtime.config.connections.get(state.name)
    if state.declared and declared is not None and declared.missing_variables:
        return "missing_variable", _missing(state.name, declared.missing_variables)
    return None


def is_outdated(runtime: Runtime, state: State) -> bool:
    """Tell whether another process has taken over another `onward.toml` since."""
    declared = runtime.config.connections.get(state.name)
    return declared is not None and declared.fingerprint != state.declared


# What `local_problem` says; see there.
LOCAL_PROBLEMS = frozenset({"no_plugin", "missing_variable"})


def _missing(name: str, variables: Sequence[str]) -> str:
    are = "variable {} is" if len(variables) == 1 else "variables {} are"
    return (
        f"{name}: the environment {are.format(', '.join(variables))} not set; set it "
        "where Onward runs, or write the value another way"
    )


def stored_secrets(
    runtime: Runtime, state: State
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the stored secrets by name, and why others cannot be read."""
    opened: dict[str, str] = {}
    lost: dict[str, str] = {}
    vault = runtime.vault() if state.secrets else None
    for name, token in state.secrets.items():
        if vault is None:
            break
        try:
            opened[name] = vault.decrypt(token, f"connection:{state.id}:{name}")
        except KeyLost as error:
            lost[name] = error.message
    return opened, lost


def read_settings(runtime: Runtime, state: State) -> dict[str, Any]:
    """Return the raw settings of a connection, secrets included.

    Raises:
        ConfigError: a variable is missing.
        KeyLost: a secret cannot be decrypted.
    """
    if not state.declared:
        opened, lost = stored_secrets(runtime, state)
        if lost:
            raise KeyLost(
                f"{state.name}: {next(iter(lost.values()))} with `onward connections "
                f"set {state.name}`, which asks for it (without a terminal add "
                f"{' '.join(f'--set {one}=…' for one in lost)})"
            )
        return {**state.settings, **opened}
    declared = runtime.config.connections.get(state.name)
    if declared is None:
        raise ConfigError(
            f"{state.name}: it is declared in another onward.toml than this one"
        )
    if declared.missing_variables:
        raise ConfigError(_missing(state.name, declared.missing_variables))
    return dict(declared.settings)


def make_integration(
    runtime: Runtime, key: str, raw: dict[str, Any], *, name: str
) -> Integration:
    """Build an integration from raw settings.

    Raises:
        CredentialsRefused: a setting is missing, unknown or not acceptable;
            `field` names it.
        PluginError: there is no such integration.
    """
    kind = runtime.plugins.integration(key)
    settings = parse_settings(kind, raw, name=name)
    try:
        return kind(settings)
    except OnwardError:
        raise
    except Exception as error:  # the integration is foreign code
        raise PluginError(f"{key}: it cannot be made: {type(error).__name__}") from None


def parse_settings(
    kind: type[Integration], raw: dict[str, Any], *, name: str
) -> ConnectionSettings:
    """Check raw settings against an integration's `Settings`.

    Raises:
        CredentialsRefused: see `make_integration`.
    """
    try:
        return kind.Settings.model_validate(raw)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        # A setting that seems to be missing was probably mistyped: that comes first.
        first = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
        field = str(first["loc"][0]) if first["loc"] else ""
        known = kind.Settings.described()
        title = known[field].title if field in known else field
        what = {
            "missing": f"{title} is missing",
            "extra_forbidden": (
                f'there is no setting "{field}"{did_you_mean(field, known)}; known: '
                f"{', '.join(known)}"
            ),
        }.get(first["type"], f"{title}: {first['msg'].removeprefix('Value error, ')}")
        raise CredentialsRefused(f"{name}: {what}", field=field) from None


def secrets_of(settings: ConnectionSettings) -> list[str]:
    """Return the secret texts of some settings, for redaction only."""
    found = [getattr(settings, name) for name in settings.secret_names()]
    return [secret.get_secret_value() for secret in found if secret is not None]


def limits_of(
    runtime: Runtime, state: State, integration: Integration
) -> tuple[Limit, ...]:
    """Return the limits of a connection: its own, else the integration's."""
    declared = runtime.config.connections.get(state.name)
    own = declared.limits if declared is not None else ()
    return own or tuple(integration.limits)


def open_with(runtime: Runtime, state: State, integration: Integration) -> Opened:
    """Put a client and an index around an integration.

    Raises:
        CredentialsRefused: its address is neither https nor this machine.
    """
    try:
        base = httpx.URL(integration.base_url())
        check_address(base, integration.allowed_hosts())
    except PluginError as error:
        raise CredentialsRefused(f"{state.name}: {error.message}") from None
    except Exception as error:  # the integration is foreign code
        raise PluginError(
            f"{state.integration}: its address cannot be told: {error!r}"
        ) from error
    client = httpx.Client(
        timeout=TIMEOUT,
        transport=runtime.transport
        or make_transport(base, max(1, integration.in_flight) + 2),
        headers={"User-Agent": "onward"},
    )
    settings: ConnectionSettings = integration.settings

    def is_current(transaction: Transaction) -> bool:
        """Tell whether the connection still leads to the account it was opened for."""
        identity = opened.state.identity  # of a new one known only later
        return not identity or hold_identity(transaction, state.id) == identity

    opened = Opened(
        state,
        integration,
        Memory(runtime.database, state.id, runtime.clock, is_current),
        RemoteIndex(runtime, state.id, is_current),
        client,
        Redactor(secrets_of(settings)),
        limits_of(runtime, state, integration),
    )
    return opened


def open_connection(runtime: Runtime, state: State) -> Opened:
    """Return a connection ready to be used; kept until its version changes.

    Raises:
        ConfigError, CredentialsRefused, PluginError: it cannot be used as it is.
    """
    with runtime.lock:
        kept = runtime.opened.get(state.id)
        if isinstance(kept, Opened) and kept.state.version == state.version:
            kept.state = state
            # Another process may have learned better meanwhile.
            kept.memory.read_anew()
            return kept
        raw = read_settings(runtime, state)
        made = make_integration(runtime, state.integration, raw, name=state.name)
        opened = open_with(runtime, state, made)
        if isinstance(kept, Opened):
            kept.client.close()
        runtime.opened[state.id] = opened
        return opened


def known_contact_fields(
    runtime: Runtime, stored: Mapping[str, ContactField] | None = None
) -> dict[str, ContactField]:
    """Return every field a map may name.

    Args:
        stored: see `custom_fields`.
    """
    return {**STANDARD_FIELDS, **DERIVED_FIELDS, **custom_fields(runtime, stored)}


def read_map(runtime: Runtime, state: State) -> FieldMap:
    """Return the field map of a connection: its own, a file, the integration's.

    Raises:
        ConfigError: the named file is not there.
        FieldMapError: it cannot be used.
    """
    if state.field_map:
        return FieldMap.parse(state.field_map, source=state.name)
    name = state.field_map_name or state.integration
    try:
        file = runtime.field_map_file(name)
    except ConfigError:
        own = runtime.plugins.integration(state.integration).default_map
        if not own or name != state.integration:
            raise
        return FieldMap.parse({"fields": own}, source=f"{name}'s default map")
    return FieldMap.load(file)


def bind_map(
    runtime: Runtime,
    state: State,
    stored: Mapping[str, ContactField] | None = None,
) -> tuple[FieldMap, BoundMap]:
    """Return the map of a connection, checked against the account's real fields.

    Args:
        stored: see `custom_fields`.

    Raises:
        FieldMapError: it names what the account does not have.
    """
    read = read_map(runtime, state)
    fields = known_contact_fields(runtime, stored)
    return read, read.bind(state.remote_fields, fields)
