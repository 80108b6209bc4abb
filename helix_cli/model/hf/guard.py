"""What a loaded model must show before its first request: that nothing of it would be silently wrong over the pool.

transformers ignores an attention implementation that a model does not support, and says nothing. So two tokens go
through the model, and what asks for attention is compared with what the config promises. Then a few tokens, cut into
two passes beside another text, are compared with the model's own forward pass: convolutions and recurrences beside the
attention, and models that count positions by themselves, show there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from helix_cli.attention import Span
from helix_cli.cache.paged import KVShape, PagedKVCache
from helix_cli.cache.table import BlockTable
from helix_cli.core import Row
from helix_cli.errors import ModelError
from helix_cli.model.batch import Batch, build_batch
from helix_cli.model.hf.attention import NAME, Alone, Call
from helix_cli.model.hf.config import ANOTHER, WINDOWED
from helix_cli.model.hf.decoder import HFDecoder
from helix_cli.model.hf.quiet import briefly

PROBE = (3, 5)
TEXT, OTHER = (3, 5, 7, 11, 6, 8, 4, 10), (4, 9)
"""Token ids of the texts that are compared."""
FIRST_PIECE = 3
TOLERANCES = {torch.float32: 0.02, torch.float16: 0.15, torch.bfloat16: 0.15}
"""Differences of a token's logits that rounding explains, beside their spread. In 16 bits a token in a few may choose
another expert, so the median over the tokens of a pass is what counts."""


def probe(decoder: HFDecoder) -> tuple[KVShape, ...]:
    """Runs two tokens and returns what each layer keeps. Raises ModelError for a model that cannot run."""
    return check(decoder, *run(decoder))


def check(decoder: HFDecoder, calls: list[Call], logits: Tensor) -> tuple[KVShape, ...]:
    """What each layer keeps, from what the layers asked for. Raises ModelError for a model that would be wrong."""
    shape, config = decoder.architecture, decoder.module.config.get_text_config()
    _check_layers(calls, decoder.module, shape.name, shape.num_layers)
    _check_forms(calls, config, shape.name)
    if logits.shape[-1] != shape.vocab_size:
        raise ModelError(
            f"{shape.name} gives {logits.shape[-1]} logits for a vocabulary of {shape.vocab_size}.", ANOTHER
        )
    calls.sort(key=lambda call: call.layer or 0)
    return tuple(KVShape(one.keys.shape[0], one.keys.shape[-1], one.values.shape[-1]) for one in calls)


def run(decoder: HFDecoder) -> tuple[list[Call], Tensor]:
    """What the layers ask for while two tokens run, and the logits [2, V]. Raises ModelError."""
    alone, tokens = Alone(), _known(PROBE, decoder.architecture.vocab_size)
    with _running(decoder.architecture.name):
        return alone.calls, decoder.logits(alone_batch(tokens, decoder.device), alone)


def compare(decoder: HFDecoder, tolerance: float) -> None:
    """Logits over a pool against those of the model by itself. Raises ModelError where they are others."""
    name = decoder.architecture.name
    text, other = (_known(tokens, decoder.architecture.vocab_size) for tokens in (TEXT, OTHER))
    with _running(name):
        pair = own_logits(decoder.module, text, decoder.device), _paged_logits(decoder, text, other)
    # On the CPU: not every GPU has a median or a deviation.
    own, found = (logits.cpu() for logits in pair)
    # What rounds to nothing beside the largest logit is no difference.
    spread = own.std(-1) + 1e-3 * own.abs().amax(-1) + 1e-20
    differences = (found - own).square().mean(-1).sqrt() / spread
    worst = max(float(part.median()) for part in (differences[:FIRST_PIECE], differences[FIRST_PIECE:]))
    if not worst <= tolerance:
        raise ModelError(
            f"{name} computes other logits over a paged cache than by itself: they differ by {worst:.2g} of their "
            "standard deviation.",
            ANOTHER,
        )


@torch.no_grad()
def own_logits(module: Any, tokens: list[int], device: torch.device) -> Tensor:
    """The model's logits [T, V] by its own attention; sets the implementation back to Helix's."""
    module.set_attn_implementation("eager")
    try:
        logits: Tensor = module(input_ids=torch.tensor([tokens], device=device), use_cache=False).logits[0].float()
    finally:
        module.set_attn_implementation(NAME)
    return logits


def _paged_logits(decoder: HFDecoder, text: list[int], other: list[int]) -> Tensor:
    """The logits of `text` in two passes, the second of which begins with another text."""
    cache = PagedKVCache(decoder.kv_shapes, 4, 4, decoder.dtype, decoder.device, prefix_reuse=False)
    forward = decoder.over(cache)
    table, beside = BlockTable([2, 0]), BlockTable([3])
    start, rest = text[:FIRST_PIECE], text[FIRST_PIECE:]
    first = forward(build_batch([Row(table, start, len(start))], decoder.device), lambda: False)
    table.num_computed = len(start)
    rows = [Row(beside, other, 0), Row(table, rest, len(rest))]
    return torch.cat([first, forward(build_batch(rows, decoder.device), lambda: False)])


def alone_batch(tokens: list[int], device: torch.device) -> Batch:
    """One text from its beginning, for a pass without a pool; all logits are asked for."""
    return Batch(torch.tensor(tokens, device=device), (Span(BlockTable(), 0, len(tokens), 0),), None)


@contextmanager
def _running(name: str) -> Iterator[None]:
    """What transformers' modules raise means that the model does not run this way."""
    try:
        yield
    except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError, LookupError) as error:
        raise ModelError(f"{name} cannot run over a paged cache: {briefly(error)}.", ANOTHER) from error


