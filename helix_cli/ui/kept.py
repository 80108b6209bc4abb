"""What is kept on disk, as a table for people or as JSON for programs; both are the result, so on stdout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from helix_cli.ui.console import Screen, visible

Row = tuple[str, str, int, float]
"""(kind, what it was made from, bytes, last use in Unix seconds)."""


def kept_table(rows: Sequence[Row], place: str) -> None:
    """One line for each thing that is kept, and the sum."""
    screen = Screen.detect()
    if not rows:
        screen.write(f"Nothing is kept in {place}.\n")
        return
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for column in ("kind", "MiB", "last used", "made from"):
        table.add_column(justify="right" if column == "MiB" else "left", overflow="fold")
    for kind, source, num_bytes, used in rows:
        table.add_row(
            kind, f"{num_bytes / 2**20:.1f}", f"{datetime.fromtimestamp(used):%Y-%m-%d %H:%M}", visible(source)
        )
    screen.rich_out().print(table)
    total = sum(num_bytes for _, _, num_bytes, _ in rows)
    screen.write(f"{total / 2**20:.1f} MiB in {place}\n")


def kept_json(rows: Sequence[Row]) -> None:
    """One object a line: kind, source, num_bytes, used (Unix seconds)."""
    screen = Screen.detect()
    for row in rows:
        screen.write(json.dumps(dict(zip(("kind", "source", "num_bytes", "used"), row, strict=True))) + "\n")
