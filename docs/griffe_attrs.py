"""Shows defaults in the reference as a reader would write them, not as the source does.

Loaded by mkdocstrings (`extensions` in mkdocs.yml).
"""

from __future__ import annotations

from typing import Any

import griffe

_EMPTY = "EMPTY"  # the package's own empty mapping


class AttrsFields(griffe.Extension):
    """Replaces `attrs.field(default=X, ...)` by `X`, and names of private constants by theirs.

    The same constants as defaults of parameters.
    """

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Rewrite the value of an attribute that is made by `attrs.field`."""
        value = attr.value
        if isinstance(value, griffe.ExprCall) and str(value.function) == "attrs.field":
            attr.value = self._default(attr, value)

    def on_function_instance(self, *, func: griffe.Function, **_: Any) -> None:
        """Rewrite the defaults of parameters."""
        for parameter in func.parameters:
            if parameter.default is not None:
                parameter.default = _written_out(func, parameter.default)

    def _default(self, attr: griffe.Attribute, call: griffe.ExprCall) -> str | griffe.Expr | None:
        given = {a.name: a.value for a in call.arguments if isinstance(a, griffe.ExprKeyword)}
        if "factory" in given:
            return f"{given['factory']}()"
        return _written_out(attr, given.get("default"))


def _written_out(
    where: griffe.Object, default: str | griffe.Expr | None
) -> str | griffe.Expr | None:
    name = str(default)
    if name == _EMPTY:
        return "{}"
    constant = where.module.members.get(name) if name.startswith("_") else None
    return constant.value if isinstance(constant, griffe.Attribute) else default
