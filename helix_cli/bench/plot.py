"""Charts as files, by matplotlib, which is the extra `plot`."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from helix_cli.bench.schema import Report, Row
from helix_cli.bench.tables import Table
from helix_cli.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS: Final = (".png", ".svg", ".html")
COLOURS: Final = ("#4c72b0", "#dd8452", "#55a868", "#8172b3", "#937860", "#da8bc3", "#8c8c8c", "#ccb974")
MARKERS: Final = "os^vDPX*"
PAGE: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font-family:sans-serif;margin:2em auto;max-width:70em}}table{{border-collapse:collapse;margin:1em 0}}
td,th{{border:1px solid #ccc;padding:.2em .6em;text-align:left}}svg{{max-width:100%;height:auto}}</style></head>
<body><h1>{title}</h1>{lines}{chart}{tables}</body></html>
"""


def check_plot(file: Path) -> None:
    """Raises InputError, before anything runs, for a format that is not known and where matplotlib is missing."""
    if file.suffix not in FORMATS:
        raise InputError(f"{file} does not end in {', '.join(FORMATS)}.", "The ending of --plot chooses the format.")
    if find_spec("matplotlib") is None:
        raise InputError("--plot needs matplotlib.", "Install it with: pip install 'helix-cli[plot]'")


def draw(report: Report) -> Figure:
    """Speed by workload, gain over plain with its interval, acceptance by position, and where the time went."""
    from matplotlib.figure import Figure

    rows = report.rows
    names = list(dict.fromkeys(row.workload for row in rows))
    figure = Figure(figsize=(13, max(6.0, 0.22 * len(rows) + 0.25 * len(names) + 4.0)), layout="constrained")
    if not rows:
        figure.text(0.5, 0.5, "nothing was measured", ha="center")
        return figure
    speeds, gains, positions, split = figure.subplots(2, 2).flat
    bars(speeds, [row for row in rows if row.kind != "prompt"], "tokens a second", _speed)
    _gains(gains, [row for row in rows if row.figures.speed_up is not None])
    _positions(positions, [row for row in rows if row.figures.acceptance_per_position])
    _split(split, [row for row in rows if row.figures.split is not None and row.setup.drafter != "none"])
    figure.suptitle(report.verdict, fontsize=10, wrap=True)
    return figure


def image(figure: Figure, file: Path, title: str, lines: Sequence[str], made: Sequence[Table]) -> bytes:
    """The content of `file`, whose ending chooses: an image, or a page that needs no other file."""
    buffer = io.BytesIO()
    kind = "png" if file.suffix == ".png" else "svg"
    figure.savefig(buffer, format=kind, dpi=150)
    if file.suffix != ".html":
        return buffer.getvalue()
    chart = buffer.getvalue().decode()
    page = PAGE.format(
        title=html.escape(title),
        lines="".join(f"<p>{html.escape(line)}</p>" for line in lines),
        chart=chart[chart.index("<svg") :],
        tables="".join(map(_html_table, made)),
    )
    return page.encode()


def bars(axes: Axes, rows: Sequence[Row], label: str, value: Any) -> None:
    """A horizontal bar for each row, grouped by workload, a colour for each arm."""
    names = list(dict.fromkeys(row.workload for row in rows))
    arms = list(dict.fromkeys(row.arm for row in rows))
    height = 0.8 / max(1, len(arms))
    for place, arm in enumerate(arms):
        mine = [row for row in rows if row.arm == arm]
        at = [names.index(row.workload) + (place - (len(arms) - 1) / 2) * height for row in mine]
        values = [value(row) for row in mine]
        axes.barh(at, values, height, label=arm, color=COLOURS[place % len(COLOURS)])
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    if arms:
        axes.legend(fontsize="small")


def ratio_axis(axes: Axes) -> None:
    """A logarithmic x axis for ratios around 1, with ticks that people can read."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    low, high = axes.get_xlim()
    axes.set_xscale("log")
    is_wide = low <= 0 or high / low > 5
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)) if is_wide else MaxNLocator(6))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _speed(row: Row) -> float:
    return row.figures.speed


def _gains(axes: Axes, rows: Sequence[Row]) -> None:
    arms = list(dict.fromkeys(row.arm for row in rows))
    for place, row in enumerate(rows):
        gain = row.figures.speed_up
        assert gain is not None
        low, high = gain.low or gain.ratio, gain.high or gain.ratio
        colour = COLOURS[1 + arms.index(row.arm)]
        axes.errorbar(gain.ratio, place, xerr=[[gain.ratio - low], [high - gain.ratio]], fmt="o", color=colour)
    axes.axvline(1.0, color="black", linewidth=0.8)
    ratio_axis(axes)
    axes.set_yticks(range(len(rows)), [f"{row.workload}, {row.arm}" for row in rows], fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel("speed against plain, with its 95 % interval")


def _positions(axes: Axes, rows: Sequence[Row]) -> None:
    for place, row in enumerate(rows):
        rates = row.figures.acceptance_per_position
        marker, colour = MARKERS[place % len(MARKERS)], COLOURS[place % len(COLOURS)]
        label = f"{row.workload}, {row.arm}" if len({one.arm for one in rows}) > 1 else row.workload
        axes.plot(range(1, len(rates) + 1), rates, marker=marker, label=label, color=colour)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("position in the draft")
    axes.set_ylabel("accepted")
    if rows:
        axes.locator_params(axis="x", integer=True)
        axes.legend(fontsize="small", ncols=2)


def _split(axes: Axes, rows: Sequence[Row]) -> None:
    names = [f"{row.workload}, {row.arm}" for row in rows]
    left = [0.0] * len(rows)
    for colour, part in zip(COLOURS, ("target", "draft", "other"), strict=False):
        widths = [getattr(row.figures.split, part) for row in rows]
        axes.barh(range(len(rows)), widths, left=left, label=part, color=colour)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(rows)), names, fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel("share of the time of decoding")
    axes.set_xlim(0, 1)
    if rows:
        axes.legend(fontsize="small", ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<h2>{html.escape(table.title)}</h2><table><tr>{head}</tr>{body}</table>"
