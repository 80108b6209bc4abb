"""A step that finds no memory ends as a sentence that says what was under way and what would take less."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING

from helix_cli.errors import MemoryLimitError, is_out_of_memory

if TYPE_CHECKING:
    from helix_cli.core import StepOutput
    from helix_cli.engine.engine import Engine
    from helix_cli.engine.scheduler import Scheduler

FEWEST_STEP_TOKENS = 64
"""Smaller steps read the weights so often that a smaller cache is the better advice."""


def explains_memory(step: Callable[[Engine], StepOutput]) -> Callable[[Engine], StepOutput]:
    """`step`, raising MemoryLimitError where an allocation fails; no counter has moved, and the engine can go on."""

    @wraps(step)
    def explained(engine: Engine) -> StepOutput:
        try:
            return step(engine)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ran_out(engine.scheduler) from error

    return explained


def ran_out(scheduler: Scheduler) -> MemoryLimitError:
    """What to say of the texts that run now."""
    count = len(scheduler.running)
    longest = max((len(one.tokens) for one in scheduler.running), default=0)
    texts = f"{count} texts were generated, the longest" if count > 1 else "a text was generated,"
    changes = []
    if count > 1:
        changes.append(f"engine.max_sequences={count // 2}")
    if longest >= scheduler.max_step_tokens >= 2 * FEWEST_STEP_TOKENS:
        changes.append(f"engine.max_step_tokens={scheduler.max_step_tokens // 2}")
    changes.append("a smaller cache.memory_share")
    return MemoryLimitError(
        f"Memory ran out while {texts} of {longest:,} tokens.",
        f"What was written before is kept; less is taken with --set {' or '.join(changes)}.",
    )
