"""A report as tables of text, for a terminal and for Markdown alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from helix_cli.bench.schema import Figures, Interval, Kind, Report, Row
from helix_cli.ui.tables import percent, seconds

UNDEFINED = "-"
MANY_ARMS = 4
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
    rows = report.rows
    made = (
        speed_table(rows),
        batch_table(rows),
        latency_table(rows),
        draft_table(rows),
        depth_table(rows),
        position_table(rows),
        cache_table(rows),
        memory_table(rows),
        problem_table(report),
    )
    return [table for table in made if table.rows]


def speed_table(rows: Sequence[Row]) -> Table:
    """How fast, and against plain; the bar compares the arms of one workload."""
    fastest = {row.workload: max(r.figures.speed for r in rows if r.workload == row.workload) for row in rows}
    cells = tuple(
        (f"{row.figures.speed:.1f}", _range(row), interval_text(row.figures.speed_up, pair_unit(row.kind)))
        for row in rows
    )
    return _table(
        "Speed, tokens a second",
        ("speed", "range", "against plain"),
        rows,
        cells,
        tuple(row.figures.speed / fastest[row.workload] for row in rows),
    )


def batch_table(rows: Sequence[Row]) -> Table:
    """What texts gain from running together."""
    chosen = [row for row in rows if row.kind == "batch"]
    cells = tuple(
        (
            f"{row.figures.speed:.1f}",
            interval_text(row.figures.batch_gain, "round"),
            number(row.figures.costs.mean_k if row.figures.costs else None),
        )
        for row in chosen
    )
    return _table("Batches", ("tok/s in all", "against the smallest", "drafted a round"), chosen, cells)


def latency_table(rows: Sequence[Row]) -> Table:
    """Times as a reader feels them, and whether the texts are the plain ones."""
    cells = tuple(_latency_cells(row.figures) for row in rows)
    return _table("Latency", ("TTFT", "TPOT", "ITL p50 / p95 / p99, ms", "same text as plain"), rows, cells)


def draft_table(rows: Sequence[Row]) -> Table:
    """What was drafted, what became of it, and what it cost."""
    columns = ("accepted", "a round", "c", "v(K)", "o", "expected", "draft / target / other, %")
    chosen = _drafting(rows)
    return _table("Drafting", columns, chosen, tuple(_draft_cells(row.figures) for row in chosen))


def depth_table(rows: Sequence[Row]) -> Table:
    """How many tokens were asked for, and how often none."""
    cells = [
        (row, (f"{found.least}-{found.most}", f"{found.mean:.1f}", percent(found.off_share)))
        for row in _drafting(rows)
        if (found := row.figures.depths) is not None
    ]
    return _table(
        "Depth", ("asked for", "mean", "off, of the rounds"), [row for row, _ in cells], tuple(c for _, c in cells)
    )


def position_table(rows: Sequence[Row]) -> Table:
    """Acceptance by position in the draft, and the cost of checking by its length."""
    chosen = [row for row in _drafting(rows) if row.figures.acceptance_per_position]
    cells = tuple(
        (
            " ".join(f"{rate:.2f}" for rate in row.figures.acceptance_per_position),
            ", ".join(f"v({k}) {v:.2f}" for k, v in (row.figures.costs.v_by_k if row.figures.costs else {}).items()),
        )
        for row in chosen
    )
    return _table("By position", ("accepted at 1, 2, ...", "target passes by tokens drafted"), chosen, cells)


def cache_table(rows: Sequence[Row]) -> Table:
    """Keys and values at their peak, and what caches reserved to the context limit would have held."""
    chosen = [row for row in rows if row.figures.peak_blocks is not None]
    cells = tuple(
        (
            str(row.figures.peak_blocks),
            str(row.figures.wasted_slots),
            str(row.figures.contiguous_blocks),
            _mib(row.figures.kv_bytes),
        )
        for row in chosen
    )
    return _table("Keys and values", ("blocks", "empty slots", "contiguous blocks", "MiB"), chosen, cells)


def memory_table(rows: Sequence[Row]) -> Table:
    """The weights that a round reads, how near that is to what the memory can do, and what was resident."""
    cells = tuple(
        (
            _mib(row.figures.weight_bytes_per_round),
            percent(row.figures.bandwidth_share),
            _mib(row.figures.peak_memory),
        )
        for row in rows
    )
    return _table("Memory", ("weights a round, MiB", "of bandwidth", "resident, MiB"), rows, cells)


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
    setups = [row.setup for row in report.rows]
    for setup in sorted(setups, key=lambda one: (one.engine != "helix", one.draft is None))[:1]:
        draft = f", draft {setup.draft.name} ({setup.draft.weights})" if setup.draft else ""
        yield f"{setup.target.name} ({setup.target.weights}){draft}; {setup.dtype}; {setup.device}."
        versions = ", ".join(f"{name} {text}" for name, text in setup.versions.items())
        yield f"{setup.hardware['system']}; Python {setup.hardware['python']}, {versions}."
    yield f"Loading, not part of any figure: {_by_arm(report.load_s)}; warm-up: {_by_arm(report.warm_up_s)}."
    yield condition_line(report)
    if report.interrupted:
        yield "The run was interrupted: these are the runs that were finished."


def _by_arm(times: Mapping[str, float]) -> str:
    """Seconds of each arm; of many arms only how far they go apart."""
    if len(times) > MANY_ARMS:
        return f"{seconds(min(times.values()))} to {seconds(max(times.values()))} an arm"
    return ", ".join(f"{arm} {seconds(taken)}" for arm, taken in times.items()) or UNDEFINED


def condition_line(report: Report) -> str:
    """The machine's memory and load."""
    state = report.condition
    bandwidth = "not probed" if state.read_bandwidth is None else f"{state.read_bandwidth / 1e9:.1f} GB/s"
    peak = "unknown" if state.peak_memory is None else f"{state.peak_memory / MIB:.0f} MiB"
    load = "unknown" if state.load_average is None else f"{state.load_average:.1f}"
    return f"Memory bandwidth {bandwidth}; peak memory of the process, all arms together, {peak}; load average {load}."


