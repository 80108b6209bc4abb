"""What a loaded model is to everything around it: the native decoder is one, transformers' modules are another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from helix_cli.cache.paged import KVShape, PagedKVCache

if TYPE_CHECKING:
    from helix_cli.model.batch import Batch

Forward = Callable[["Batch", Callable[[], bool]], Tensor]
"""(batch, interrupted) -> logits [R, vocab_size] in float32 of the tokens asked for; raises Interrupted."""


class Shape(Protocol):
    """What a config.json says of a model, before any weight is read."""

    @property
    def family(self) -> str:
        """`model_type`."""
        ...

    @property
    def num_layers(self) -> int:
        """Layers, each with keys and values of its own."""
        ...

    @property
    def hidden(self) -> int:
        """Width of the hidden states."""
        ...

    @property
    def intermediate(self) -> int:
        """Width inside the MLP."""
        ...

    @property
    def vocab_size(self) -> int:
        """Columns of the logits."""
        ...

    @property
    def context(self) -> int:
        """Positions that the model was made for."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the stored weights."""
        ...


class LanguageModel(Protocol):
    """A loaded model. It holds no K/V and no state of a sequence, so any number of runners may share it."""

    @property
    def architecture(self) -> Shape:
        """Its shape."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the activations and of K/V."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    @property
    def kernel(self) -> str:
        """What attends; K/V on disk are kept apart by it."""
        ...

    @property
    def kv_shapes(self) -> Sequence[KVShape]:
        """What each layer keeps of a position."""
        ...

    @property
    def embedding(self) -> Tensor:
        """[vocab_size, hidden]."""
        ...

    @property
    def num_bytes(self) -> int:
        """Bytes of matrices that a pass reads."""
        ...

    def over(self, cache: PagedKVCache) -> Forward:
        """The forward pass that writes and reads this cache."""
        ...

    def truncated(self, num_layers: int) -> LanguageModel:
        """The first layers with the same embedding, norm and head; no weight is copied. Raises ModelError."""
        ...