def _known(tokens: tuple[int, ...], vocab_size: int) -> list[int]:
    """The tokens, or others where the vocabulary is that small."""
    return [token % vocab_size for token in tokens]


def _check_layers(calls: Sequence[Call], module: Any, name: str, num_layers: int) -> None:
    """Every layer must have asked once."""
    if not calls:
        raise ModelError(f"The attention of {name} ignores transformers' AttentionInterface in every layer.", ANOTHER)
    counts = Counter(call.layer for call in calls)
    for index in range(num_layers):
        if counts[index] != 1:
            asked = "asked for no attention" if counts[index] == 0 else f"asked for attention {counts[index]} times"
            kind = _kind_of(module, index)
            raise ModelError(f"Layer {index} of {name}{kind} {asked} where it must ask once.", ANOTHER)
    extra = [call.module for call in calls if call.layer not in range(num_layers)]
    if extra:
        raise ModelError(f"{extra[0]} in {name} belongs to none of its {num_layers} layers.", ANOTHER)


def _check_forms(calls: Sequence[Call], config: Any, name: str) -> None:
    """Windows must be said to the function, and nothing be said that Helix does not know."""
    kinds = getattr(config, "layer_types", None) or ()
    for call in calls:
        if call.unknown:
            raise ModelError(
                f"Layer {call.layer} of {name} passes {call.unknown[0]} to its attention, which Helix does not know.",
                ANOTHER,
            )
        assert call.layer is not None
        if call.layer < len(kinds) and WINDOWED[kinds[call.layer]] != (call.form.window is not None):
            raise ModelError(
                f"Layer {call.layer} of {name} is of kind {kinds[call.layer]}, but its window is "
                f"{call.form.window or 'in a mask only'}.",
                ANOTHER,
            )
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True) and not any(call.form.window for call in calls):
        raise ModelError(f"The sliding window of {name} ({window}) exists only as a mask, in every layer.", ANOTHER)


def _kind_of(module: Any, index: int) -> str:
    """Which class of `module` has that index, for people."""
    names = [type(one).__name__ for one in module.modules() if getattr(one, "layer_idx", None) == index]
    return f" ({names[-1]})" if names else ""
