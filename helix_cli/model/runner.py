"""Runs one model over one pool; the same class serves the target and the draft."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from helix_cli.cache.paged import PagedKVCache
from helix_cli.core import Row
from helix_cli.model.batch import build_batch
from helix_cli.model.language_model import LanguageModel


def never() -> bool:
    """The stop flag of those who cannot be interrupted."""
    return False


class ModelRunner:
    """A model and the cache that its keys and values live in. `interrupted` is read between layers."""

    def __init__(self, decoder: LanguageModel, cache: PagedKVCache, interrupted: Callable[[], bool] = never) -> None:
        self.decoder = decoder
        self.cache = cache
        self.interrupted = interrupted
        self._forward = decoder.over(cache)

    @property
    def context(self) -> int:
        """Positions that the model was made for."""
        return self.decoder.architecture.context

    @torch.no_grad()
    def forward(self, rows: Sequence[Row]) -> Tensor:
        """Logits [R, vocab_size] in float32, R the sum of the rows' `num_logits`, in the rows' order.

        Writes the rows' K/V into the blocks that their tables own and moves no counter. Raises Interrupted.
        """
        return self._forward(build_batch(rows, self.decoder.device), self.interrupted)
