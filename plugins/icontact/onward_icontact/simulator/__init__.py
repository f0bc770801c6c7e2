"""A stateful simulator of iContact's API, for tests and demonstrations."""

from __future__ import annotations

from .accounts import Account, Login
from .connect import connect
from .exchange import Exchange
from .faults import FOREVER, KINDS
from .folder import Folder
from .records import Contact, CustomField, MailingList, Subscription
from .simulator import Simulator
from .switches import SWITCHES, Switch

__all__ = [
    "FOREVER",
    "KINDS",
    "SWITCHES",
    "Account",
    "Contact",
    "CustomField",
    "Exchange",
    "Folder",
    "Login",
    "MailingList",
    "Simulator",
    "Subscription",
    "Switch",
    "connect",
]
