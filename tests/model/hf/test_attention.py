"""What is made of a layer's question: the form that it gives, the usual scale, and whatever Helix does not know."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from helix_cli.attention.torch_general import Form
from helix_cli.model.hf.attention import Alone, Call, _attend, answering, causal_attention
from tests.attention.test_general import written_out

SINKS = torch.tensor([0.5, -1.0, 2.0, 0.0])


def ask(**arguments: Any) -> Call:
    """What one layer of four heads, two of which share K/V, asks for three tokens."""
    queries, keys, values = (torch.ones(1, heads, 3, 16) for heads in (4, 2, 2))
    module = SimpleNamespace(layer_idx=5, is_causal=arguments.pop("is_causal", True))
    with answering(alone := Alone()):
        out, _ = _attend(module, queries, keys, values, arguments.pop("mask", None), **arguments)
    assert out.shape == (1, 3, 4, 16) and len(alone.calls) == 1
    return alone.calls[0]


def test_the_form_is_the_models_and_the_scale_the_usual_one_where_it_gives_none() -> None:
    given = ask(scaling=0.3, sliding_window=7, softcap=2.0, s_aux=SINKS)
    assert (given.layer, given.form, given.unknown) == (5, Form(0.3, 7, 2.0, SINKS), ())
    assert ask().form == Form(0.25)


@pytest.mark.parametrize(
    ("arguments", "unknown"),
    [
        ({"mask": torch.zeros(1, 1, 3, 3)}, ("attention_mask",)),
        ({"is_causal": False}, ("is_causal=False",)),
        ({"position_bias": torch.ones(1)}, ("position_bias",)),
        ({"position_bias": None, "output_attentions": True, "fast": False}, ()),
    ],
)
def test_what_may_change_the_result_is_named(arguments: dict[str, Any], unknown: tuple[str, ...]) -> None:
    assert ask(**arguments).unknown == unknown


def test_who_answers_is_said_for_one_pass_only() -> None:
    ask()
    ones = torch.ones(1, 2, 1, 8)
    with pytest.raises(AssertionError, match="outside"):
        _attend(SimpleNamespace(), ones, ones, ones, None)


@pytest.mark.parametrize("form", [Form(0.3), Form(0.3, 2), Form(0.3, None, 1.5), Form(0.3, 2, 1.5, SINKS)], ids=str)
def test_without_a_pool_attention_is_the_same(form: Form) -> None:
    generator = torch.Generator().manual_seed(0)

    def some(heads: int, width: int) -> Tensor:
        return torch.randn(heads, 6, width, generator=generator)

    queries, keys, values = some(4, 8), some(2, 8), some(2, 4)
    found = causal_attention(Call(0, "Layer", queries, keys, values, form, ()))
    torch.testing.assert_close(found.double(), written_out(queries, keys, values, form, 0), atol=1e-5, rtol=1e-5)
