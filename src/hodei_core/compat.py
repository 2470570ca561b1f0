"""Names that newer Pythons have in `typing`, from there if they do: it is loaded already."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 12):
    from typing import Self, Unpack, assert_never, override
else:
    from typing_extensions import Self, Unpack, assert_never, override

__all__ = ["Self", "Unpack", "assert_never", "override"]
