"""From what was measured to the report, and its text as JSON and CSV; and back from JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from helix_cli.bench.arms import Arm
from helix_cli.bench.costs import costs
from helix_cli.bench.figures import SPEEDS, figures, speed_up
from helix_cli.bench.measure import Measured
from helix_cli.bench.plan import ASSISTED, PLAIN, SPECULATIVE
from helix_cli.bench.schema import Condition, Problem, Report, Row, Run
from helix_cli.bench.verdict import verdict
from helix_cli.bench.workloads import Workload
from helix_cli.errors import InputError

DEEP: Final = ("config", "hardware", "versions", "v_by_k")
"""Tables within a row: one column each, as JSON would write them."""


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
    """The verdict over all task texts; over tg shapes, which share their prompts, where no task was run."""
    drafting = next((name for name in (SPECULATIVE, ASSISTED) if _runs(rows, name)), None)
    if drafting is None and any(row.arm in (SPECULATIVE, ASSISTED) for row in rows):
        return "Texts ran in batches only; what speculation brought them stands in the tables, and no verdict pools it."
    if drafting is None:
        return "No arm with a draft was measured, so nothing can be said about speculation."
    mine, plain = _runs(rows, drafting), _runs(rows, PLAIN)
    return verdict(drafting, speed_up(mine, plain, SPEEDS["task"]), costs(mine, plain))


def _runs(rows: Sequence[Row], arm: str) -> list[Run]:
    """The arm's runs of one text each, of tasks if there are any."""
    kind = "task" if any(row.kind == "task" for row in rows) else "shape"
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
    columns = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns or ["created"], lineterminator="\n")
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