def interval_text(interval: Interval | None, unit: str = "prompt") -> str:
    """A ratio with its interval; `unit` is what its pairs are."""
    if interval is None:
        return UNDEFINED
    if interval.low is None or interval.high is None:
        return f"{interval.ratio:.2f} (one {unit})"
    return f"{interval.ratio:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def pair_unit(kind: Kind) -> str:
    """What is compared in pairs in this kind of work."""
    return "batch" if kind == "batch" else "prompt"


def number(value: float | None, digits: int = 2) -> str:
    """A number, or a dash."""
    return UNDEFINED if value is None else f"{value:.{digits}f}"


def _table(
    title: str,
    columns: tuple[str, ...],
    rows: Sequence[Row],
    cells: tuple[tuple[str, ...], ...],
    shares: tuple[float, ...] = (),
) -> Table:
    """A table whose lines begin with their work and arm."""
    named = tuple((row.workload, row.arm, *line) for row, line in zip(rows, cells, strict=True))
    return Table(title, ("work", "arm", *columns), named, shares)


def _drafting(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.setup.drafter != "none" and row.kind != "prompt"]


def _range(row: Row) -> str:
    low, high = row.figures.speed_range
    return f"{low:.1f} to {high:.1f}"


def _latency_cells(figures: Figures) -> tuple[str, ...]:
    gaps = (figures.itl_p50_s, figures.itl_p95_s, figures.itl_p99_s)
    equal = figures.equal_texts
    return (
        seconds(figures.ttft_s),
        seconds(figures.tpot_s),
        UNDEFINED if gaps[0] is None else " / ".join(f"{1e3 * (gap or 0.0):.1f}" for gap in gaps),
        UNDEFINED if equal is None else f"{equal[0]} of {equal[1]}",
    )


def _draft_cells(figures: Figures) -> tuple[str, ...]:
    costs, split = figures.costs, figures.split
    return (
        percent(figures.acceptance_rate),
        number(figures.mean_acceptance_length),
        number(costs.c if costs else None),
        number(costs.v if costs else None),
        number(costs.o if costs else None),
        number(costs.expected_speed_up if costs else None),
        UNDEFINED
        if split is None
        else "/".join(f"{part:.0%}"[:-1] for part in (split.draft, split.target, split.other)),
    )


def _mib(num_bytes: float | None) -> str:
    return UNDEFINED if num_bytes is None else f"{num_bytes / MIB:.1f}"


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
