"""A token's attention has the same bits in any company: however a text is cut, wherever it lies and beside what."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from helix_cli.attention import KERNELS, Heads, Span
from helix_cli.attention.compiled import can_run
from helix_cli.cache.table import BlockTable

BLOCK_SIZE, LENGTH = 16, 560
NUM_BLOCKS = LENGTH // BLOCK_SIZE + 4
WHOLE = (LENGTH,)
DECODING = (LENGTH - 24, *[1] * 24)
VERIFYING = (300, 200, 6, 3, 8, 5, 2, 16, 7, 1, 12)


@pytest.fixture(autouse=True, params=[1, 2], ids=["1 thread", "2 threads"])
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


class Text:
    """Random tokens that can be fed in any pieces over pools with other numbers around them."""

    def __init__(self, kernel: str, heads: Heads, dtype: torch.dtype, window: int | None) -> None:
        generator = torch.Generator().manual_seed(heads.width)
        self.kernel = KERNELS[kernel]
        self.heads, self.dtype, self.window = heads, dtype, window
        self.qkv = torch.randn(LENGTH, heads.width, generator=generator).to(dtype)

    def feed(self, pieces: tuple[int, ...], blocks: list[int], beside: int = 0) -> Tensor:
        """What attention gives each token; `beside` tokens of another text are in every pass."""
        shape = (2, self.heads.num_kv_heads, NUM_BLOCKS * BLOCK_SIZE, self.heads.head_dim)
        pool = torch.randn(shape, generator=torch.Generator().manual_seed(len(pieces) + beside)).to(self.dtype)
        kernel = self.kernel([pool], BLOCK_SIZE, self.heads, True)
        table, other = BlockTable(blocks), BlockTable([NUM_BLOCKS - 1])
        out, first = [], 0
        for length in pieces:
            spans = [Span(table, beside, length, first)] + ([Span(other, 0, beside, 0)] if beside else [])
            fed = torch.cat([self.qkv[:beside], self.qkv[first : first + length]])
            out.append(kernel.plan(spans[::-1])(0, fed, self.window)[beside:])
            first += length
        return torch.cat(out)


RUN = list(range(1, NUM_BLOCKS - 2))
AT_THE_END = list(range(NUM_BLOCKS - LENGTH // BLOCK_SIZE, NUM_BLOCKS))
SHUFFLED = RUN[::2] + RUN[1::2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("heads", [Heads(4, 2, 64), Heads(8, 1, 64), Heads(2, 2, 16), Heads(3, 1, 8)], ids=str)
@pytest.mark.parametrize("kernel", [name for name in KERNELS if name.endswith("_exact")])
def test_a_token_has_the_same_bits_in_any_company(
    kernel: str, heads: Heads, window: int | None, dtype: torch.dtype
) -> None:
    if kernel.startswith("compiled") and not can_run(heads, dtype, torch.device("cpu")):
        pytest.skip("not for this number type, or no compiler here")
    text = Text(kernel, heads, dtype, window)
    whole = text.feed(WHOLE, RUN)
    assert torch.equal(text.feed(DECODING, RUN), whole)
    assert torch.equal(text.feed(VERIFYING, RUN), whole)
    assert torch.equal(text.feed(VERIFYING, SHUFFLED), whole)
    assert torch.equal(text.feed(VERIFYING, RUN, beside=3), whole)
    assert torch.equal(text.feed(DECODING, AT_THE_END), whole)
