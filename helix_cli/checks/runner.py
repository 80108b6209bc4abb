"""Runs checks one after the other, and makes the report of them."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from helix_cli import __version__
from helix_cli.backend import host
from helix_cli.checks.check import Check, Outcome, Result, Skip
from helix_cli.checks.report import CheckRecord, Hardware, ModelRecord, Report, judge_run
from helix_cli.checks.subject import Subject
from helix_cli.errors import HelixError

Tell = Callable[[CheckRecord], None]
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pydantic")
HASHED = ("*.json", "*.safetensors", "*.jinja", "*.model")


def run(
    checks: Iterable[Check],
    subject: Subject,
    begin: Callable[[Check], None],
    tell: Tell,
    *,
    with_hashes: bool,
) -> Report:
    """Runs every check; `begin` hears which is next, `tell` what came of it. Ctrl-C ends it with what there is.

    `with_hashes` reads the checkpoints once more, for a report that is kept.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    wanted = list(checks)
    records: list[CheckRecord] = []
    interrupted = False
    try:
        for check in wanted:
            begin(check)
            record = run_one(check, subject)
            records.append(record)
            tell(record)
    except KeyboardInterrupt:
        interrupted = True
        outcome = Outcome(Result.SKIPPED, "Interrupted before it ended.")
        records += [_record(check, outcome, 0.0) for check in wanted[len(records) :]]
    done = tuple(records)
    unopened = subject.unopened.message if subject.unopened else None
    verdict, exit_code = judge_run(done, unopened, interrupted=interrupted)
    opened = subject.session.info if "session" in vars(subject) else None
    return Report(
        helix_version=__version__,
        effort=subject.effort.name,
        seed=subject.seed,
        groups=tuple(dict.fromkeys(check.group for check in wanted)),
        started=started.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - clock,
        interrupted=interrupted,
        hardware=_hardware(subject),
        versions=_versions(),
        models=tuple(_models(subject, {} if opened is None else subject.formats, with_hashes)),
        config=subject.config.effective(),
        exact=None if opened is None else opened.exact,
        exact_reason=None if opened is None else opened.exact_reason,
        noise=subject.memory.get("noise"),
        checks=done,
        verdict=verdict,
        exit_code=exit_code,
    )


def run_one(check: Check, subject: Subject) -> CheckRecord:
    """One check. An error inside it is a failure with its message: what should not happen has happened."""
    clock = time.perf_counter()
    try:
        outcome = check.run(subject)
    except Skip as reason:
        outcome = Outcome(Result.SKIPPED, str(reason))
    except HelixError as error:
        outcome = Outcome(Result.FAIL, error.message, {"error": type(error).__name__})
    except AssertionError as error:
        outcome = Outcome(Result.FAIL, f"an invariant is broken: {error or 'no details'}", {"error": "AssertionError"})
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        outcome = Outcome(Result.FAIL, f"{type(error).__name__}: {text}", {"error": type(error).__name__})
    return _record(check, outcome, time.perf_counter() - clock)


def _record(check: Check, outcome: Outcome, seconds: float) -> CheckRecord:
    return CheckRecord(
        id=check.id,
        group=check.group,
        proves=check.proves,
        result=outcome.result,
        reason=outcome.reason,
        evidence=outcome.evidence,
        seconds=seconds,
    )


def _hardware(subject: Subject) -> Hardware:
    return Hardware(
        device=subject.backend.description,
        processor=host.processor_name(),
        system=f"{platform.system()} {platform.machine()}",
        cores=host.usable_cores() or os.cpu_count(),
        threads=torch.get_num_threads(),
        free_memory_bytes=subject.backend.free_memory(),
    )


def _versions() -> dict[str, str]:
    from importlib import metadata

    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _models(subject: Subject, formats: dict[str, str], with_hashes: bool) -> Iterable[ModelRecord]:
    paths: dict[str, Path | None] = {"target": subject.target_path, "draft": subject.draft_path}
    for role, path in paths.items():
        if path is not None:
            hashes = content_hashes(path) if with_hashes else {}
            yield ModelRecord(role=role, path=str(path), weights=formats.get(role), sha256=hashes)


def content_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that a checkpoint consists of."""
    files = sorted({file for pattern in HASHED for file in folder.glob(pattern)})
    found: dict[str, Any] = {}
    for file in files:
        with file.open("rb") as stream:
            found[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found
