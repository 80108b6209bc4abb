"""What a report says of transformers' arms: their own number type, which need not be Helix's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from helix_cli.bench.transformers_arms import replace_weights
from tests.bench.made import setup


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_number_type_of_the_loaded_models_is_the_one_that_is_reported(dtype: torch.dtype) -> None:
    sizes: Any = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    own: Any = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=2))
    model = own.to(dtype)
    found = replace_weights(setup(), model, model)
    name = str(dtype).removeprefix("torch.")
    assert found.dtype == name and found.target.weights == name
    assert found.draft is not None and found.draft.weights == name
    assert found.target.weight_bytes == dtype.itemsize * (16 * 8 + 7 * 8 * 8)
