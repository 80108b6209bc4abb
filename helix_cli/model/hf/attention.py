"""Where transformers' modules ask for attention: one registered function, and whoever answers in this forward pass.

A context variable says who that is, because some models drop arguments on the way to their layers. No mask function is
registered: transformers then makes no mask at all, and a pass costs no more operations than the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from helix_cli.attention.masks import Masks
from helix_cli.attention.torch_general import Form, attention

NAME: Final = "helix_paged"
"""The attention implementation's name in transformers."""
HARMLESS: Final = {"position_ids", "cache_position", "use_cache", "output_attentions", "output_router_logits"}
"""Arguments that say nothing about attention itself."""


@dataclass(frozen=True)
class Call:
    """What one layer asks for: queries [H, T, key_dim], keys and values [Hkv, T, ...], rotated already."""

    layer: int | None
    module: str
    queries: Tensor
    keys: Tensor
    values: Tensor
    form: Form
    unknown: tuple[str, ...]
    """Arguments that Helix does not know, and that may change the result."""


Answer = Callable[[Call], Tensor]
"""The attention of one layer, [T, H, value_dim]."""

_answer: ContextVar[Answer | None] = ContextVar("helix_attention", default=None)


def register() -> None:
    """Makes NAME known to transformers; more than once does no harm."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attend)


@contextmanager
def answering(answer: Answer) -> Iterator[None]:
    """While it lasts, `answer` serves the layers of every model that runs in this context."""
    token = _answer.set(answer)
    try:
        yield
    finally:
        _answer.reset(token)


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What transformers calls: `[1, heads, T, d]` each; returns ([1, T, heads, value_dim], no weights)."""
    answer = _answer.get()
    assert answer is not None, "a forward pass outside `answering`"
    assert query.shape[0] == 1, "rows of a batch are flattened into one"
    if attention_mask is not None:
        others["attention_mask"] = attention_mask
    if not getattr(module, "is_causal", True):
        others["is_causal=False"] = True
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    unknown = (
        name for name, value in others.items() if name not in HARMLESS and value is not None and value is not False
    )
    call = Call(
        layer=getattr(module, "layer_idx", None),
        module=type(module).__name__,
        queries=query[0],
        keys=key[0],
        values=value[0],
        form=Form(scale, sliding_window, softcap, s_aux),
        unknown=tuple(unknown),
    )
    # Contiguous, as transformers' own attention returns it: some models take a view of it.
    return answer(call).contiguous()[None], None


class Alone:
    """Answers without a pool, for one text from its beginning; `calls` are the layers that asked, in order."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __call__(self, call: Call) -> Tensor:
        self.calls.append(call)
        return causal_attention(call)


def causal_attention(call: Call) -> Tensor:
    """Attention of a whole text over itself, [T, H, value_dim]."""
    num_heads, length, _ = call.queries.shape
    kv_heads = call.keys.shape[0]
    group = num_heads // kv_heads
    queries = call.queries.to(call.keys.dtype).reshape(kv_heads, group, length, -1)
    keys, values = (side.unsqueeze(1).expand(-1, group, -1, -1) for side in (call.keys, call.values))
    mask = Masks(torch.float32, call.keys.device).get(length, 0, call.form.window)
    sinks = call.form.sinks
    if sinks is not None:
        sinks = sinks.view(kv_heads, group, 1, 1).expand(-1, -1, length, 1)
    out = attention(queries, keys, values, mask, False, call.form, sinks, fused=False)
    return out.reshape(num_heads, length, -1).transpose(0, 1)
