"""The chart of a sweep as a file, by matplotlib, which is the extra `plot`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from helix_cli.bench.plot import COLOURS, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from helix_cli.bench.sweep.schema import Gain, Sweep

COLUMNS = 3
HEADROOM = 1.3
"""Of the axis over the highest point: intervals of a few prompts may be far wider, and are cut off there."""
BESIDE = 0.12
"""How far the drafters stand apart at one depth, so that no interval hides another."""


def draw_sweep(sweep: Sweep) -> Figure:
    """A panel for each kind of work: speed-up over depth, measured with its interval, and predicted."""
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(gain.workload for gain in sweep.gains))
    if not kinds:
        figure = Figure(figsize=(6, 3))
        figure.text(0.5, 0.5, "nothing was measured", ha="center")
        return figure
    columns = min(COLUMNS, len(kinds))
    rows = -(-len(kinds) // columns)
    figure = Figure(figsize=(5.0 * columns + 1.0, 3.6 * rows + 1.2), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for axes, kind in zip(panels, kinds, strict=False):
        panel(axes, kind, [gain for gain in sweep.gains if gain.workload == kind])
    for axes in panels[len(kinds) :]:
        axes.set_visible(False)
    panels[0].legend(fontsize="small", ncols=2)
    panels[0].set_ylim(0.0, HEADROOM * max(height for gain in sweep.gains for height in _heights(gain)))
    figure.suptitle(sweep.verdict, fontsize=10, wrap=True)
    return figure


def panel(axes: Axes, title: str, gains: Sequence[Gain]) -> None:
    """Points with intervals are measured, the dashed line is predicted; a colour for each drafter."""
    drafters = list(dict.fromkeys(gain.drafter for gain in gains if gain.k))
    for place, drafter in enumerate(drafters):
        mine = [gain for gain in gains if gain.drafter == drafter]
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        measured = [(gain.k, gain.speed_up) for gain in mine if gain.speed_up is not None]
        ratios = [one.ratio for _, one in measured]
        below = [0.0 if one.low is None else one.ratio - one.low for _, one in measured]
        above = [0.0 if one.high is None else one.high - one.ratio for _, one in measured]
        depths = [k + BESIDE * (place - (len(drafters) - 1) / 2) for k, _ in measured]
        axes.errorbar(depths, ratios, yerr=[below, above], fmt=marker, color=colour, label=f"{drafter}, measured")
        predicted = [(gain.k, gain.predicted) for gain in mine if gain.predicted is not None]
        if predicted:
            axes.plot(*zip(*predicted, strict=True), "--", color=colour, label=f"{drafter}, predicted")
    axes.plot([0], [1.0], "ks", label="plain")
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_title(title)
    axes.set_xlabel("K")
    axes.set_ylabel("times plain speed")
    axes.locator_params(axis="x", integer=True)


def _heights(gain: Gain) -> list[float]:
    return [1.0, *([gain.speed_up.ratio] if gain.speed_up else []), *([gain.predicted] if gain.predicted else [])]
