"""A report as tables of text, for a terminal and for Markdown alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from helix_cli.bench.schema import Figures, Interval, Report, Row
from helix_cli.ui.tables import percent, seconds

UNDEFINED = "-"
MIB = 2**20


@dataclass(frozen=True)
class Table:
    """Columns and rows of text. `shares`, if any, are values from 0 to 1 to draw as a bar behind each row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    shares: tuple[float, ...] = ()


def tables(report: Report) -> list[Table]:
    """All tables that have rows."""
    made = (speed_table(report.rows), draft_table(report.rows), memory_table(report.rows), problem_table(report))
    return [table for table in made if table.rows]


def speed_table(rows: Sequence[Row]) -> Table:
    """How fast, and against plain; the bar compares the arms of one workload."""
    fastest = {row.workload: max(r.figures.speed for r in rows if r.workload == row.workload) for row in rows}
    return Table(
        "Speed",
        ("work", "arm", "tok/s", "range", "against plain", "texts as plain", "TTFT", "TPOT", "ITL p50 / p95 / p99"),
        tuple((row.workload, row.arm, f"{row.figures.speed:.1f}", *_speed_cells(row.figures)) for row in rows),
        tuple(row.figures.speed / fastest[row.workload] for row in rows),
    )


def draft_table(rows: Sequence[Row]) -> Table:
    """What was drafted, what became of it, and what it cost."""
    drafting = [row for row in rows if row.figures.acceptance_rate is not None or row.setup.drafter != "none"]
    return Table(
        "Drafting",
        ("work", "arm", "accepted", "by position", "tokens a round", "c", "v(K)", "o", "draft / target / other"),
        tuple((row.workload, row.arm, *_draft_cells(row.figures)) for row in drafting if row.kind != "prompt"),
    )


def memory_table(rows: Sequence[Row]) -> Table:
    """Keys and values at their peak, and the weights that a round reads."""
    return Table(
        "Memory",
        ("work", "arm", "K/V blocks", "slots empty", "contiguous", "K/V MiB", "weights a round, MiB", "of bandwidth"),
        tuple((row.workload, row.arm, *_memory_cells(row.figures)) for row in rows),
    )


def problem_table(report: Report) -> Table:
    """What has no number, and why."""
    return Table(
        "Without a number",
        ("work", "arm", "", "reason"),
        tuple(
            (one.workload or "all", one.arm, "failed" if one.is_failure else "not possible", one.message)
            for one in report.problems
        ),
    )


def describe(report: Report) -> Iterator[str]:
    """What the tables were measured with, a sentence a line."""
    for setup in [row.setup for row in report.rows if row.setup.engine == "helix"][-1:]:
        draft = f", draft {setup.draft.name} ({setup.draft.weights})" if setup.draft else ""
        yield f"{setup.target.name} ({setup.target.weights}){draft}; {setup.dtype}; {setup.device}."
        versions = ", ".join(f"{name} {text}" for name, text in setup.versions.items())
        yield f"{setup.hardware['system']}; Python {setup.hardware['python']}, {versions}."
    loads = ", ".join(f"{arm} {seconds(taken)}" for arm, taken in report.load_s.items())
    warm = ", ".join(f"{arm} {seconds(taken)}" for arm, taken in report.warm_up_s.items())
    yield f"Loading, not part of any figure: {loads or UNDEFINED}; warm-up: {warm or UNDEFINED}."
    yield condition_line(report)
    if report.interrupted:
        yield "The run was interrupted: these are the runs that were finished."


def condition_line(report: Report) -> str:
    """The machine's memory and load."""
    state = report.condition
    bandwidth = "not probed" if state.read_bandwidth is None else f"{state.read_bandwidth / 1e9:.1f} GB/s"
    peak = "unknown" if state.peak_memory is None else f"{state.peak_memory / MIB:.0f} MiB"
    load = "unknown" if state.load_average is None else f"{state.load_average:.1f}"
    return f"Memory bandwidth {bandwidth}; peak memory of the process, all arms together, {peak}; load average {load}."


def interval_text(interval: Interval | None) -> str:
    """A ratio with its interval."""
    if interval is None:
        return UNDEFINED
    if interval.low is None or interval.high is None:
        return f"{interval.ratio:.2f} (one prompt)"
    return f"{interval.ratio:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def number(value: float | None, digits: int = 2) -> str:
    """A number, or a dash."""
    return UNDEFINED if value is None else f"{value:.{digits}f}"


def _speed_cells(figures: Figures) -> tuple[str, ...]:
    low, high = figures.speed_range
    gaps = (figures.itl_p50_s, figures.itl_p95_s, figures.itl_p99_s)
    equal = figures.equal_texts
    return (
        f"{low:.1f} to {high:.1f}",
        interval_text(figures.speed_up),
        UNDEFINED if equal is None else f"{equal[0]} of {equal[1]}",
        seconds(figures.ttft_s),
        seconds(figures.tpot_s),
        UNDEFINED if gaps[0] is None else " / ".join(seconds(gap) for gap in gaps),
    )


def _draft_cells(figures: Figures) -> tuple[str, ...]:
    costs, split = figures.costs, figures.split
    verify = UNDEFINED
    if costs is not None:
        verify = ", ".join(f"{k}: {value:.2f}" for k, value in costs.v_by_k.items() if k)
    return (
        percent(figures.acceptance_rate),
        " ".join(f"{rate:.2f}" for rate in figures.acceptance_per_position) or UNDEFINED,
        number(figures.mean_acceptance_length),
        number(costs and costs.c),
        verify or UNDEFINED,
        number(costs and costs.o),
        UNDEFINED if split is None else " / ".join(percent(part) for part in (split.draft, split.target, split.other)),
    )


def _memory_cells(figures: Figures) -> tuple[str, ...]:
    def whole(value: int | None) -> str:
        return UNDEFINED if value is None else str(value)

    weights = figures.weight_bytes_per_round
    return (
        whole(figures.peak_blocks),
        whole(figures.wasted_slots),
        whole(figures.contiguous_blocks),
        number(None if figures.kv_bytes is None else figures.kv_bytes / MIB, 1),
        number(None if weights is None else weights / MIB, 1),
        percent(figures.bandwidth_share),
    )


def markdown(title: str, lines: Sequence[str], made: Sequence[Table]) -> str:
    """Sentences and tables, ready to paste."""
    parts = [f"## {title}", "\n".join(f"- {line}" for line in lines)]
    for table in made:
        body = [table.columns, tuple("---" for _ in table.columns), *table.rows]
        text = "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in body)
        parts.append(f"### {table.title}\n\n{text}")
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
