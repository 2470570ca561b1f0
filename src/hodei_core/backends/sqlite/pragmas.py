"""How the file of a store is set up, and the connection that writes to it, before all else."""

from __future__ import annotations

WAL_BYTES = 16 * 1024 * 1024
"""What is left of a write-ahead log that had to grow."""

FIRST = (
    "auto_vacuum = incremental",  # costs nothing measurable; heeded in a new file only, so first
    f"journal_size_limit = {WAL_BYTES}",
    "secure_delete = fast",  # else some builds write zeros over all that is deleted
)
