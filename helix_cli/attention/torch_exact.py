"""Paged attention in which a token gets the same bits in any company: the kernel of exact mode.

A kernel's last bits depend on the shape that it is called with: `scaled_dot_product_attention` sums one query over 500
keys otherwise than five, or one over 512. Here the shape belongs to the token alone. The query heads that share K/V are
the rows, the keys reach to the end of the token's group of positions, masked behind the token, and every token is an
entry of the batch dimension, which the kernel works through one by one. A prompt's chunk, a plain decode step and a
verification therefore compute a token by the same operations in the same order, wherever the chunk begins and whoever
else runs.

K/V is read once for each token instead of once for all. A plain step has but one; what it costs in a verification is in
docs/tradeoffs.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from helix_cli.attention.kernel import Span
from helix_cli.attention.torch_paged import Read, TorchPaged, TorchPlan
from helix_cli.cache.table import BlockTable

GROUP = 16
"""Positions whose tokens read equally many keys, and share a call. What lies behind a token is masked, and finite."""


class TorchExact(TorchPaged):
    """See `AttentionKernel`."""

    @property
    def num_rows(self) -> int:
        """Query heads that share K/V, and a row of zeros if need be to make them even.

        Each thread has a piece of one scratch buffer. With an odd number of rows the pieces begin at other remainders
        of 16 bytes, and the small matrix products inside depend on that: a token's bits would change with the thread.
        """
        return self.heads.group + self.heads.group % 2

    def plan(self, spans: Sequence[Span]) -> ExactPlan:
        return ExactPlan(self, spans)


class ExactPlan(TorchPlan):
    """One forward pass; see `Attend`."""

    _kernel: TorchExact

    def _plan_reads(self, span: Span, window: int | None) -> list[Read]:
        """A read for each group of positions that the span reaches into."""
        stop = span.first + span.length
        reads: list[Read] = []
        for group in range(span.first // GROUP * GROUP, stop, GROUP):
            first, end = max(group, span.first), min(group + GROUP, stop)
            # Whole groups again, because the length of the scratch buffer's pieces follows the number of keys.
            low = 0 if window is None else max(0, group - window + 1) // GROUP * GROUP
            begin, blocks = self._find(span.table, low, group + GROUP)
            mask = self._kernel.masks.get(GROUP, group - low, window)[first - group : end - group, None, None]
            mask = mask.expand(-1, 1, self._kernel.num_rows, -1)
            start = span.start + first - span.first
            reads.append(Read(start, end - first, begin, group + GROUP - low, blocks, mask, causal=False))
        return reads

    def _find(self, table: BlockTable, low: int, stop: int) -> tuple[int, Tensor | None]:
        """Where the keys of positions `low` to `stop` - 1 lie; for those beyond the table any slots of the pool do."""
        size = self._kernel.block_size
        begin = table.slot(low, size)
        if table.contiguous and begin + stop - low <= self._kernel.num_slots:
            return begin, None
        last = len(table.blocks) - 1
        ids = [table.blocks[min(index, last)] for index in range(low // size, (stop - 1) // size + 1)]
        return low % size, torch.tensor(ids, device=self._kernel.device)

    def _attend(self, layer: int, qkv: Tensor, read: Read) -> Tensor:
        heads, num_rows = self._kernel.heads, self._kernel.num_rows
        keys, values = self._keys_values(layer, read)
        shape = (read.length, heads.num_kv_heads, read.count, heads.head_dim)
        queries = qkv.narrow(1, 0, heads.query_width).view(read.length, heads.num_kv_heads, heads.group, heads.head_dim)
        if num_rows > heads.group:
            queries = pad(queries, (0, 0, 0, num_rows - heads.group))
        out = self._kernel.attention(queries, keys.expand(shape), values.expand(shape), read.mask, False)
        return out.narrow(2, 0, heads.group).reshape(read.length, heads.query_width)
