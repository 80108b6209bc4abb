"""Checkpoints of other families: whole, in safetensors, and with no code of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from helix_cli.errors import ModelError
from helix_cli.model.hf.config import read_hf_architecture
from tests.model.hf.zoo import load, make


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    """A checkpoint that runs, to be broken."""
    make("gpt2").save_pretrained(tmp_path)
    return tmp_path


def change_tensors(path: Path, change: Any) -> None:
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors", {"format": "pt"})


def change_config(path: Path, **fields: Any) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | fields))


def test_what_the_config_says(gpt2: Path) -> None:
    shape = read_hf_architecture(gpt2)
    assert (shape.family, shape.name) == ("gpt2", "GPT2LMHeadModel")
    assert (shape.num_layers, shape.hidden, shape.intermediate, shape.vocab_size, shape.context) == (
        4,
        32,
        128,
        96,
        128,
    )
    assert shape.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("transformer.h.2.attn.c_proj.weight"), "lacks the tensor transformer.h.2.attn.c_proj.weight"),
        (lambda t: t.update(more=torch.ones(2)), "holds the tensor more, which such a model does not have"),
        (
            lambda t: t["transformer.ln_f.bias"].fill_(torch.nan),
            "transformer.ln_f.bias holds values that are not finite",
        ),
        (
            lambda t: t.update({"transformer.wte.weight": torch.ones(5, 32)}),
            "transformer.wte.weight is [5, 32], but config.json asks for [96, 32]",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(gpt2: Path, change: Any, message: str) -> None:
    change_tensors(gpt2, change)
    with pytest.raises(ModelError) as caught:
        load(gpt2)
    assert message in caught.value.message and caught.value.hint


def test_masks_of_old_checkpoints_are_no_weights(gpt2: Path) -> None:
    change_tensors(gpt2, lambda tensors: tensors.update({"transformer.h.0.attn.bias": torch.ones(1, 1, 8, 8)}))
    load(gpt2)


def test_pickled_weights_are_refused(gpt2: Path) -> None:
    (gpt2 / "model.safetensors").rename(gpt2 / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled weights only"):
        load(gpt2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"model_type": "odd", "auto_map": {"AutoConfig": "odd.Config"}, "architectures": ["OddForCausalLM"]},
            "The architecture odd brings Python code of its own, which Helix never runs",
        ),
        ({"model_type": "odd", "architectures": ["Odd"]}, "knows the architecture odd"),
        (
            {"architectures": ["GPT2ForSequenceClassification"]},
            "GPT2ForSequenceClassification is not a causal language",
        ),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "BertForMaskedLM is not a causal language"),
        ({"quantization_config": {"quant_method": "gptq"}}, "This checkpoint is quantised (gptq)"),
        ({"dtype": "float8_e4m3fn"}, "Weights in float8_e4m3fn are not supported"),
        ({"dtype": "float7"}, "Weights in float7 are not supported|transformers cannot read"),
        ({"n_layer": -1}, "In the config of GPT2LMHeadModel, num_hidden_layers is -1 and not a positive integer"),
        ({"n_positions": None}, "transformers cannot read|does not say max_position_embeddings"),
    ],
)
def test_configs_are_refused_before_any_weight_is_read(gpt2: Path, fields: dict[str, Any], message: str) -> None:
    (gpt2 / "model.safetensors").unlink()
    (gpt2 / "odd.py").write_text("raise SystemExit('run')")
    change_config(gpt2, **fields)
    with pytest.raises(ModelError) as caught:
        read_hf_architecture(gpt2)
    assert any(part in caught.value.message for part in message.split("|")) and caught.value.hint


@pytest.mark.parametrize(("field", "value"), [("n_head", 5), ("activation_function", "zelu")])
def test_a_config_that_no_model_can_have_is_refused_before_any_weight_is_read(
    gpt2: Path, field: str, value: Any
) -> None:
    (gpt2 / "model.safetensors").unlink()
    change_config(gpt2, **{field: value})
    with pytest.raises(ModelError, match="transformers cannot build the GPT2LMHeadModel that"):
        _ = read_hf_architecture(gpt2).sizes
