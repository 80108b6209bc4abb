"""Tests and measures Helix on this machine's GPU: OUT/gpu_report.json and OUT/gpu_report.md.

    scripts/gpu_report OUT
    scripts/gpu_report OUT --pair PAIR

It says what the GPU is, which kernels passed their check there, what their tests say, and what `helix bench`
measures on the timing pair in the GPU's 16-bit type and with eight-bit weights: plain and speculative decoding and
transformers' generate, beside the memory bandwidth that a streaming probe finds. PAIR is a folder with `target` and
`draft`; left out, the pair of TinyLlama's shape is made in OUT/pair first, which takes some minutes. Without a GPU the
exit code is 2; where a test or an arm fails it is 1, and the report says which.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import torch

from helix_cli import __version__
from helix_cli.attention import Heads, kernel_for
from helix_cli.attention.triton_paged import why_not as why_no_attention
from helix_cli.backend import Backend, open_backend
from helix_cli.bench.reporting import read_report
from helix_cli.bench.schema import Report, Row
from helix_cli.bench.tables import Table, markdown, number, tables
from helix_cli.errors import DeviceError, HelixError
from helix_cli.machine import hardware
from helix_cli.model.architecture import read_architecture
from helix_cli.model.int8_device import why_not as why_no_int8
from helix_cli.ui.console import notice
from scripts.reproduce import Run, run_python

TESTED: Final = (
    "tests/attention",
    "tests/model/test_windows.py",
    "tests/model/test_int8_device.py",
    "tests/draft/test_device_loop.py",
)
PAIR: Final = ("-m", "scripts.make_timing_pair", "--shape", "tinyllama", "--accept", "0.72", "--k", "4")
BENCH: Final = ("-m", "helix_cli", "bench", "--arms", "plain,speculative,transformers", "--k", "4", "--exact", "off")
ROOFLINE, SPEED_UP, AGAINST_TRANSFORMERS = 0.6, 2.5, 10.0


@dataclass(frozen=True)
class Goal:
    """One figure that was aimed at; `found` is None where it could not be measured."""

    what: str
    wanted: float
    found: float | None

    @property
    def verdict(self) -> str:
        """One word or two."""
        return "not measured" if self.found is None else "reached" if self.found >= self.wanted else "missed"


def goals(report: Report) -> list[Goal]:
    """What was aimed at for one large GPU at this shape, beside what was found; means over the kinds of work."""
    rows = [row for row in report.rows if row.kind in ("shape", "task")]
    plain = [row for row in rows if row.arm == "plain"]
    shares = [row.figures.bandwidth_share for row in plain if row.figures.bandwidth_share is not None]
    share = statistics.median(shares) if shares else None
    return [
        Goal("plain decoding, share of the memory bandwidth", ROOFLINE, share),
        Goal("speculative against plain decoding", SPEED_UP, ratio(rows, "speculative", "plain")),
        Goal("speculative against transformers", AGAINST_TRANSFORMERS, ratio(rows, "speculative", "transformers")),
    ]


def ratio(rows: Sequence[Row], arm: str, other: str) -> float | None:
    """How many times as fast one arm is as another: the geometric mean over the work that both did."""
    speeds = {(row.arm, row.workload): row.figures.speed for row in rows}
    both = [workload for name, workload in speeds if name == arm and (other, workload) in speeds]
    if not both:
        return None
    return math.exp(statistics.fmean(math.log(speeds[arm, one] / speeds[other, one]) for one in both))


def facts(backend: Backend, target: Path) -> dict[str, Any]:
    """The GPU, its software, and which kernels a model runs with here, each with the reason where it does not."""
    shape = read_architecture(target)
    heads = Heads(shape.num_heads, shape.num_kv_heads, shape.head_dim)
    dtype = backend.choose_dtype("auto", torch.bfloat16)
    return {
        "helix": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": backend.description,
        "torch": torch.__version__,
        "triton": version_of("triton"),
        "dtype": str(dtype).removeprefix("torch."),
        "attention_kernel": kernel_for(heads, dtype, backend.device, exact=False),
        "why_no_triton_attention": why_no_attention(heads, dtype, backend.device),
        "why_no_int8_weights": why_no_int8(dtype, backend.device),
        "hardware": hardware(),
    }


def version_of(package: str) -> str | None:
    """A package's own word for its version; None where it is not installed."""
    if importlib.util.find_spec(package) is None:
        return None
    return str(importlib.import_module(package).__version__)


