"""Exact mode: a token's logits have the same bits in any company, so that speculation cannot change a text at all.

Company is whatever else is in the forward pass: a draft, a longer chunk of the prompt, another sequence. Attention
computes each token alone (attention/torch_exact.py). Everything else works row by row, and what is left to know is
whether the matrix kernels of this machine keep a row's bits when there are more rows or fewer. Nobody promises that.
But it hangs on the shapes and not on the numbers, so two layers of the model itself are asked, once for each machine
and shape of model.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from helix_cli.backend import Backend
from helix_cli.cache.paged import PagedKVCache, num_blocks_for
from helix_cli.cache.table import BlockTable
from helix_cli.core import Row
from helix_cli.errors import DeviceError
from helix_cli.model.decoder import Decoder
from helix_cli.model.language_model import LanguageModel
from helix_cli.model.runner import ModelRunner
from helix_cli.model.speed import kernel_version
from helix_cli.storage import Storage, read_record, write_record

KIND: Final = "measurements"
CHEAP_LAYER_BYTES: Final = 32 << 20
"""Where a layer reads this much, a plain step costs less than 3 % more up to 500 tokens; docs/benchmarks.md."""
LEAST_ROWS: Final = (1, 4)
"""Where a single row has a kernel of its own, it gets company: four rows cost less than two on some processors."""
COMPANIES: Final = (100, 64, 33, 32, 17, 16, 13, 9, 7, 6, 8, 5, 4, 3, 2, 1, 1)
"""Rows of one pass that the probe tries, beside all of them together."""
NUM_COMPARED: Final = 24
"""Tokens whose logits are compared: those of the last companies. Of all others K/V are."""
BLOCK_SIZE: Final = 16


@dataclass(frozen=True)
class Exactness:
    """Whether exact mode is on and why, and the model to run."""

    is_on: bool
    reason: str
    model: LanguageModel


def choose_exactness(requested: str, model: LanguageModel, backend: Backend, storage: Storage) -> Exactness:
    """Decides for `requested` auto, on or off; raises DeviceError where on cannot be had."""

    def without(reason: str) -> Exactness:
        return Exactness(False, reason, model)

    if requested == "off":
        return without("switched off")
    decoder = model
    if not isinstance(decoder, Decoder):
        reason = "a model that runs through transformers' modules computes a token otherwise in other company"
    elif not backend.rowwise_kernels:
        reason = f"on {backend.description} a token's last bits depend on what else runs"
    elif requested == "auto" and _layer_bytes(decoder) < CHEAP_LAYER_BYTES:
        return without("auto leaves it off for a model as small as this, where it may cost more than 3 %")
    elif requested == "auto" and not _is_free(decoder):
        return without("auto leaves it off for float weights, where long prompts would take longer")
    elif (least := _least_rows(decoder, backend, storage)) is None:
        reason = "the matrix products of this machine give a token other last bits when more tokens run beside it"
    elif requested == "auto" and least > 1:
        return without("auto leaves it off on this machine, where it may cost more than 3 %")
    else:
        return Exactness(True, "nothing that runs beside a token can change it", decoder.tokenwise(least))
    if requested == "on":
        raise DeviceError(f"Exact mode cannot be had: {reason}.", "Leave model.exact at auto, or set it to off.")
    return without(reason)


def is_exact(decoder: Decoder) -> bool:
    """Whether two layers and the head give every token of a text the same bits however the text is cut into passes."""
    short = decoder.truncated(min(2, decoder.architecture.num_layers))
    generator = torch.Generator().manual_seed(0)
    context = decoder.architecture.context
    companies = [rows for place, rows in enumerate(COMPANIES) if sum(COMPANIES[place:]) <= context]
    count = sum(companies)
    tokens: list[int] = torch.randint(decoder.architecture.vocab_size, (count,), generator=generator).tolist()
    together, apart = _Text(short, tokens, shuffled=False), _Text(short, tokens, shuffled=True)
    together.feed(count, min(NUM_COMPARED, count))
    for rows in companies:
        is_compared = count - apart.table.num_computed <= NUM_COMPARED
        apart.feed(rows, rows if is_compared else 0)
    return together.equals(apart)


class _Text:
    """A text in a pool of its own, fed bit by bit."""

    def __init__(self, decoder: Decoder, tokens: list[int], shuffled: bool) -> None:
        num_blocks = num_blocks_for(len(tokens), BLOCK_SIZE)
        self._cache = PagedKVCache(
            decoder.kv_shapes, num_blocks, BLOCK_SIZE, decoder.dtype, decoder.device, prefix_reuse=False
        )
        self._runner = ModelRunner(decoder, self._cache)
        self._tokens = tokens
        self.table = BlockTable(list(range(num_blocks))[:: -1 if shuffled else 1])
        self._logits: list[Tensor] = []

    def feed(self, count: int, num_logits: int) -> None:
        """One pass over the next `count` tokens."""
        first = self.table.num_computed
        row = Row(self.table, self._tokens[first : first + count], num_logits)
        self._logits.append(self._runner.forward([row]))
        self.table.num_computed += count

    def equals(self, other: _Text) -> bool:
        """Whether K/V of the last layer and the logits are the same, bit for bit."""
        found = [
            (one._cache.layers[-1][:, :, one.table.slots(0, len(one._tokens), BLOCK_SIZE)], torch.cat(one._logits))
            for one in (self, other)
        ]
        return all(torch.equal(mine, theirs) for mine, theirs in zip(*found, strict=True))


def _layer_bytes(decoder: Decoder) -> float:
    """Bytes of weights that a layer reads, on average."""
    return (sum(product.num_bytes for product in decoder.products) - decoder.head.num_bytes) / len(decoder.layers)


def _is_free(decoder: Decoder) -> bool:
    """Whether most of what a pass multiplies by runs the very same kernels in exact mode."""
    same = sum(product.num_bytes for product in decoder.products if product.uniform(1) is product)
    return 2 * same > sum(product.num_bytes for product in decoder.products)


def _least_rows(decoder: Decoder, backend: Backend, storage: Storage) -> int | None:
    """The fewest rows from which the products keep a row's bits, measured or known from an earlier run."""
    key = _key(decoder, backend)
    known = read_record(storage, KIND, key)
    if known not in (0, *LEAST_ROWS):
        known = next((least for least in LEAST_ROWS if is_exact(decoder.tokenwise(least))), 0)
        write_record(storage, KIND, key, f"exactness of {len(decoder.layers)} layers", known)
    return known or None


def _key(decoder: Decoder, backend: Backend) -> str:
    """A name for all that the answer depends on."""
    products = [(type(product).__name__, product.num_bytes) for product in decoder.products]
    facts = [backend.description, torch.__version__, kernel_version(), decoder.dtype, decoder.heads]
    facts += [decoder.architecture, products]
    return "exact-" + hashlib.blake2b(repr(facts).encode(), digest_size=16).hexdigest()
