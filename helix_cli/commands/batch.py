"""Many prompts from a file of JSON lines, generated together, into a file of results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from helix_cli.commands.interrupt import stop_on_interrupt
from helix_cli.commands.loading import load_session
from helix_cli.commands.prompts import STDIN, read_prompts
from helix_cli.commands.results import open_results, unanswered
from helix_cli.core import FinishedEvent, FinishReason
from helix_cli.errors import InputError
from helix_cli.phases import Phases
from helix_cli.ui.console import notice
from helix_cli.ui.progress import BatchProgress

if TYPE_CHECKING:
    from helix_cli.config import Config


def run_batch(config: Config, source: Path, output: Path | None, phases: Phases, *, resume: bool, chat: bool) -> bool:
    """Writes a result for each prompt of `source`; returns whether the user interrupted.

    A text that was interrupted is no result: only complete ones are written, in the order in which they end. Raises
    InputError, before a model is loaded, for bad lines and for an output that cannot be written.
    """
    prompts = read_prompts(source, chat)
    if output is not None and str(source) != STDIN and output.exists() and output.samefile(source):
        raise InputError("--output is the same file as --input.", "Name another file for the results.")
    left = unanswered(prompts, output, resume)
    phases.end("prompt")
    with open_results(output) as results:
        if not left:
            notice(f"All {len(prompts)} prompts have their results already.")
            return False
        session = load_session(config, left, phases)
        by_index = {prompt.index: prompt for prompt in left}
        num_done = 0
        try:
            with stop_on_interrupt(session.interrupt) as interrupt, BatchProgress(len(left)) as progress:
                for event in session.stream(left):
                    if isinstance(event, FinishedEvent):
                        if event.finish_reason is FinishReason.ABORT:
                            continue
                        results.write(by_index[event.index], event)
                        num_done += 1
                    progress.advance(event)
        finally:
            # Also where memory ran out: what is finished is written, and the user should know.
            if num_done < len(left):
                again = " Run it again with --resume to go on." if output is not None else ""
                notice(f"{num_done} of {len(left)} prompts have their results.{again}")
    return interrupt.requested
