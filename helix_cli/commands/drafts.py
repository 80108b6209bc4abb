"""`helix drafts`: which checkpoints on this machine can draft for a target, and how much faster they make it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helix_cli.commands.interrupt import stop_on_interrupt
from helix_cli.commands.loading import garbage_ignored, load_session
from helix_cli.errors import INTERRUPTED, HelixError, Interrupted
from helix_cli.ui.console import Screen, notice
from helix_cli.ui.measuring import MeasureProgress, show_lines, show_table
from helix_cli.ui.progress import working
from helix_cli.ui.tables import per_second, percent

if TYPE_CHECKING:
    from helix_cli.candidates.candidate import Candidate
    from helix_cli.candidates.measure import Speed

UNKNOWN = "-"
Line = tuple["Candidate", "Speed | None"]


def drafts(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A local folder, a Hugging Face id, or demo.")],
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DIR", help="Folders to look in, four levels deep, beside the hub's cache."),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Load those that can draft, and measure them against plain decoding.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Find out which models on this machine can draft for a target, and how much faster it gets.

    It reads configs, tokenizers and the headers of the weights, and downloads nothing but a target that is named by its
    id and not there yet. Each checkpoint that cannot draft is listed with the reason.
    """
    candidates = find(target, folders or [])
    lines: list[Line] = [(one, None) for one in candidates]
    interrupted = False
    if measure:
        lines, interrupted = measure_all(target, candidates)
    if as_json:
        for one, speed in lines:
            _write_json(target, one, speed)
    else:
        _show(target, lines, measure)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def find(target: str, folders: Sequence[Path]) -> list[Candidate]:
    """Every checkpoint that was found, those that can draft first, the smallest of them first."""
    with working("Looking for checkpoints"):
        with garbage_ignored():
            from helix_cli.assembly import checkpoint_path
            from helix_cli.backend import open_backend
            from helix_cli.candidates.candidate import examine, read_facts
            from helix_cli.candidates.search import find_checkpoints
        backend = open_backend("auto", None)
        facts = read_facts(checkpoint_path(target, "target"), backend)
        found = [examine(one, facts, backend) for one in find_checkpoints(folders)]
    return sorted(found, key=lambda one: (one.refusal is not None, one.num_parameters or 0, one.name))


def measure_all(target: str, candidates: Sequence[Candidate]) -> tuple[list[Line], bool]:
    """The speed of each that can draft; one that fails is refused with the reason. True where Ctrl-C ended it."""
    from helix_cli.candidates.candidate import refused
    from helix_cli.candidates.measure import config_for, measure, num_runs

    lines: list[Line] = [(one, None) for one in candidates]
    usable = [place for place, one in enumerate(candidates) if one.refusal is None]
    if not usable:
        return lines, False
    session = load_session(config_for(target, None))
    with stop_on_interrupt(session.interrupt), MeasureProgress(num_runs(len(usable))) as progress:
        for place in usable:
            one = candidates[place]
            try:
                lines[place] = one, measure(session, target, one.path, progress.advance)
            except Interrupted:
                return lines, True
            except HelixError as error:
                lines[place] = refused(one, error.message), None
    return lines, False


def _write_json(target: str, candidate: Candidate, speed: Speed | None) -> None:
    values: dict[str, Any] = {
        "target": target,
        **candidate.to_dict(),
        "measured": None if speed is None else asdict(speed),
    }
    Screen.detect().write(json.dumps(values) + "\n")


def _show(target: str, lines: Sequence[Line], measured: bool) -> None:
    if not lines:
        notice("No checkpoint was found in the hub's cache or in the folders that were named.")
        return
    usable = [(one, speed) for one, speed in lines if one.refusal is None]
    columns = ["draft", "size", "vocabulary", "context", "weights", "K/V a token"]
    columns += ["plain", "with it", "accepted", "gain"] if measured else []
    if usable:
        show_table(f"Drafts for {target}", columns, [_row(*line, measured) for line in usable])
    refused = [f"{one.name}: {one.refusal}" for one, _ in lines if one.refusal is not None]
    if refused:
        show_lines(["Refused:", *(f"  {line}" for line in refused)])


def _row(one: Candidate, speed: Speed | None, measured: bool) -> list[str]:
    from helix_cli.planning.refusal import amount

    assert one.num_bytes is not None and one.kv_bytes_per_token is not None
    row = [one.name, percent(one.size_ratio), one.words, f"{one.context:,}", amount(one.num_bytes)]
    row.append(f"{one.kv_bytes_per_token / 2**10:.1f} KiB")
    if measured:
        row += [UNKNOWN] * 4 if speed is None else _figures(speed)
    return row


def _figures(speed: Speed) -> list[str]:
    gain = UNKNOWN if speed.speed_over_plain is None else f"{speed.speed_over_plain:.2f} times"
    return [
        per_second(speed.plain_tokens_per_second),
        per_second(speed.tokens_per_second),
        percent(speed.acceptance_rate),
        gain,
    ]
