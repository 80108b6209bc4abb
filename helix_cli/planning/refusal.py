"""Why something does not fit the memory, in a sentence, and what would, in another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from helix_cli.backend import NUMBER_TYPES
from helix_cli.cache.paged import num_blocks_for
from helix_cli.errors import MemoryLimitError, is_out_of_memory
from helix_cli.model.formats import INT8
from helix_cli.planning.memory import MemoryPlan, ModelMemory

FREE_SOME = "Close other programs, or choose a smaller model"


def amount(num_bytes: int) -> str:
    """Bytes in a unit that people read: 512 KiB, 80 MiB, 1.2 GiB."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if num_bytes >= unit:
            value = num_bytes / unit
            return f"{value:.1f} {name}" if value < 100 else f"{value:.0f} {name}"
    return f"{num_bytes / 2**10:.0f} KiB"


def check_room(plan: MemoryPlan, device: str) -> None:
    """Raises MemoryLimitError, before a weight is read, for models and a cache that the device cannot hold."""
    if plan.free is None:
        return
    if not plan.fits:
        raise MemoryLimitError(
            f"{_models(plan)} need {amount(plan.least)} of memory, and {amount(plan.free)} are free on {device}.",
            what_would_fit(plan),
        )
    check_pool(plan)


def check_pool(plan: MemoryPlan) -> None:
    """Raises MemoryLimitError where the cache that is asked for has no room, or the share holds not even one block."""
    room = plan.room_for_blocks
    if plan.fixed_blocks is not None and plan.free is not None and plan.fixed_blocks > room:
        raise MemoryLimitError(
            f"A cache of {plan.fixed_blocks} blocks needs {amount(plan.fixed_blocks * plan.block_bytes)}, and "
            f"{amount(room * plan.block_bytes)} are left for it.",
            f"cache.blocks={room} would fit, which is room for {room * plan.block_size:,} tokens."
            if room
            else f"{FREE_SOME}.",
        )
    if plan.num_blocks < 1:
        raise MemoryLimitError(
            f"{100 * plan.memory_share:.0f} % of the memory that is left holds no block of {plan.block_size} tokens, "
            f"which needs {amount(plan.block_bytes)}.",
            f"{FREE_SOME}, raise cache.memory_share, or lower cache.block_size.",
        )


def what_would_fit(plan: MemoryPlan) -> str:
    """The mildest change with which the models fit, or how far the smallest is from it."""
    ways = list(_ways(plan))
    for words, other in ways:
        if other.fits:
            return f"{words} would need {amount(other.least)}."
    words, smallest = min(ways, key=lambda way: way[1].least, default=("", plan))
    also = f"; even {words} would need {amount(smallest.least)}" if words else ""
    return f"{FREE_SOME}{also}."


def better_context(plan: MemoryPlan) -> str:
    """What would give one text a longer context, where the cache is too small for the model's own."""
    context = plan.models[0].widths.context
    if plan.fixed_blocks is not None:
        return f"cache.blocks={num_blocks_for(context, plan.block_size)} would hold all of it."
    for words, other in [("cache.memory_share=0.9", replace(plan, memory_share=0.9)), *_ways(plan)]:
        if other.holds(context, 1):
            return f"With {words} all of it would fit."
    return "Nothing that could be changed here makes all of it fit; a smaller model would."


@contextmanager
def explained_loading(plan: MemoryPlan) -> Iterator[None]:
    """Turns an allocation that fails inside, while models load, into a MemoryLimitError that says what would fit."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        free = "" if plan.free is None else f", of {amount(plan.free)} that were free"
        raise MemoryLimitError(
            f"Memory ran out while the models were loaded; with one step they need {amount(plan.least)}{free}.",
            _smaller(plan),
        ) from error


def _smaller(plan: MemoryPlan) -> str:
    """The first change that needs less: what was said to be free has proved not to be."""
    return next((f"{words} would need {amount(other.least)}." for words, other in _ways(plan)), f"{FREE_SOME}.")


def _ways(plan: MemoryPlan) -> Iterator[tuple[str, MemoryPlan]]:
    """Changes that need less memory, those first that change no text."""
    target, drafts = plan.models[0], plan.models[1:]
    alone = replace(plan, models=(target,))
    for draft in drafts:
        for words, smaller in _narrower(draft, plan.mixed_products):
            yield words, replace(plan, models=(target, smaller))
        yield "--drafter ngram, with no draft model,", alone
    for words, smaller in _narrower(target, plan.mixed_products):
        yield words, replace(plan, models=(smaller, *drafts))
        if drafts:
            yield f"{words} and --drafter ngram", replace(plan, models=(smaller,))


def _narrower(model: ModelMemory, mixed: bool) -> Iterator[tuple[str, ModelMemory]]:
    """The model in the formats that take less than its own, the widest first.

    Without mixed products a float format is a matter of the number type to compute in.
    """
    weights, dtype = ("--draft-weights ", "--set draft.dtype=") if model.role == "draft" else ("--weights ", "--dtype ")
    for name, size in sorted(model.formats.items(), key=lambda one: -one[1].kept):
        if size.kept < model.size.kept:
            stays = mixed or name == INT8
            computed = model.dtype if stays else NUMBER_TYPES[name]
            words = f"{weights if stays else dtype}{name}"
            yield words, replace(model, dtype=computed, weights=name, size=size)


def _models(plan: MemoryPlan) -> str:
    return "The model and its draft" if len(plan.models) > 1 else "The model and one step of it"
