"""`helix validate`: proves on this machine, with these models, that a draft changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from helix_cli.commands.interrupt import raise_on_interrupt
from helix_cli.commands.loading import garbage_ignored
from helix_cli.commands.outputs import STDOUT, check_files, write_files
from helix_cli.commands.prompts import read_prompts
from helix_cli.commands.settings import OPTIONS, Choices, with_settings
from helix_cli.errors import InputError
from helix_cli.ui.console import Screen, notice
from helix_cli.ui.progress import working
from helix_cli.ui.validation import ValidationProgress, show_validation

if TYPE_CHECKING:
    from helix_cli.checks.check import Check
    from helix_cli.checks.report import CheckRecord, Report
    from helix_cli.checks.subject import Completed
    from helix_cli.config import Config

PROCESSES: Final = 2
"""Runs of the program at the same time."""
WITH_EFFECT: Final = frozenset(
    {"--model", "--draft", "--dtype", "--weights", "--draft-weights", "--exact", "--device", "--drafter"}
)
"""The shared options that mean something here: depth, rule and sampling are what the checks vary by themselves."""


def _option(flag: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(flag, help=help, metavar=metavar, rich_help_panel="Checks")


def _validate(
    choices: Choices,
    quick: Annotated[bool, _option("--quick", "Do less: about half a minute for the embedded pair.")] = False,
    full: Annotated[bool, _option("--full", "Do more: more texts, more samples, more places.")] = False,
    only: Annotated[
        list[str] | None, _option("--only", "Only this group, or this check; may be repeated.", "NAME")
    ] = None,
    seed: Annotated[int, _option("--seed", "Where the random numbers of the checks start.", "N")] = 0,
    prompts: Annotated[
        Path | None,
        _option("--prompts", "Your own prompts beside those that ship with Helix, one JSON object a line.", "FILE"),
    ] = None,
    as_json: Annotated[
        Path | None, _option("--json", "Write the report with all evidence; - is stdout, without the table.", "FILE")
    ] = None,
    html: Annotated[
        Path | None, _option("--html", "Write the report as one page, to attach to a bug report.", "FILE")
    ] = None,
) -> None:
    """Prove, on this machine and with these models, that speculation changes nothing.

    Without options it looks at the embedded pair. The exit code is 0 when all is good, 1 after a failure, 2 when it
    could not run, and 3 when nothing but numeric ties was met: places where rounding decides between two tokens. A
    check that is skipped is never counted as passed. Ctrl-C ends the run and still reports what is finished.
    """
    if quick and full:
        raise InputError("--quick cannot take effect together with --full.", "Leave one of the two out.")
    if not 0 <= seed < 2**40:
        raise InputError(f"--seed {seed} is out of range.", "Give a whole number from 0 to 2^40.")
    check_files(as_json, html, prompts=prompts)
    config = choices.load(notice)
    texts = tuple(_text(one.text) for one in read_prompts(prompts, chat=False)) if prompts is not None else ()
    effort = "quick" if quick else "full" if full else "default"
    is_kept = as_json is not None or html is not None
    report = run_checks(config, effort, only or [], seed, texts, with_hashes=is_kept)
    _write(report, as_json, html)
    raise typer.Exit(report.exit_code)


validate = with_settings(_validate, without=OPTIONS.keys() - WITH_EFFECT)


def run_checks(
    config: Config, effort: str, only: Sequence[str], seed: int, texts: tuple[str, ...], *, with_hashes: bool
) -> Report:
    """Runs what was asked for, with progress on stderr. Raises HelixError for models that are not there."""
    with working("Loading"), garbage_ignored():
        from helix_cli.checks.effort import EFFORTS
        from helix_cli.checks.runner import run
        from helix_cli.checks.subject import Subject
    checks = _chosen(only)
    subject = Subject(config, EFFORTS[effort], seed, run_helix, PROCESSES, texts)
    # A name that leads nowhere is no finding: nothing can be checked.
    subject.find_models()
    with raise_on_interrupt(), ValidationProgress(len(checks)) as progress:
        return run(
            checks,
            subject,
            lambda check: progress.begin(check.group, check.id),
            lambda record: progress.end(record.result),
            with_hashes=with_hashes,
        )


def run_helix(arguments: Sequence[str], stdin: bytes) -> Completed:
    """`helix` with these arguments in a process of its own, as a user would run it."""
    from helix_cli.checks.subject import Completed

    environment = {name: value for name, value in os.environ.items() if name != "HELIX_DEBUG"}
    done = subprocess.run(
        [sys.executable, "-m", "helix_cli", *arguments], input=stdin, capture_output=True, env=environment
    )
    return Completed(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))


def _chosen(only: Sequence[str]) -> list[Check]:
    from difflib import get_close_matches

    from helix_cli.checks import CHECKS, GROUPS

    for name in only:
        if name not in GROUPS and name not in CHECKS:
            near = get_close_matches(name, [*GROUPS, *CHECKS], n=1)
            hint = f"Did you mean {near[0]}?" if near else f"The groups are {', '.join(GROUPS)}."
            raise InputError(f"There is no group or check called {name}.", hint)
    return [check for check in CHECKS.values() if not only or check.group in only or check.id in only]


def _text(text: str | None) -> str:
    if text is None:
        raise InputError("--prompts takes texts, not conversations.", 'Write lines such as {"prompt": "..."}.')
    return text


def _write(report: Report, as_json: Path | None, html: Path | None) -> None:
    """The files first: a reader of stdout that has gone must not cost them, nor a file that cannot be written the rest.

    Raises the first OSError at the end.
    """
    from helix_cli.checks.page import page

    wanted: list[tuple[Path, Callable[[], bytes]]] = []
    if as_json is not None:
        wanted.append((as_json, lambda: (report.model_dump_json(indent=2) + "\n").encode()))
    if html is not None:
        wanted.append((html, lambda: page(report).encode()))
    problem = write_files((file, content) for file, content in wanted if str(file) != STDOUT)
    on_stdout = [content for file, content in wanted if str(file) == STDOUT]
    for content in on_stdout:
        Screen.detect().write(content().decode())
    if on_stdout:
        notice(report.verdict)
    else:
        show_validation([_row(one) for one in report.checks], report.verdict)
    if problem is not None:
        raise problem


def _row(record: CheckRecord) -> tuple[str, str, str, str]:
    return record.group, record.id, str(record.result), record.reason
