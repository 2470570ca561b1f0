"""The SQLite backend: a store in a file."""

from hodei_core.backends.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
