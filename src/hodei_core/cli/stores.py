"""The option that names a store, and the file that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from hodei_core.hodei import resolve_store
from hodei_core.ports import Store

VARIABLE = "HODEI_STORE"
"""The variable that names the store where `--store` does not."""

_SCHEME = "sqlite:///"
_LACKING = (
    f"this command needs a store: name its file by --store, as --store jobs.db, or set {VARIABLE}"
)

F = TypeVar("F", bound=Callable[..., Any])


@attrs.frozen
class StoreFile:
    """The file of a store, as the user named it."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def store(self) -> Store:
        """Return the store, which one `Hodei` may open."""
        return resolve_store(self.path)


def store_file(text: str) -> StoreFile:
    """Return the file that a text names: a path, alone or after `sqlite:///`."""
    scheme, separator, _ = text.partition("://")
    if separator and not text.startswith(_SCHEME):
        what = "lacks a slash" if scheme == "sqlite" else "is no store of several programs"
        raise click.BadParameter(f"{text!r} {what}; write a path, or sqlite:///PATH")
    path = text.removeprefix(_SCHEME)
    if not path:
        raise click.BadParameter(f"{text!r} names no file")
    return StoreFile(Path(path))


def _check_place(file: StoreFile, makes: bool) -> None:
    if not makes and not file.path.exists():
        raise click.BadParameter(
            f"'{file}' does not exist; `hodei host` and `hodei run` make a store"
        )
    if not makes and file.path.is_file() and not file.path.stat().st_size:
        raise click.BadParameter(
            f"'{file}' is empty, and no store yet; `hodei host` and `hodei run` make one of it"
        )
    if not file.path.absolute().parent.is_dir():
        raise click.BadParameter(f"the folder of '{file}' does not exist")


def store_option(*, makes: bool = False, needed: bool = True) -> Callable[[F], F]:
    """Give a command `--store`.

    Args:
        makes: whether a file that does not exist is made; else it is refused.
        needed: whether the command does nothing without one.
    """

    def check(
        context: click.Context, _: click.Parameter, file: StoreFile | None
    ) -> StoreFile | None:
        if context.resilient_parsing:
            return file
        if file is None:
            if needed:
                raise click.UsageError(_LACKING)
        else:
            try:
                _check_place(file, makes)
            except OSError as error:
                raise click.BadParameter(f"'{file}': {error.strerror}") from error
        return file

    made = "; made if there is none" if makes else ""
    return click.option(
        "--store",
        "file",
        type=store_file,
        metavar="FILE",
        envvar=VARIABLE,
        callback=check,
        help=f"The store: a path, or sqlite:///PATH{made}. Default: ${VARIABLE}.",
    )