def measure(out: Path, target: Path, draft: Path, name: str, arguments: Sequence[str], run: Run) -> Report | None:
    """One benchmark, its raw samples beside the report; None where it did not get as far as a report."""
    file = out / f"{name}.json"
    file.unlink(missing_ok=True)
    models = ("--model", str(target), "--draft", str(draft), "--device", "cuda")
    run((*BENCH, *models, *arguments, "--json", str(file)))
    return read_report(file) if file.exists() else None


def page(found: dict[str, Any], tests: tuple[int, str], reports: dict[str, Report | None]) -> str:
    """The Markdown report."""
    lines = [f"# Helix on {found['device']}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in found.items() if not isinstance(value, dict)]
    code, text = tests
    last = (text.strip().splitlines() or ["no output"])[-1]
    lines += ["", "## Tests", "", f"{'Passed' if code == 0 else 'Failed'}: {last}"]
    for name, report in reports.items():
        if report is None:
            lines += ["", f"## {name}", "", "There is no report: the benchmark failed and said why on stderr."]
            continue
        rows = tuple((goal.what, f"{goal.wanted:g}", number(goal.found), goal.verdict) for goal in goals(report))
        aims = Table("Goals", ("aimed at", "wanted", "found", ""), rows)
        lines += ["", markdown(name, [report.verdict], [aims, *tables(report)]).rstrip()]
    return "\n".join(lines) + "\n"


def find_pair(out: Path, given: Path | None, run: Run) -> tuple[Path, Path] | None:
    """Target and draft; None where the pair could not be made."""
    folder = given or out / "pair"
    if given is None and not (folder / "timing_pair.json").exists():
        notice("Making the timing pair.")
        run((*PAIR[:2], str(folder), *PAIR[2:]))
    pair = folder / "target", folder / "draft"
    return pair if all((one / "config.json").exists() for one in pair) else None


def main(run: Run = run_python) -> int:
    """Everything in turn; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder for the report")
    parser.add_argument("--pair", type=Path, help="a folder with target and draft")
    options = parser.parse_args()
    try:
        backend = open_backend("cuda")
    except DeviceError as error:
        notice(f"There is no GPU to report on: {error.message} {error.hint}")
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    pair = find_pair(options.out, options.pair, run)
    if pair is None:
        notice("There is no pair of models to measure: no folder with target and draft.")
        return 2
    try:
        found = facts(backend, pair[0])
    except HelixError as error:
        notice(f"{error.message} {error.hint}")
        return 2
    notice("Running the kernels' tests on the GPU.")
    tests = run(("-m", "pytest", *TESTED, "-p", "no:cacheprovider"))
    reports: dict[str, Report | None] = {}
    for weights in ("auto", "int8") if found["why_no_int8_weights"] is None else ("auto",):
        notice(f"Measuring with weights {weights}.")
        name = f"weights-{weights}"
        reports[name] = measure(options.out, *pair, name, ("--weights", weights, "--dtype", found["dtype"]), run)
    record = {
        **found,
        "tests": {"exit_code": tests[0], "output": tests[1]},
        "goals": {name: [asdict(goal) for goal in goals(one)] if one else None for name, one in reports.items()},
        "reports": {name: one and one.model_dump(mode="json") for name, one in reports.items()},
    }
    (options.out / "gpu_report.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (options.out / "gpu_report.md").write_text(page(found, tests, reports), encoding="utf-8")
    failed = tests[0] != 0 or any(one is None or one.failed for one in reports.values())
    notice(f"{options.out / 'gpu_report.md'} is {'written; something failed' if failed else 'complete'}.")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
