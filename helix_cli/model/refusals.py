"""What this decoder would silently get wrong, refused by name before any weight is read."""

from __future__ import annotations

from typing import Any

from helix_cli.errors import ModelError
from helix_cli.model.fields import Fields

FAMILIES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
}
"""`model_type` and the one architecture of it that is a language model."""

WORKING = f"These work: {', '.join(FAMILIES.values())}."

# Fields by which relatives of these families change the arithmetic, and the values at which they change nothing.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "hidden_activation": ("silu",),
    "attention_multiplier": (),
    "embedding_multiplier": (1,),
    "residual_multiplier": (1,),
    "logits_scaling": (1,),
    "logit_scale": (1,),
    "scale_emb": (1,),
    "scale_depth": (),
    "dim_model_base": (),
    "query_pre_attn_scalar": (),
    "attn_logit_softcapping": (),
    "final_logit_softcapping": (),
    "clip_qkv": (),
    "qk_layernorm": (False,),
    "use_qk_norm": (False,),
    "rope_interleaved": (False,),
    "no_rope_layers": ([],),
    "attention_chunk_size": (),
    "position_embedding_type": ("rope", "rotary"),
    "alibi": (False,),
    "use_parallel_residual": (False,),
    "num_experts": (0, 1),
    "num_local_experts": (0, 1),
    "n_routed_experts": (0,),
    "add_cross_attention": (False,),
    "is_encoder_decoder": (False,),
}
# Fields that some of the families honour; elsewhere they must be off.
_ONLY_IN: dict[str, tuple[str, ...]] = {
    "attention_bias": ("llama", "qwen3"),
    "mlp_bias": ("llama",),
    "sliding_window": ("mistral", "phi3", "qwen2", "qwen3"),
    "use_sliding_window": ("qwen2", "qwen3"),
}
# Qwen2 has its biases with or without the field that Llama reads.
_IMPLIED = {("attention_bias", "qwen2")}


class NotNative(ModelError):
    """A model that the native decoder does not compute; another way to run it may."""


def supported_family(config: Fields) -> str:
    """The family of a config.json. Raises NotNative, with its name and what works, where it would come out wrong."""
    refuse_quantised(config)
    family = config.text("model_type", "unknown")
    names = config.texts("architectures")
    if family not in FAMILIES or (names and FAMILIES[family] not in names):
        raise NotNative(f"The architecture {names[0] if names else family} is not supported.", WORKING)
    for name, harmless in _HARMLESS.items():
        if name in config and config.values[name] not in harmless:
            raise _refusal(config, family, name)
    for name, families in _ONLY_IN.items():
        if config.values.get(name) and family not in families and (name, family) not in _IMPLIED:
            raise _refusal(config, family, name)
    return family


def refuse_quantised(config: Fields) -> None:
    """Raises ModelError for a checkpoint whose weights are stored in fewer bits."""
    if "quantization_config" not in config:
        return
    value = config.values["quantization_config"]
    method = value.get("quant_method") if isinstance(value, dict) else None
    raise ModelError(
        f"This checkpoint is quantised ({method or 'by an unnamed method'}), which is not supported.",
        "Choose the checkpoint in bfloat16, float16 or float32 that it was made from.",
    )


def _refusal(config: Fields, family: str, name: str) -> NotNative:
    value = config.values[name]
    if name in ("hidden_act", "hidden_activation"):
        return NotNative(f"The activation '{value}' is not supported.", "Only silu is.")
    return NotNative(f"This {FAMILIES[family]} sets {name} to {value!r}, which is not supported.", WORKING)
