"""The tables. Import rows and tables from here."""

from onward.models.columns import UTCDateTime, table
from onward.models.connections import (
    Connection,
    Limiter,
    Memory,
    RemoteContactRow,
    RemoteSegmentRow,
)
from onward.models.contacts import (
    Consent,
    Contact,
    ContactSegment,
    ContactTag,
    CustomField,
    Identity,
    ImportReport,
    Segment,
    Suppression,
)
from onward.models.delivery import (
    OPEN_STATES,
    Alert,
    AlertMessage,
    Attempt,
    Cause,
    Lease,
    OutcomeRow,
    Push,
    PushState,
)
from onward.models.events import Claim, Event, Job, Ledger, SchemaStep, Setting
from onward.models.sync import Audience, Errand, Hint, SyncPage, SyncPlan, SyncRun

__all__ = [
    "OPEN_STATES",
    "Alert",
    "AlertMessage",
    "Attempt",
    "Audience",
    "Cause",
    "Claim",
    "Connection",
    "Consent",
    "Contact",
    "ContactSegment",
    "ContactTag",
    "CustomField",
    "Errand",
    "Event",
    "Hint",
    "Identity",
    "ImportReport",
    "Job",
    "Lease",
    "Ledger",
    "Limiter",
    "Memory",
    "OutcomeRow",
    "Push",
    "PushState",
    "RemoteContactRow",
    "RemoteSegmentRow",
    "SchemaStep",
    "Segment",
    "Setting",
    "Suppression",
    "SyncPage",
    "SyncPlan",
    "SyncRun",
    "UTCDateTime",
    "table",
]
