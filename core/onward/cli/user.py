"""Who sits at the command line."""

from __future__ import annotations

import getpass


def user() -> str:
    """Return who it is, for the record."""
    try:
        return f"{getpass.getuser()} on the command line"
    except (OSError, KeyError, ImportError):
        # No such user, as in some containers.
        return "the command line"
