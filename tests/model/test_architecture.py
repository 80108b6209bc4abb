"""Reading config.json: what each family means, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from helix_cli.errors import ModelError
from helix_cli.model.architecture import Architecture, read_architecture

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "torch_dtype": "bfloat16",
}


def family(name: str, architecture: str, **fields: Any) -> dict[str, Any]:
    return LLAMA | {"model_type": name, "architectures": [architecture], "num_key_value_heads": 2} | fields


MISTRAL = family("mistral", "MistralForCausalLM")
QWEN2 = family("qwen2", "Qwen2ForCausalLM", sliding_window=32, max_window_layers=1)
QWEN3 = family("qwen3", "Qwen3ForCausalLM")
PHI3 = family("phi3", "Phi3ForCausalLM")


def read(tmp_path: Path, config: dict[str, Any]) -> Architecture:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return read_architecture(tmp_path)


def test_an_old_llama_config(tmp_path: Path) -> None:
    shape = read(tmp_path, LLAMA | {"rope_scaling": None, "pretraining_tp": 1, "use_cache": True})
    assert (shape.num_heads, shape.num_kv_heads, shape.head_dim) == (4, 4, 16)
    assert shape.dtype == torch.bfloat16 and shape.rope.theta == 10000.0 and shape.rope.scaling is None
    assert shape.windows == (None,) * 3 and not (shape.tied or shape.qkv_bias or shape.qk_norm)


@pytest.mark.parametrize(
    ("config", "windows"),
    [
        (MISTRAL, (4096,) * 3),
        (MISTRAL | {"sliding_window": None}, (None,) * 3),
        (MISTRAL | {"sliding_window": 8}, (8,) * 3),
        (PHI3, (None,) * 3),
        (PHI3 | {"sliding_window": 2047}, (2047,) * 3),
        (QWEN2, (None,) * 3),
        (QWEN2 | {"use_sliding_window": True}, (None, 32, 32)),
        (QWEN2 | {"use_sliding_window": True, "max_window_layers": 3}, (None,) * 3),
        (
            QWEN3 | {"use_sliding_window": True, "sliding_window": 9, "layer_types": ["sliding_attention"] * 3},
            (9,) * 3,
        ),
    ],
)
def test_sliding_windows(tmp_path: Path, config: dict[str, Any], windows: tuple[int | None, ...]) -> None:
    assert read(tmp_path, config).windows == windows


def test_biases_and_head_sizes(tmp_path: Path) -> None:
    qwen2, qwen3 = read(tmp_path, QWEN2), read(tmp_path, QWEN3 | {"attention_bias": True})
    assert qwen2.qkv_bias and not qwen2.output_bias and qwen2.head_dim == 16
    assert qwen3.qkv_bias and qwen3.output_bias and qwen3.qk_norm and qwen3.head_dim == 128
    assert read(tmp_path, PHI3).fused_projections
    llama = read(tmp_path, LLAMA | {"attention_bias": True, "mlp_bias": True, "head_dim": 32, "num_key_value_heads": 1})
    assert llama.output_bias and llama.mlp_bias and (llama.head_dim, llama.num_kv_heads) == (32, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gemma", "architectures": ["GemmaForCausalLM"]}, "GemmaForCausalLM is not supported"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification is not supported"),
        ({"model_type": None, "architectures": None}, "unknown is not supported"),
        ({"hidden_act": "gelu"}, "The activation 'gelu'"),
        ({"quantization_config": {"quant_method": "gptq"}}, r"quantised \(gptq\)"),
        ({"attention_multiplier": 0.5}, "attention_multiplier to 0.5"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ({"num_local_experts": 8}, "num_local_experts"),
        ({"sliding_window": 16}, "sliding_window"),
        ({"rope_interleaved": True}, "rope_interleaved"),
        ({"torch_dtype": "float8_e4m3fn"}, "float8_e4m3fn are not supported"),
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3 and not a divisor of the 4 heads"),
        ({"hidden_size": 66}, "hidden_size is 66 and not a multiple"),
        ({"head_dim": 7}, "Heads of 7 dimensions"),
        ({"hidden_size": None}, "does not say hidden_size"),
        ({"num_hidden_layers": "three"}, "num_hidden_layers is 'three' and not a positive integer"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes'"),
        ({"layer_types": ["full_attention"]}, "layer_types"),
        ({"layer_types": ["sliding_attention"] * 3}, "layer_types does not agree"),
        ({"architectures": "LlamaForCausalLM"}, "architectures is 'LlamaForCausalLM' and not a list"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'dynamic' of this model is not supported"),
        ({"rope_scaling": {"rope_type": "longrope", "short_factor": []}}, "'longrope'"),
        ({"rope_scaling": {"type": "linear"}}, "does not say factor"),
        ({"rope_scaling": {"type": "linear", "factor": -1}}, "factor is -1"),
        ({"rope_scaling": {"type": "linear", "factor": 2, "mrope_section": [1]}}, "mrope_section is not supported"),
        ({"rope_scaling": 4}, "rope_scaling is 4 and not an object"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "full_attention is not supported"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor of 0.5"),
    ],
)
def test_what_cannot_run_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as error:
        read(tmp_path, LLAMA | changes)
    assert error.value.hint and error.value.message.endswith(".")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MISTRAL | {"attention_bias": True}, "MistralForCausalLM sets attention_bias"),
        (QWEN2 | {"mlp_bias": True}, "mlp_bias"),
        ({**MISTRAL, "num_key_value_heads": None} | {"num_key_value_heads": 0}, "num_key_value_heads is 0"),
        ({k: v for k, v in QWEN2.items() if k != "num_key_value_heads"}, "does not say num_key_value_heads"),
        (QWEN2 | {"use_sliding_window": True, "layer_types": ["full_attention", "chunked", "x"]}, "layer_types"),
        (PHI3 | {"rope_scaling": {"type": "yarn", "factor": 2.0}}, "'yarn' of this model"),
    ],
)
def test_what_a_family_does_not_have_is_refused(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read(tmp_path, config)


def test_the_supported_architectures_are_listed(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        read(tmp_path, LLAMA | {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]})
    assert "Qwen3ForCausalLM" in error.value.hint and "Phi3ForCausalLM" in error.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not valid JSON"), ("[1]", "does not hold a JSON object"), (b"\xff\xfe", "not UTF-8")],
)
def test_a_broken_config(tmp_path: Path, content: str | bytes, message: str) -> None:
    (tmp_path / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ModelError, match=message):
        read_architecture(tmp_path)


def test_no_directory_and_no_config(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model directory"):
        read_architecture(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"has no config\.json"):
        read_architecture(tmp_path)
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ModelError, match="cannot be read"):
        read_architecture(tmp_path)
