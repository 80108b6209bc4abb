"""Whether models and their cache fit a device: what is needed, what is free, and how much the cache may then hold.

The loader, `helix plan` and the refusals all ask this one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import torch

from helix_cli.backend import NUMBER_TYPES, Backend
from helix_cli.cache.paged import bytes_per_block, num_blocks_for
from helix_cli.model.architecture import Architecture
from helix_cli.model.formats import INT8, name_of, why_no_int8
from helix_cli.model.hf.config import HFArchitecture
from helix_cli.model.implementation import AnyShape
from helix_cli.model.int8_kernels import best_kernel
from helix_cli.model.language_model import LanguageModel
from helix_cli.model.products import float_kernel
from helix_cli.planning.any_model import kv_values, weight_size, widths
from helix_cli.planning.sizes import (
    Step,
    Stored,
    WeightSize,
    Widths,
    activation_bytes,
    attention_bytes,
    draft_law_bytes,
    logits_bytes,
)

ASSUMED_FREE_BYTES: Final = 2 * 2**30
"""Some devices do not say how much memory is free; this much is safe to assume of one that runs a language model."""


@dataclass(frozen=True)
class ModelMemory:
    """One model as it would be loaded."""

    role: str
    """target or draft."""
    widths: Widths
    kv_values: int
    """Numbers that are kept of one position."""
    dtype: torch.dtype
    weights: str
    """The format of its matrices."""
    size: WeightSize
    """Of its own weights; nothing for a draft that is part of the target."""
    formats: Mapping[str, WeightSize] = field(default_factory=dict)
    """The same in every format that this device can have, the present one included."""

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one position."""
        return self.kv_values * self.dtype.itemsize


@dataclass(frozen=True)
class MemoryPlan:
    """What a config takes of a device's memory. All sizes are bytes."""

    models: tuple[ModelMemory, ...]
    """The target, and the model that drafts if one does."""
    step: Step
    fused_attention: bool
    mixed_products: bool
    """See `Backend`."""
    block_size: int
    memory_share: float
    fixed_blocks: int | None
    """Where the config says how many blocks there are."""
    free: int | None
    """Before anything is loaded; None where the device does not say."""

    @property
    def weights(self) -> int:
        """The weights of all models."""
        return sum(model.size.kept for model in self.models)

    @property
    def block_bytes(self) -> int:
        """One block in the pool of every model."""
        return self.block_size * sum(model.kv_bytes_per_token for model in self.models)

    @property
    def logits(self) -> int:
        """Logits of the largest step, and the laws that a draft model's tokens were drawn from."""
        law = draft_law_bytes(self.models[0].widths, self.step) if len(self.models) > 1 else 0
        return law + max(logits_bytes(model.widths, model.dtype, self.step) for model in self.models)

    @property
    def activations(self) -> int:
        """Hidden states of the largest step; the models take turns."""
        return max(activation_bytes(one.widths, one.dtype, self.step) for one in self.models)

    @property
    def least(self) -> int:
        """What must be free to load the models one after the other, and to run a step of them with one block."""
        loaded = peak = 0
        for model in self.models:
            peak = max(peak, loaded + sum(model.size))
            loaded += model.size.kept
        return max(peak, loaded + self.logits + self.activations + self.block_bytes)

    @property
    def fits(self) -> bool:
        """Whether the models can be loaded and run, if only with a short context; True where the device is silent."""
        return self.free is None or self.least <= self.free

    @property
    def room_for_blocks(self) -> int:
        """Blocks that there is memory for beside everything else, whatever share of it the cache may take."""
        return max(0, self._left() // self.block_bytes)

    @property
    def num_blocks(self) -> int:
        """The blocks of each pool: what the config says, or what its share of the memory holds, but no more than can
        be used. 0 where not even one fits."""
        if self.fixed_blocks is not None:
            return self.fixed_blocks
        affordable = int(max(0, self._left()) * self.memory_share) // self.block_bytes
        usable = num_blocks_for(self.models[0].widths.context, self.block_size) * self.step.texts
        return min(usable, affordable)

    @property
    def num_tokens(self) -> int:
        """Positions that the cache holds, of all texts together."""
        return self.num_blocks * self.block_size

    def cache_bytes(self, context: int, texts: int) -> int:
        """Keys and values of so many texts of that length, in whole blocks."""
        return num_blocks_for(context, self.block_size) * texts * self.block_bytes

    def attention(self, context: int) -> int:
        """What a step of one text of that length needs beside its hidden states."""
        tokens = min(self.step.tokens, context)
        return max(attention_bytes(m.widths, m.dtype, tokens, context, self.fused_attention) for m in self.models)

    def holds(self, context: int, texts: int) -> bool:
        """Whether so many texts of that length can run at one time, beside the whole of the pools."""
        if not self.fits or num_blocks_for(context, self.block_size) * texts > self.num_blocks:
            return False
        return self.free is None or self.num_blocks * self.block_bytes + self.attention(context) <= self._left()

    def _left(self) -> int:
        """What is free beside the weights and a step."""
        free = ASSUMED_FREE_BYTES + self.weights if self.free is None else self.free
        return free - self.weights - self.logits - self.activations


def model_memory(role: str, shape: AnyShape, dtype: torch.dtype, weights: str, backend: Backend) -> ModelMemory:
    """A model with its own weights."""

    def size(name: str) -> WeightSize:
        return weight_size(shape, stored_as(dtype, name, backend))

    formats = {name: size(name) for name in {**dict.fromkeys(available_formats(dtype, backend)), weights: None}}
    return ModelMemory(role, widths(shape), kv_values(shape), dtype, weights, formats[weights], formats)


def loaded_memory(role: str, model: LanguageModel) -> ModelMemory:
    """A model whose weights are in memory already, and count no more."""
    shape = model.architecture
    assert isinstance(shape, Architecture | HFArchitecture)
    kept = bytes_per_block(model.kv_shapes, block_size=1, itemsize=1)
    return ModelMemory(role, widths(shape), kept, model.dtype, "", WeightSize(0))


def stored_as(dtype: torch.dtype, weights: str, backend: Backend) -> Stored:
    """How the loader would keep a model; where a device computes in the format of its weights, in that."""
    if weights == INT8:
        kernel = best_kernel() if backend.mixed_products else None
        return Stored(dtype, weights, "triton" if kernel is None else kernel.name)
    matrices = NUMBER_TYPES[weights]
    return Stored(dtype if backend.mixed_products else matrices, weights, float_kernel(matrices, backend))


def available_formats(dtype: torch.dtype, backend: Backend) -> list[str]:
    """The formats that a model's matrices can have here, the widest first."""
    eight = [] if why_no_int8(backend, dtype) else [INT8]
    if not backend.mixed_products:
        return [*(name for name, one in NUMBER_TYPES.items() if one in backend.dtypes), *eight]
    names = {"float32", "bfloat16", name_of(dtype)}
    return [*(name for name in NUMBER_TYPES if name in names), *eight]
