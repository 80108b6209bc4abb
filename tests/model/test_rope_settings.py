"""The frequencies of every rotary embedding are those of transformers, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from helix_cli.model.fields import Fields
from helix_cli.model.rope_settings import RopeSettings, read_rope

YARN = {"rope_type": "yarn", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
CASES: list[dict[str, Any]] = [
    {"rope_parameters": None},
    {"rope_theta": 500000.0, "rope_scaling": None},
    {"rope_scaling": {"type": "linear", "factor": 3.0}, "rope_theta": 5000.0},
    {"rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 1e6}},
    {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 8192}, "rope_theta": 500000.0},
    {"rope_parameters": LLAMA3 | {"rope_theta": 500000.0}},
    {"rope_scaling": YARN | {"original_max_position_embeddings": 32768}},
    {"rope_scaling": {"type": "yarn", "factor": 2.0}},
    {"rope_scaling": YARN, "original_max_position_embeddings": 1024},
    {"rope_scaling": YARN | {"attention_factor": 1.3, "beta_fast": 16, "beta_slow": 2, "truncate": False}},
    {"rope_scaling": YARN | {"mscale": 0.7, "mscale_all_dim": 1.1}},
    {"rope_scaling": YARN | {"beta_fast": 1e-9, "beta_slow": 1e-9}},
]


def settings(config: dict[str, Any], family: str = "llama") -> RopeSettings:
    return read_rope(Fields(config, "config.json"), family, 64, 4096)


@pytest.mark.parametrize("config", CASES, ids=str)
def test_frequencies_are_those_of_transformers(config: dict[str, Any]) -> None:
    full: dict[str, Any] = {
        "max_position_embeddings": 4096,
        "hidden_size": 256,
        "num_attention_heads": 4,
        "head_dim": 64,
    }
    rotary: Any = LlamaRotaryEmbedding
    oracle = rotary(LlamaConfig(**full, **{name: _copy(value) for name, value in config.items()}))
    found = settings(config)
    assert torch.equal(found.frequencies(), oracle.inv_freq)
    assert found.magnitude == pytest.approx(oracle.attention_scaling, rel=1e-12)


def test_a_partial_rotation_has_fewer_frequencies() -> None:
    found = settings({"partial_rotary_factor": 0.75}, "phi3")
    assert found.rotary_dim == 48 and found.frequencies().shape == (24,)


def _copy(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else value
