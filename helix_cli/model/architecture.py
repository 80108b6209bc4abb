"""What a checkpoint's config.json says about its shape, or why it cannot run here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from helix_cli.errors import ModelError
from helix_cli.model.rope import ROPE_TYPES

FAMILIES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Phi3ForCausalLM": "phi3",
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Architecture:
    """The shape of one Llama-family model."""

    family: str
    hidden: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate: int
    vocab_size: int
    context: int
    eps: float
    rope: dict[str, Any]
    rotary_dim: int
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool
    fused_projections: bool
    """The checkpoint stores query, key and value as one matrix, and gate and up as another."""
    tied: bool
    windows: tuple[int | None, ...]
    """For each layer the positions a token sees, itself included; None sees all."""
    dtype: torch.dtype
    """Number type of the stored weights."""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; raises ModelError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read: {error}.", "Check the path and its permissions.") from None
    except json.JSONDecodeError as error:
        raise ModelError(f"{path} is not valid JSON: {error}.", "Download the checkpoint again.") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} does not hold a JSON object.", "Download the checkpoint again.")
    return value


def read_architecture(directory: Path) -> Architecture:
    """Reads and checks config.json; raises ModelError for what is missing, broken or not supported."""
    path = directory / "config.json"
    if not path.is_file():
        raise ModelError(f"{directory} has no config.json.", "Point to a Hugging Face model directory.")
    config = read_json(path)
    family = _family(config)
    try:
        return _architecture(config, family)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelError(
            f"{path} lacks or garbles what a {family} model needs: {error!r}.", "Download the checkpoint again."
        ) from None


def _family(config: dict[str, Any]) -> str:
    name = (config.get("architectures") or [None])[0] or config.get("model_type") or "an unnamed architecture"
    family = FAMILIES.get(name) or (name if name in FAMILIES.values() else None)
    if family is None:
        raise ModelError(f"{name} is not supported.", f"These work: {', '.join(FAMILIES)}.")
    for key, plain, meaning in (
        ("hidden_act", ("silu",), "activation"),
        ("quantization_config", (None,), "quantisation"),
        ("pretraining_tp", (None, 1), "sliced projection"),
        ("add_cross_attention", (None, False), "cross attention"),
    ):
        if config.get(key, plain[0]) not in plain:
            value = config[key].get("quant_method", "?") if isinstance(config[key], dict) else config[key]
            raise ModelError(f"This {family} model uses {meaning} '{value}', which is not supported.", "Use another.")
    return family


def _architecture(config: dict[str, Any], family: str) -> Architecture:
    heads, hidden, layers = config["num_attention_heads"], config["hidden_size"], config["num_hidden_layers"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or hidden // heads
    if heads % kv_heads or min(heads, hidden, layers, kv_heads, head_dim) < 1 or head_dim % 2:
        raise ValueError(f"{heads} heads of {head_dim} over {kv_heads} key/value heads")
    rope = _rope(config)
    bias = bool(config.get("attention_bias", False))
    return Architecture(
        family=family,
        hidden=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=config["intermediate_size"],
        vocab_size=config["vocab_size"],
        context=config["max_position_embeddings"],
        eps=config.get("rms_norm_eps", 1e-6),
        rope=rope,
        rotary_dim=int(head_dim * rope.get("partial_rotary_factor", 1.0)),
        qkv_bias=family == "qwen2" or (family in ("llama", "qwen3") and bias),
        output_bias=family in ("llama", "qwen3") and bias,
        mlp_bias=family == "llama" and bool(config.get("mlp_bias", False)),
        qk_norm=family == "qwen3",
        fused_projections=family == "phi3",
        tied=bool(config.get("tie_word_embeddings", family == "llama" and False)),
        windows=_windows(config, family, layers),
        dtype=DTYPES.get(str(config.get("dtype") or config.get("torch_dtype")), torch.float32),
    )


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """One form for what checkpoints write as rope_parameters, or as rope_theta and rope_scaling."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = given.get("rope_type") or given.get("type") or "default"
    if kind not in ROPE_TYPES:
        raise ModelError(f"The position encoding '{kind}' is not supported.", f"These work: {', '.join(ROPE_TYPES)}.")
    rope = {"rope_theta": config.get("rope_theta", 10000.0), **given, "rope_type": kind}
    rope.setdefault("partial_rotary_factor", config.get("partial_rotary_factor") or 1.0)
    if rope.get("original_max_position_embeddings") is None and config.get("original_max_position_embeddings"):
        rope["original_max_position_embeddings"] = config["original_max_position_embeddings"]
    return rope


def _windows(config: dict[str, Any], family: str, layers: int) -> tuple[int | None, ...]:
    window = config.get("sliding_window")
    if family == "llama" or window is None:
        return (None,) * layers
    if family in ("mistral", "phi3"):
        return (window,) * layers
    if not config.get("use_sliding_window", False):
        return (None,) * layers
    kinds = config.get("layer_types") or [
        "sliding_attention" if index >= config.get("max_window_layers", 28) else "full_attention"
        for index in range(layers)
    ]
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)
