"""Loads a checkpoint into transformers' modules, and makes of them a model over Helix's pool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helix_cli.backend import Backend
from helix_cli.errors import MemoryLimitError, ModelError
from helix_cli.model.fields import DOWNLOAD_AGAIN, UNRELATED
from helix_cli.model.hf import guard
from helix_cli.model.hf.attention import NAME, causal_attention, register
from helix_cli.model.hf.config import HFArchitecture
from helix_cli.model.hf.decoder import HFDecoder
from helix_cli.model.hf.linear import Rounder, use_products
from helix_cli.model.hf.quiet import briefly, quiet
from helix_cli.model.int8_loader import Int8Rounding
from helix_cli.model.linear import Product
from helix_cli.model.products import float_product, room_for
from helix_cli.model.weights import Weights

IGNORED = ("rotary_emb.inv_freq", "attn.bias", "attn.masked_bias", "attention.bias", "attention.masked_bias")
"""Endings of what old checkpoints store beside weights: rotary frequencies and causal masks."""
ROUNDED_TOLERANCE = 0.15
"""As guard.TOLERANCES: both ways multiply by the same matrices, but eight-bit inputs may be rounded to either side."""


def load_hf_decoder(
    directory: Path,
    shape: HFArchitecture,
    backend: Backend,
    dtype: torch.dtype,
    matrices: torch.dtype | Int8Rounding,
    tell: Callable[[str], None],
) -> HFDecoder:
    """A model that computes in `dtype`, with its matrices in another type or in eight bits where the device can.

    `tell` hears, in a sentence, of trouble with the cache of eight-bit weights. Raises ModelError for a checkpoint that
    does not fit, or a model that would be wrong over a paged cache.
    """
    register()
    with quiet():
        module = _module(directory, dtype).to(backend.device).eval()
        if not backend.fused_attention and hasattr(module, "set_experts_implementation"):
            # The default sorts tokens by expert, with operations that only the larger devices have.
            module.set_experts_implementation("batched_mm")
        module.set_attn_implementation(NAME)
        decoder = HFDecoder(shape, dtype, backend.device, backend.fused_attention, module, ())
        decoder = HFDecoder(shape, dtype, backend.device, backend.fused_attention, module, guard.probe(decoder))
        if backend.mixed_products:
            _use_products(decoder, backend, matrices, tell)
        rounded = isinstance(matrices, Int8Rounding) or matrices != dtype
        guard.compare(decoder, ROUNDED_TOLERANCE if rounded else guard.TOLERANCES[dtype])
    return decoder


def _module(directory: Path, dtype: torch.dtype) -> Any:
    """transformers' model with every weight of the checkpoint in it, and no other. Raises ModelError."""
    import transformers

    Weights(directory)  # safetensors only, and whole
    load: Any = transformers.AutoModelForCausalLM.from_pretrained
    try:
        module, info = load(
            directory,
            dtype=dtype,
            attn_implementation="eager",
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
    except (ValueError, RuntimeError, MemoryError, OSError, KeyError, TypeError) as error:
        if isinstance(error, MemoryError) or "memory" in str(error).lower():
            raise MemoryLimitError(
                f"There is no room to load {directory} in {str(dtype).removeprefix('torch.')}.",
                "Choose a smaller model or a narrower number type with --dtype.",
            ) from error
        raise ModelError(f"transformers cannot load {directory}: {briefly(error)}.", DOWNLOAD_AGAIN) from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(f"The checkpoint {directory} lacks the tensor {missing[0]}.", DOWNLOAD_AGAIN)
    if info["mismatched_keys"]:
        name, found, wanted = min(info["mismatched_keys"])
        raise ModelError(f"The tensor {name} is {list(found)}, but config.json asks for {list(wanted)}.", UNRELATED)
    unexpected = sorted(name for name in info["unexpected_keys"] if not name.endswith(IGNORED))
    if unexpected:
        raise ModelError(
            f"The checkpoint {directory} holds the tensor {unexpected[0]}, which such a model does not have.", UNRELATED
        )
    for name, tensor in module.named_parameters():
        if not all(bool(end.isfinite()) for end in tensor.detach().aminmax()):
            raise ModelError(
                f"The tensor {name} holds values that are not finite in {str(dtype).removeprefix('torch.')}.",
                "Download the checkpoint again, or use a wider number type.",
            )
    return module


def _use_products(
    decoder: HFDecoder, backend: Backend, matrices: torch.dtype | Int8Rounding, tell: Callable[[str], None]
) -> None:
    """Replaces the linear modules by Helix's products."""
    own = decoder.dtype if isinstance(matrices, Int8Rounding) else matrices
    room, embedding = room_for(own, backend), decoder.embedding

    def make(weight: Tensor, bias: Tensor | None) -> Product:
        # A tied head of the embedding's type needs no second copy.
        if weight.dtype != own or weight.data_ptr() != embedding.data_ptr():
            weight = room(tuple(weight.shape), dtype=own).copy_(weight)
        return float_product(weight, None if bias is None else bias.to(own), backend)

    if not isinstance(matrices, Int8Rounding):
        use_products(decoder.module, make)
        return
    tokens = calibration_tokens(matrices.calibration(), decoder.architecture)
    batch = guard.alone_batch(tokens, decoder.device)
    Rounder(matrices, make).round(decoder.module, lambda: decoder.logits(batch, causal_attention), tell)


def calibration_tokens(tokens: Sequence[int], shape: HFArchitecture) -> list[int]:
    """What of a text the model can read, at least one token."""
    return [token for token in tokens if token < shape.vocab_size][: shape.context] or [0]
