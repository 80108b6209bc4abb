"""A sweep as tables of text, and as lines of CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from helix_cli.bench.page import Page
from helix_cli.bench.reporting import to_json
from helix_cli.bench.sweep.plot import draw_sweep
from helix_cli.bench.sweep.schema import Gain, Ingredients, Sweep
from helix_cli.bench.tables import UNDEFINED, Table, describe, interval_text, number, problem_table

MARK = "best"


def sweep_page(sweep: Sweep) -> Page:
    """Everything that a sweep has to show."""
    return Page(
        title="Helix sweep of depths",
        lines=(sweep.verdict, *describe(sweep), *explain(sweep)),
        tables=tuple(sweep_tables(sweep)),
        json=lambda: to_json(sweep),
        csv=lambda: to_csv(sweep),
        figure=lambda: draw_sweep(sweep),
    )


def sweep_tables(sweep: Sweep) -> list[Table]:
    """All tables that have rows."""
    made = (
        *(gain_table(sweep, workload) for workload in dict.fromkeys(gain.workload for gain in sweep.gains)),
        best_table(sweep),
        cost_table(sweep.ingredients),
        acceptance_table(sweep.ingredients),
        problem_table(sweep),
    )
    return [table for table in made if table.rows]


def gain_table(sweep: Sweep, workload: str) -> Table:
    """Measured beside predicted for one kind of work; the bar is the speed-up that was measured."""
    gains = [gain for gain in sweep.gains if gain.workload == workload]
    ratios = [gain.speed_up.ratio if gain.speed_up else 1.0 for gain in gains]
    best = next((one.arm for one in sweep.best if one.workload == workload), None)
    rows = tuple((workload, gain.arm, *_gain_cells(gain), MARK if gain.arm == best else "") for gain in gains)
    columns = ("work", "setting", "tok/s", "against plain", "predicted", "a round", "predicted E", "")
    return Table(f"Speed by depth: {workload}", columns, rows, tuple(ratio / max(ratios) for ratio in ratios))


def best_table(sweep: Sweep) -> Table:
    """The best setting of each kind of work, and why."""
    rows = tuple((one.workload, one.arm, one.verdict) for one in sweep.best)
    return Table("Best settings", ("work", "setting", "finding"), rows)


def cost_table(parts: Sequence[Ingredients]) -> Table:
    """c, v(K) and o, in target steps."""
    rows = tuple(
        (
            one.drafter,
            f"{one.step_s * 1e3:.2f} ms",
            number(one.c, 3),
            ", ".join(f"v({k}) {v:.2f}" for k, v in one.v.items()),
            number(one.o, 3),
            number(one.o_plain, 3),
        )
        for one in parts
    )
    return Table("Costs in target steps", ("drafter", "target step", "c", "v(K)", "o", "o of plain"), rows)


def acceptance_table(parts: Sequence[Ingredients]) -> Table:
    """Conditional acceptance by position: of those that got so far, how many were kept."""
    rows = tuple(
        (kind.workload, one.drafter, " ".join(f"{rate:.2f}" for rate in kind.rates) or UNDEFINED)
        for one in parts
        for kind in one.acceptance
    )
    return Table("Acceptance at 1, 2, ... once all before was kept", ("work", "drafter", "accepted"), rows)


def explain(sweep: Sweep) -> list[str]:
    """How the prediction was made, and how sure the choice is."""
    lines = ["Predicted is E (1 + o of plain) / (K c + v(K) + o); it leaves out that a draft model reads the prompt."]
    if sweep.margin is None:
        return lines
    if sweep.margin > sweep.precision:
        lines.append(f"Another setting may still be {sweep.margin:.0%} faster, at 95 %; more --limit or --rounds tell.")
    else:
        early = ", so the run ended early" if sweep.stopped_early else ""
        lines.append(f"No other setting is more than {sweep.margin:.0%} faster, at 95 %{early}.")
    return lines


def to_csv(sweep: Sweep) -> str:
    """A line for each setting and kind of work."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    names = [name for name in Gain.model_fields if name != "speed_up"]
    interval = ("speed_up", "speed_up_low", "speed_up_high", "num_pairs")
    writer.writerow(["created", *names, *interval])
    for gain in sweep.gains:
        found = gain.speed_up
        measured = (None,) * 4 if found is None else (found.ratio, found.low, found.high, found.num_pairs)
        writer.writerow([sweep.created, *(getattr(gain, name) for name in names), *measured])
    return text.getvalue()


def _gain_cells(gain: Gain) -> tuple[str, ...]:
    return (
        f"{gain.speed:.1f}",
        interval_text(gain.speed_up),
        number(gain.predicted),
        number(gain.tokens_per_round),
        number(gain.expected_tokens),
    )
