"""Tiny random models of many families, made by transformers itself: those that run, and those that must be refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from helix_cli.cache.paged import PagedKVCache
from helix_cli.model.hf.config import read_hf_architecture
from helix_cli.model.hf.decoder import HFDecoder
from helix_cli.model.hf.loading import load_hf_decoder
from helix_cli.model.runner import ModelRunner
from tests.model.parity import BLOCK_SIZE, cpu

SMALL: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2: dict[str, Any] = {
    "vocab_size": 96,
    "n_positions": 128,
    "n_embd": 32,
    "n_layer": 4,
    "n_head": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
ALTERNATING = ["sliding_attention", "full_attention"] * 2
DEEPSEEK: dict[str, Any] = {
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "num_key_value_heads": 4,
}

# Family -> what its config says beside SMALL; `model_type` is the name before a slash.
RUNNING: dict[str, dict[str, Any]] = {
    "llama/gelu": {"hidden_act": "gelu"},
    "gemma": {},
    "gemma2": {
        "layer_types": ALTERNATING,
        "sliding_window": 7,
        "query_pre_attn_scalar": 8,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 5.0,
    },
    "gemma3_text": {"layer_types": ALTERNATING, "sliding_window": 7, "query_pre_attn_scalar": 8},
    "gemma3n_text": {
        "layer_types": ALTERNATING,
        "sliding_window": 7,
        "num_kv_shared_layers": 2,
        "vocab_size_per_layer_input": 96,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 4,
        "altup_num_inputs": 2,
    },
    "phi": {"num_key_value_heads": 4},
    "gpt_neox": {},
    "gpt2": GPT2,
    "gpt2/scaled": GPT2 | {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
    "gpt_bigcode": GPT2,
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32, "do_layer_norm_before": True},
    "stablelm": {},
    "starcoder2": {"sliding_window": 7},
    "cohere": {"logit_scale": 0.5},
    "cohere2": {"layer_types": ALTERNATING, "sliding_window": 7},
    "olmo2": {},
    "granite": {
        "embedding_multiplier": 3.0,
        "logits_scaling": 2.0,
        "residual_multiplier": 0.5,
        "attention_multiplier": 0.3,
    },
    "smollm3": {"no_rope_layers": [1, 1, 1, 0]},
    "mixtral": EXPERTS | {"sliding_window": 7},
    "qwen2_moe": EXPERTS | {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 32},
    "qwen3_moe": EXPERTS | {"moe_intermediate_size": 32},
    "nemotron": {},
    "gpt_oss": EXPERTS | {"layer_types": ALTERNATING, "sliding_window": 7},
    "deepseek_v3": DEEPSEEK,
    # It takes a view of what its attention returns, which others reshape.
    "afmoe": EXPERTS | {"moe_intermediate_size": 32, "layer_types": ALTERNATING, "sliding_window": 7},
    # It asks for the type of a matrix that a product has replaced.
    "hunyuan_v1_moe": EXPERTS,
}
# What must be refused, and one part of the reason.
REFUSED: dict[str, dict[str, Any]] = {
    "bloom": {"n_layer": 4, "n_head": 4, "hidden_size": 32, "vocab_size": 96},
    "mpt": {"n_layers": 4, "n_heads": 4, "d_model": 32, "vocab_size": 96, "max_seq_len": 128, "expansion_ratio": 2},
    "falcon": {"vocab_size": 96, "hidden_size": 32, "num_layers": 4, "num_attention_heads": 4},
    "gptj": GPT2 | {"rotary_dim": 4},
    "gpt_neo": {
        "num_layers": 4,
        "num_heads": 4,
        "hidden_size": 32,
        "vocab_size": 96,
        "max_position_embeddings": 128,
        "attention_types": [[["global", "local"], 2]],
        "window_size": 7,
    },
    "codegen": GPT2 | {"rotary_dim": 4},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 4, "vocab_size": 96, "state_size": 4},
    "qwen3_next": EXPERTS | {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 32},
    "llama4_text": EXPERTS | {"attention_chunk_size": 7, "intermediate_size_mlp": 48},
    "qwen2_moe/window": EXPERTS
    | {
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 32,
        "use_sliding_window": True,
        "sliding_window": 7,
        "max_window_layers": 0,
    },
    "phi3/longrope": {
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0] * 4,
            "long_factor": [2.0] * 4,
            "original_max_position_embeddings": 64,
        },
        "original_max_position_embeddings": 64,
    },
    "gemma/dynamic": {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}},
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 96},
}


def config_of(name: str, **other: Any) -> Any:
    """The config of a family from one of the tables."""
    own = (RUNNING | REFUSED)[name]
    small = {} if own is GPT2 or {"n_layer", "n_layers", "num_layers", "d_model"} & set(own) else SMALL
    return transformers.AutoConfig.for_model(name.split("/")[0], **(small | own | other))


def make(name: str, seed: int = 0, **other: Any) -> Any:
    """A model with weights so large that every part shows in the logits, in float32, not training."""
    torch.manual_seed(seed)
    config = config_of(name, **other)
    factory: Any = (
        transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    )
    model = factory.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.ndim == 1 and key.endswith("weight"):
                parameter.add_(0.2 * torch.randn_like(parameter))
            else:
                scale = 0.3 if parameter.ndim == 1 or "embed" in key else 1.5 * parameter.shape[-1] ** -0.5
                parameter.normal_(0.0, scale)
    return model


def load(path: Path, **capabilities: Any) -> HFDecoder:
    """A checkpoint in float32 on the CPU, which may have other capabilities."""
    backend = cpu(**capabilities)
    return load_hf_decoder(path, read_hf_architecture(path), backend, torch.float32, torch.float32, lambda note: None)


def runner_over(decoder: HFDecoder) -> ModelRunner:
    """A runner over a pool of 64 blocks of four slots, none of which is zero to begin with."""
    cache = PagedKVCache(decoder.kv_shapes, 64, BLOCK_SIZE, torch.float32, "cpu", prefix_reuse=False)
    for layer in cache.layers:
        layer.fill_(50.0)  # a slot that is read without having been written shows
    return ModelRunner(decoder, cache)
