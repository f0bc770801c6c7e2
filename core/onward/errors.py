"""Every error Onward raises, named after what must happen next.

OnwardError
├── InputError             what somebody typed or sent cannot be used
├── ConfigError            a person must change a setting
│   ├── CredentialsRefused   the service refuses them (message, hint, field)
│   └── FieldMapError        the map names something that is not there
├── ServiceError           a service answered, or did not
│   ├── Temporary            try again; `after` says when
│   │   └── Lost             the request left, no answer came: outcome unknown
│   ├── Rejected             these contacts, as sent, will not be accepted
│   ├── SegmentGone          the remote segment was deleted
│   └── AccountBlocked       unpaid, full or disabled account
├── PluginError            a plugin broke its contract or failed to load
├── Repeat                 others changed the same rows at the same moment
├── Fenced                 another worker holds the lease now
├── Withdrawn              somebody opted out while their batch waited
└── Stopping               this process is to stop; what it did not begin waits
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta


class OnwardError(Exception):
    """Something Onward can name went wrong."""

    def __init__(self, message: str = "") -> None:
        # A class explains itself once, in its docstring.
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])

    @property
    def message(self) -> str:
        """The sentence for people."""
        return str(self.args[0])


class InputError(OnwardError):
    """What was given cannot be used."""


class ConfigError(OnwardError):
    """A setting must be changed by a person."""


class CredentialsRefused(ConfigError):
    """The service refuses these settings.

    Args:
        message: one sentence for the person who entered them.
        hint: the usual cause and what to do about it.
        field: the setting that caused it, "" when unknown.
        choices: what the account offers for empty settings: setting name →
            ((value, title), …).
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        field: str = "",
        choices: Mapping[str, Sequence[tuple[str, str]]] | None = None,
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.field = field
        self.choices: Mapping[str, Sequence[tuple[str, str]]] = dict(choices or {})
        self.status: int | None = None


class FieldMapError(ConfigError):
    """The field map names something that is not there."""


class ServiceError(OnwardError):
    """A service did not do what it was asked.

    Args:
        message: one sentence for people, with the service's own text.
        status: HTTP status; None when there was no answer.
        code: stable word for filters and metrics.
    """

    default_code = "service_error"

    def __init__(
        self, message: str, *, status: int | None = None, code: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or (f"http_{status}" if status else self.default_code)


class Temporary(ServiceError):
    """The service cannot answer now; the same call may succeed later.

    Args:
        after: how long the service asked us to wait; None when it did not say.
        throttled: the service said "too fast"; the whole connection rests.
    """

    default_code = "unreachable"

    def __init__(
        self,
        message: str,
        after: timedelta | None = None,
        *,
        status: int | None = None,
        code: str = "",
        throttled: bool = False,
    ) -> None:
        super().__init__(message, status=status, code=code)
        self.after = after
        self.throttled = throttled


class Lost(Temporary):
    """A request left and no answer came back: nobody knows what it did."""

    default_code = "no_answer"


class Rejected(ServiceError):
    """The service will not accept this as it was sent."""

    default_code = "rejected"


class SegmentGone(ServiceError):
    """The remote segment no longer exists."""

    default_code = "segment_gone"


class AccountBlocked(ServiceError):
    """The service refuses to work for this account (unpaid, full, disabled)."""

    default_code = "account_blocked"


class PluginError(OnwardError):
    """A plugin broke its contract, or could not be loaded."""


class Repeat(OnwardError):
    """Others keep changing the same rows at the same moment; try again later."""


class Fenced(OnwardError):
    """Another worker took over this connection; what is left is its work now."""


class Withdrawn(OnwardError):
    """Somebody in the batch opted out while it waited for its calls."""


class Stopping(OnwardError):
    """This process stops; what it has not begun waits for the next one."""
