"""Everything that a measurement has to show, in every form: what the commands that measure hand to their outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from helix_cli.bench.plot import draw
from helix_cli.bench.reporting import to_csv, to_json
from helix_cli.bench.schema import Report
from helix_cli.bench.tables import Table, describe, tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Page:
    """Sentences, the first of which is the finding, and tables; files are made only when they are asked for."""

    title: str
    lines: tuple[str, ...]
    tables: tuple[Table, ...]
    json: Callable[[], str]
    csv: Callable[[], str]
    figure: Callable[[], Figure]


def report_page(report: Report) -> Page:
    """A benchmark's page."""
    return Page(
        title="Helix benchmark",
        lines=(report.verdict, *describe(report)),
        tables=tuple(tables(report)),
        json=lambda: to_json(report),
        csv=lambda: to_csv(report),
        figure=lambda: draw(report),
    )
