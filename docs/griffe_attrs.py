"""Shows a field of an attrs class in the reference with its default, not with its machinery.

Loaded by mkdocstrings (`extensions` in mkdocs.yml).
"""

from __future__ import annotations

from typing import Any

import griffe

_EMPTY = "EMPTY"  # the package's own empty mapping


class AttrsFields(griffe.Extension):
    """Replaces `attrs.field(default=X, ...)` by `X`, and names of private constants by theirs."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Rewrite the value of an attribute that is made by `attrs.field`."""
        value = attr.value
        if isinstance(value, griffe.ExprCall) and str(value.function) == "attrs.field":
            attr.value = self._default(attr, value)

    def _default(self, attr: griffe.Attribute, call: griffe.ExprCall) -> str | griffe.Expr | None:
        given = {a.name: a.value for a in call.arguments if isinstance(a, griffe.ExprKeyword)}
        if "factory" in given:
            return f"{given['factory']}()"
        default = given.get("default")
        name = str(default)
        if name == _EMPTY:
            return "{}"
        constant = attr.module.members.get(name) if name.startswith("_") else None
        return constant.value if isinstance(constant, griffe.Attribute) else default
