"""How the file of a store is set up, and the connection that writes to it, before all else."""

from __future__ import annotations

WAL_BYTES = 16 * 1024 * 1024
"""What is left of a write-ahead log that had to grow."""

OF_A_NEW_FILE = "auto_vacuum = incremental"
"""Costs nothing measurable. Of a file that has tables it changes nothing, and writes."""

OF_THE_WRITER = (
    f"journal_size_limit = {WAL_BYTES}",
    "secure_delete = fast",  # else some builds write zeros over all that is deleted
)
