"""From what was measured to the report, and its text as JSON and CSV; and back from JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from helix_cli.bench.arms import Arm
from helix_cli.bench.costs import costs
from helix_cli.bench.figures import SPEEDS, figures, speed_up
from helix_cli.bench.measure import Measured
from helix_cli.bench.plan import ASSISTED, PLAIN, SPECULATIVE
from helix_cli.bench.schema import Condition, Kind, Problem, Report, Row, Run
from helix_cli.bench.verdict import verdict
from helix_cli.bench.workloads import Workload
from helix_cli.errors import InputError

DEEP: Final = ("config", "hardware", "versions", "v_by_k")
"""Tables within a row: one column each, as JSON would write them."""
POOLED: Final[tuple[Kind, ...]] = ("task", "shape")
"""The work that a verdict may rest on, the better one first."""


def build_report(
    measured: Measured,
    arms: Sequence[Arm],
    workloads: Sequence[Workload],
    *,
    command: str,
    rounds: int,
    condition: Condition,
) -> Report:
    """Computes every figure from the raw runs. What has no runs has no row."""
    rows: list[Row] = []
    problems = list(measured.problems)
    for workload in workloads:
        same_kind = [one for one in workloads if one.kind == workload.kind]
        smallest = min(same_kind, key=lambda one: one.batch).name
        plain_runs = measured.runs.get((PLAIN, workload.name), [])
        for arm in arms:
            runs = measured.runs.get((arm.name, workload.name))
            if not runs:
                continue
            setup = arm.setup()
            found = figures(
                workload.kind,
                runs,
                plain_runs,
                measured.runs.get((arm.name, smallest), []),
                setup,
                condition.read_bandwidth,
            )
            if found is None:
                message = "no text was long enough to have a speed"
                problems.append(Problem(arm=arm.name, workload=workload.name, message=message, is_failure=True))
                continue
            rows.append(
                Row(
                    arm=arm.name,
                    workload=workload.name,
                    kind=workload.kind,
                    batch=workload.batch,
                    setup=setup,
                    figures=found,
                    runs=tuple(runs),
                )
            )
    return Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        rounds=rounds,
        interrupted=measured.interrupted,
        load_s=measured.load_s,
        warm_up_s=measured.warm_up_s,
        rows=tuple(rows),
        problems=tuple(problems),
        condition=condition,
        verdict=pooled_verdict(rows),
    )


def pooled_verdict(rows: Sequence[Row]) -> str:
    """The verdict over all task texts; over tg shapes, which share their prompts, where no task can be compared."""
    drafting = [(arm, kind) for kind in POOLED for arm in (SPECULATIVE, ASSISTED) if _runs(rows, arm, kind)]
    if not drafting:
        return _nothing_pooled({row.kind for row in rows if row.arm in (SPECULATIVE, ASSISTED)})
    arm, kind = next((one for one in drafting if _runs(rows, PLAIN, one[1])), drafting[0])
    mine, plain = _runs(rows, arm, kind), _runs(rows, PLAIN, kind)
    return verdict(arm, speed_up(mine, plain, SPEEDS[kind]), costs(mine, plain))


def _nothing_pooled(kinds: Collection[Kind]) -> str:
    """Why there is no verdict where arms with a draft ran no text alone, but these kinds of work."""
    if "batch" in kinds:
        return "Texts ran in batches only; what speculation brought them stands in the tables, and no verdict pools it."
    if kinds:
        return "Prompts were only read, so nothing can be said about speculation."
    return "No arm with a draft was measured, so nothing can be said about speculation."


def _runs(rows: Sequence[Row], arm: str, kind: Kind) -> list[Run]:
    return [run for row in rows if row.arm == arm and row.kind == kind for run in row.runs]


def read_report(file: Path) -> Report:
    """A report that `--json` wrote; raises InputError."""
    try:
        return Report.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.", "Check the path.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        message = f"{file} is not a benchmark that this version reads: {where}: {first['msg']}."
        raise InputError(message, "Name a file that helix bench wrote with --json.") from None


def to_json(report: BaseModel) -> str:
    """Everything, raw samples included."""
    return report.model_dump_json() + "\n"


def to_csv(report: Report) -> str:
    """A line for each row: figures and setup as columns with dotted names, without raw samples."""
    lines = [{"created": report.created, **_flat(row.model_dump(mode="json", exclude={"runs"}))} for row in report.rows]
    names = dict.fromkeys(name for line in lines for name in line)
    # What is a table in one row and null in another has columns for its parts, and none of its own.
    columns = [name for name in names if not any(other.startswith(f"{name}.") for other in names)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns or ["created"], lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and key not in DEEP:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = json.dumps(value) if isinstance(value, dict | list) else value
    return flat
