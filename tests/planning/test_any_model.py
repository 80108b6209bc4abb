"""What is said of a model that runs through transformers, before it is loaded, beside what it then is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helix_cli.cache.paged import bytes_per_block
from helix_cli.model.hf.config import read_hf_architecture
from helix_cli.model.language_model import LanguageModel
from helix_cli.planning.any_model import first_layers, kv_values, num_parameters, weight_size, widths
from helix_cli.planning.memory import loaded_memory
from helix_cli.planning.sizes import Stored
from tests.model.hf.zoo import load, make


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "opt", "gpt_neox", "mixtral", "deepseek_v3"])
def test_what_is_said_is_what_is_loaded(tmp_path: Path, family: str) -> None:
    model = make(family)
    model.save_pretrained(tmp_path)
    shape = read_hf_architecture(tmp_path)
    decoder: LanguageModel = load(tmp_path)
    assert num_parameters(shape) == model.num_parameters()
    assert kv_values(shape) == bytes_per_block(decoder.kv_shapes, block_size=1, itemsize=1)
    stored = Stored(torch.float32, "float32", "native")
    assert weight_size(shape, stored).kept == sum(one.nbytes for one in model.parameters())
    loaded = loaded_memory("target", decoder)
    assert (loaded.widths, loaded.kv_values) == (widths(shape), kv_values(shape))
    assert first_layers(shape, 1)[1] == kv_values(shape) // shape.num_layers


def test_narrower_matrices_leave_the_rest_as_it_is(tmp_path: Path) -> None:
    model = make("gpt_neox")
    model.save_pretrained(tmp_path)
    shape = read_hf_architecture(tmp_path)
    linear = sum(one.weight.numel() for one in model.modules() if isinstance(one, torch.nn.Linear))
    whole = 4 * model.num_parameters()
    for weights, width in (("bfloat16", 2), ("int8", 1)):
        size = weight_size(shape, Stored(torch.float32, weights, "native"))
        assert size.kept == whole - (4 - width) * linear
        assert size.kept + size.loading >= whole, "transformers loads all of it in float32 first"
