"""`helix cache`: what Helix keeps on disk between runs, and how to be rid of it."""

from __future__ import annotations

from typing import Annotated

import typer

from helix_cli.errors import InputError
from helix_cli.storage import KINDS, Storage
from helix_cli.ui.console import notice
from helix_cli.ui.kept import kept_json, kept_table


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete what is kept; it is made again when needed.")] = False,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="NAME", help=f"Only this kind: {', '.join(KINDS)}.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="List it as JSON, one object a line.")] = False,
) -> None:
    """List or clear what is kept on disk between runs.

    These are eight-bit weights of models and measurements of this machine, all of which can be made again. They lie in
    the user's cache directory, or in $HELIX_CACHE_DIR, and take at most 20 GiB, or $HELIX_CACHE_GIB.
    """
    if kind is not None and kind not in KINDS:
        raise InputError(f"There is no kind '{kind}'.", f"Use {' or '.join(KINDS)}.")
    if clear and as_json:
        raise InputError("--json cannot take effect together with --clear.", "Leave one of the two out.")
    storage = Storage()
    if clear:
        notice(f"Deleted {storage.clear(kind) / 2**20:.1f} MiB in {storage.root}.")
        return
    entries = [entry for entry in storage.entries() if kind in (None, entry.kind)]
    rows = [(entry.kind, entry.source, entry.num_bytes, entry.used) for entry in entries]
    if as_json:
        kept_json(rows)
    else:
        kept_table(rows, str(storage.root))
