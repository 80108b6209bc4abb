"""Runs one model over one pool; the same class serves the target and the draft."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from helix_cli.cache.paged import PagedKVCache
from helix_cli.core import Row
from helix_cli.errors import Interrupted
from helix_cli.model.batch import build_batch
from helix_cli.model.language_model import LanguageModel
from helix_cli.model.windows import windows_over


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
        self.windows = windows_over(decoder, cache)

    @property
    def context(self) -> int:
        """Positions that the model was made for."""
        return self.decoder.architecture.context

    @torch.no_grad()
    def forward(self, rows: Sequence[Row]) -> Tensor:
        """Logits [R, vocab_size] in float32, R the sum of the rows' `num_logits`, in the rows' order.

        Writes the rows' K/V into the blocks that their tables own and moves no counter. Raises Interrupted.
        """
        if self.windows is not None:
            if self.interrupted():
                raise Interrupted
            logits = self.windows.forward(rows)
            if logits is not None:
                return logits
        return self._forward(build_batch(rows, self.decoder.device), self.interrupted)

    @torch.no_grad()
    def draft(self, rows: Sequence[Row], depth: int, vocab_size: int) -> list[list[int]] | None:
        """`depth` likeliest tokens below `vocab_size` after each row, see `Windows.draft`; None: not in one go here."""
        if self.windows is None:
            return None
        if self.interrupted():
            raise Interrupted
        return self.windows.draft(rows, depth, vocab_size)
