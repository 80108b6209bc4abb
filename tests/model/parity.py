"""Compares a decoder over a paged cache with transformers' own forward pass, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from helix_cli.backend import Backend, open_backend
from helix_cli.cache.paged import PagedKVCache
from helix_cli.cache.table import BlockTable
from helix_cli.core import Draft, Row
from helix_cli.model.architecture import read_architecture
from helix_cli.model.loader import load_decoder
from helix_cli.model.runner import ModelRunner

BLOCK_SIZE = 4


def cpu(**changes: Any) -> Backend:
    """The CPU with one thread, and with other capabilities where a test wants them."""
    return replace(open_backend("cpu", threads=1), **changes)


def runner_for(path: Path, backend: Backend | None = None, dtype: torch.dtype = torch.float32) -> ModelRunner:
    """A loaded checkpoint over a pool of 64 blocks of four slots, none of which is zero to begin with."""
    decoder = load_decoder(path, read_architecture(path), backend or cpu(), dtype)
    cache = PagedKVCache(decoder.kv_shapes, 64, BLOCK_SIZE, dtype, "cpu", prefix_reuse=False)
    for layer in cache.layers:
        layer.fill_(50.0)  # a slot that is read without having been written shows
    return ModelRunner(decoder, cache)


def reference(path: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The same checkpoint in transformers."""
    factory: Any = AutoModelForCausalLM
    return factory.from_pretrained(path, attn_implementation="eager", dtype=dtype).eval()


def tokens_of(model: Any, count: int, seed: int = 0) -> list[int]:
    """Random token ids."""
    generator = torch.Generator().manual_seed(seed)
    tokens: list[int] = torch.randint(3, model.config.vocab_size, (count,), generator=generator).tolist()
    return tokens


@dataclass
class Text:
    """A sequence in the pool: `feed` computes some of it and compares with the reference's logits [len, V]."""

    runner: ModelRunner
    model: Any
    tokens: list[int]
    table: BlockTable

    def expected(self) -> Tensor:
        """transformers' logits [len, V] of the whole sequence, computed at once."""
        with torch.no_grad():
            logits: Tensor = self.model(torch.tensor([self.tokens])).logits[0].float()
        return logits

    def row(self, count: int, num_logits: int, num_drafted: int = 0) -> Row:
        """The next `count` tokens, the last `num_drafted` of them as a draft."""
        first = self.table.num_computed
        fed = self.tokens[first : first + count]
        drafted = fed[count - num_drafted :]
        draft = Draft(torch.tensor(drafted), num_drafted) if num_drafted else None
        return Row(self.table, fed[: count - num_drafted], num_logits, draft)

    def rows_of(self, row: Row) -> slice:
        """Which rows of `expected` belong to a row."""
        stop = self.table.num_computed + row.length
        return slice(stop - row.num_logits, stop)

    def feed(self, count: int, num_logits: int = 1, num_drafted: int = 0, keep: int | None = None) -> Tensor:
        """Computes `count` tokens, of which `keep` stay, and returns the largest difference from the reference."""
        row = self.row(count, num_logits, num_drafted)
        found = self.runner.forward([row])
        difference = (found - self.expected()[self.rows_of(row)]).abs().max()
        self.table.num_computed += count if keep is None else keep
        return difference


def contiguous_table(num_blocks: int, first: int = 3) -> BlockTable:
    """Blocks in one ascending run."""
    return BlockTable(list(range(first, first + num_blocks)))


def shuffled_table(num_blocks: int, seed: int = 0) -> BlockTable:
    """Blocks in no order."""
    order = torch.randperm(64, generator=torch.Generator().manual_seed(seed)).tolist()
    table = BlockTable(order[:num_blocks])
    assert not table.contiguous
    return table


def largest_difference(texts: Sequence[Text], rows: Sequence[Row]) -> float:
    """One forward pass over several sequences against the reference of each."""
    found = texts[0].runner.forward(rows)
    wanted = torch.cat([text.expected()[text.rows_of(row)] for text, row in zip(texts, rows, strict=True)])
    assert found.shape == wanted.shape and found.dtype == torch.float32
    return float((found - wanted).abs().max())
