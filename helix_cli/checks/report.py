"""What `helix validate --json` writes and a bug report holds. A change that breaks a reader raises SCHEMA_VERSION."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from helix_cli.checks.check import Result
from helix_cli.errors import INTERRUPTED

SCHEMA_VERSION: Final = 1
ALL_GOOD, FAILED, NOT_RUN, ONLY_TIES = 0, 1, 2, 3
"""Exit codes."""


class Record(BaseModel):
    """What all parts share: nothing changes later, nothing unknown is accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CheckRecord(Record):
    """One check and what came of it."""

    id: str
    group: str
    proves: str
    result: Result
    reason: str
    evidence: dict[str, Any]
    seconds: float


class Hardware(Record):
    """The machine."""

    device: str
    processor: str | None
    system: str
    cores: int | None
    threads: int
    free_memory_bytes: int | None


class ModelRecord(Record):
    """One model: where it lies and what is in it."""

    role: str
    path: str
    weights: str | None
    """How its matrices are stored in memory; None where it was not opened."""
    sha256: dict[str, str]
    """Of every file of the checkpoint, by name; empty where no report was asked for."""


class Report(Record):
    """Everything that a run found."""

    schema_version: int = SCHEMA_VERSION
    helix_version: str
    effort: str
    seed: int
    groups: tuple[str, ...]
    """Those that ran."""
    started: str
    seconds: float
    interrupted: bool
    hardware: Hardware
    versions: dict[str, str]
    models: tuple[ModelRecord, ...]
    config: dict[str, Any]
    exact: bool | None
    exact_reason: str | None
    noise: float | None
    """The largest difference of a logit between two ways to cut a text into passes, if it was measured."""
    checks: tuple[CheckRecord, ...]
    verdict: str
    exit_code: int

    def count(self, result: Result) -> int:
        """How many checks ended so."""
        return Counter(one.result for one in self.checks)[result]


def judge_run(checks: tuple[CheckRecord, ...], unopened: str | None, *, interrupted: bool = False) -> tuple[str, int]:
    """The one-line verdict and the exit code. A skipped check is counted as skipped and as nothing else."""
    counts = Counter(one.result for one in checks)
    skipped = f", {counts[Result.SKIPPED]} skipped" if counts[Result.SKIPPED] else ""
    if counts[Result.FAIL]:
        failed = [one.id for one in checks if one.result is Result.FAIL]
        listed = ", ".join(failed[:3]) + (" and others" if len(failed) > 3 else "")
        verdict = f"FAILED: {len(failed)} of {len(checks)} checks, {listed}{skipped}."
        return verdict, INTERRUPTED if interrupted else FAILED
    if interrupted:
        tied = f", {counts[Result.TIE]} met numeric ties" if counts[Result.TIE] else ""
        return f"Interrupted, without a verdict: {counts[Result.PASS]} checks passed{tied}{skipped}.", INTERRUPTED
    if unopened is not None:
        return f"Could not run: {unopened}", NOT_RUN
    if not counts[Result.PASS] and not counts[Result.TIE]:
        return f"Nothing was proved: {counts[Result.SKIPPED]} checks skipped.", NOT_RUN
    if counts[Result.TIE]:
        ties = counts[Result.TIE]
        return f"No fault: {counts[Result.PASS]} checks passed, {ties} met numeric ties{skipped}.", ONLY_TIES
    return f"All good: {counts[Result.PASS]} checks passed{skipped}.", ALL_GOOD
