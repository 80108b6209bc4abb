"""What a checkpoint's config.json says about the model's shape."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from helix_cli.cache.paged import KVShape
from helix_cli.errors import ModelError
from helix_cli.model.fields import DOWNLOAD_AGAIN, Fields, read_json
from helix_cli.model.refusals import FAMILIES, NotNative, supported_family
from helix_cli.model.rope_settings import RopeSettings, read_rope

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# What transformers assumes where a config.json is silent.
MISTRAL_WINDOW = 4096
QWEN_FULL_LAYERS = 28
QWEN3_HEAD_DIM = 128


@dataclass(frozen=True)
class Architecture:
    """The shape of one Llama-family model."""

    family: str
    """`model_type`: llama, mistral, qwen2, qwen3 or phi3."""
    hidden: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate: int
    vocab_size: int
    context: int
    """Positions that the model was made for."""
    eps: float
    rope: RopeSettings
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool
    fused_projections: bool
    """The checkpoint stores query, key and value as one matrix, and gate and up as another."""
    tied: bool
    """The head is the embedding."""
    windows: tuple[int | None, ...]
    """For each layer the positions that a token sees, itself included; None sees all."""
    dtype: torch.dtype
    """Number type of the stored weights."""

    @property
    def kv_shapes(self) -> tuple[KVShape, ...]:
        """What each layer keeps of a position."""
        return (KVShape(self.num_kv_heads, self.head_dim, self.head_dim),) * self.num_layers

    def truncated(self, num_layers: int) -> Architecture:
        """The same with its first layers only."""
        return replace(self, num_layers=num_layers, windows=self.windows[:num_layers])


def read_architecture(directory: Path) -> Architecture:
    """Reads config.json. Raises ModelError for one that is missing, broken, or not supported."""
    if not directory.is_dir():
        raise ModelError(f"There is no model directory {directory}.", "Check the path.")
    path = directory / "config.json"
    if not path.exists():
        raise ModelError(f"{directory} has no config.json.", "Point to the directory of a Hugging Face checkpoint.")
    config = Fields(read_json(path), str(path))
    family = supported_family(config)
    heads = config.positive("num_attention_heads")
    kv_heads = _kv_heads(config, family, heads)
    head_dim = _head_dim(config, family, heads)
    num_layers, context = config.positive("num_hidden_layers"), config.positive("max_position_embeddings")
    bias = family in ("llama", "qwen3") and config.flag("attention_bias")
    return Architecture(
        family=family,
        hidden=config.positive("hidden_size"),
        num_layers=num_layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=config.positive("intermediate_size"),
        vocab_size=config.positive("vocab_size"),
        context=context,
        eps=config.number("rms_norm_eps"),
        rope=read_rope(config, family, head_dim, context),
        qkv_bias=bias or family == "qwen2",
        output_bias=bias,
        mlp_bias=family == "llama" and config.flag("mlp_bias"),
        qk_norm=family == "qwen3",
        fused_projections=family == "phi3",
        tied=config.flag("tie_word_embeddings"),
        windows=_windows(config, family, num_layers),
        dtype=_dtype(config),
    )


def _kv_heads(config: Fields, family: str, heads: int) -> int:
    # An absent field means other numbers in other families' defaults; null means one per query head in all.
    if "num_key_value_heads" not in config.values and family not in ("llama", "phi3"):
        raise ModelError(f"{config.source} does not say num_key_value_heads.", DOWNLOAD_AGAIN)
    kv_heads = config.positive("num_key_value_heads", heads)
    if heads % kv_heads:
        raise config.wrong("num_key_value_heads", f"a divisor of the {heads} heads")
    return kv_heads


def _head_dim(config: Fields, family: str, heads: int) -> int:
    if "head_dim" in config:
        head_dim = config.positive("head_dim")
    elif family == "qwen3":
        head_dim = QWEN3_HEAD_DIM
    elif config.positive("hidden_size") % heads == 0:
        head_dim = config.positive("hidden_size") // heads
    else:
        raise config.wrong("hidden_size", f"a multiple of the {heads} heads")
    if head_dim % 2:
        raise NotNative(f"Heads of {head_dim} dimensions are not supported.", "Rotary embeddings need an even number.")
    return head_dim


def _windows(config: Fields, family: str, num_layers: int) -> tuple[int | None, ...]:
    kinds = config.texts("layer_types")
    if not set(kinds) <= {"full_attention", "sliding_attention"} or len(kinds) not in (0, num_layers):
        raise config.wrong("layer_types", f"full_attention or sliding_attention for each of the {num_layers} layers")
    window = _window(config, family)
    windows: list[int | None] = [window] * num_layers
    if family in ("qwen2", "qwen3"):
        full = config.number("max_window_layers", QWEN_FULL_LAYERS)
        given = kinds or ["full_attention" if index < full else "sliding_attention" for index in range(num_layers)]
        windows = [window if kind == "sliding_attention" else None for kind in given]
    if kinds and [kind == "sliding_attention" for kind in kinds] != [one is not None for one in windows]:
        raise NotNative(
            f"In {config.source}, layer_types does not agree with the sliding window of a {FAMILIES[family]}.",
            "Such a mix of layers is not supported; choose another checkpoint.",
        )
    return tuple(windows)


def _window(config: Fields, family: str) -> int | None:
    """The sliding window of the layers that have one."""
    if family in ("qwen2", "qwen3") and not config.flag("use_sliding_window"):
        return None
    if family == "mistral" and "sliding_window" not in config.values:
        return MISTRAL_WINDOW
    return config.positive("sliding_window") if "sliding_window" in config else None


def _dtype(config: Fields) -> torch.dtype:
    name = config.text("dtype" if "dtype" in config else "torch_dtype", "float32").removeprefix("torch.")
    if name not in DTYPES:
        raise ModelError(f"Weights in {name} are not supported.", f"Choose a checkpoint in {', '.join(DTYPES)}.")
    return DTYPES[name]
