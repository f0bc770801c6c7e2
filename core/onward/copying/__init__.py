"""From one database to another: SQLite to PostgreSQL, and back."""

from onward.copying.copy import Copied, copy_database

__all__ = ["Copied", "copy_database"]
