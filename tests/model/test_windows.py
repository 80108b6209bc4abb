"""Windows: what fits, how it is filled up, and that a recorded pass says what a plain one says."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from helix_cli.cache.table import BlockTable
from helix_cli.checks.workbench import cache_for
from helix_cli.core import Draft, Row
from helix_cli.errors import Interrupted
from helix_cli.model.decoder import Decoder
from helix_cli.model.runner import ModelRunner
from helix_cli.model.windows import MOST_TOKENS, WIDEST, Inputs, Size, size_for
from tests.harness import SMALL
from tests.on_device import on_device, plain

pytest.importorskip("triton")
BLOCK_SIZE, NUM_BLOCKS = 4, 24


def with_windows(model: Decoder, capture: Any = None) -> ModelRunner:
    """A runner with windows, over a pool in which every slot holds something."""
    cache = cache_for(model, NUM_BLOCKS, BLOCK_SIZE, False)
    for layer in cache.layers:
        layer.fill_(50.0)
    return ModelRunner(replace(model, capture=capture) if capture else model, cache)


def without(model: Decoder) -> ModelRunner:
    """A runner that computes pass by pass with torch's kernels."""
    return ModelRunner(plain(model), cache_for(model, NUM_BLOCKS, BLOCK_SIZE, False))


def row(blocks: list[int], first: int, tokens: list[int], num_logits: int, drafted: list[int] | None = None) -> Row:
    draft = Draft(torch.tensor(drafted), len(drafted)) if drafted else None
    return Row(BlockTable(blocks, num_computed=first), tokens, num_logits, draft)


def test_the_smallest_window_that_holds_the_rows() -> None:
    def size(*lengths: int) -> Size | None:
        return size_for([row([0] * 8, 0, [3] * length, 1) for length in lengths])

    assert size(1) == (1, 1, 0) and size(5) == (1, 5, 0) and size(1, 3, 1) == (4, 3, 0)
    assert size(9) == (1, 12, 0) and size(WIDEST) == (1, WIDEST, 0) and size(WIDEST + 1) is None
    assert size(*[1] * MOST_TOKENS) is not None and size(*[1] * (MOST_TOKENS + 1)) is None
    assert size(*[8] * 16) is not None and size(*[8] * 17) is None


def test_what_is_sent_to_the_device() -> None:
    inputs = Inputs(Size(4, 3), tokens=2, max_blocks=5, block_size=4, device=torch.device("cpu"))
    rows = [row([7, 2], 5, [11], 3, [12, 13]), row([4], 0, [9], 1), row([1, 3, 8], 9, [5, 6], 1)]
    inputs.fill([rows[2], rows[2], rows[2], rows[2]])  # nothing of what was there before may stay
    inputs.fill(rows)
    assert inputs.tokens.tolist() == [11, 12, 13, 9, 0, 0, 5, 6, 0, 0, 0, 0]
    assert inputs.positions.tolist() == [5, 6, 7, 0, 0, 0, 9, 10, 0, 0, 0, 0]
    tiles = inputs.tiles.view(4, 2, 4).tolist()
    assert tiles[0] == [[0, 2, 5, 0], [2, 1, 7, 0]] and tiles[1] == [[3, 1, 0, 5], [0, 0, 0, 0]]
    assert tiles[2] == [[6, 2, 9, 10], [0, 0, 0, 0]] and tiles[3] == [[0] * 4] * 2
    assert inputs.tables.view(4, 5).tolist() == [[7, 2, 0, 0, 0], [4, 0, 0, 0, 0], [1, 3, 8, 0, 0], [0] * 5]
    assert inputs.last.tolist() == [2, 3, 7, 0] and inputs.next_position.tolist() == [8, 1, 11, 0]
    assert inputs.is_row.tolist() == [1, 1, 1, 0]


def test_a_window_says_what_a_plain_pass_says() -> None:
    """The same windows serve other rows, of other lengths, over other blocks; no other slot is written."""
    model = on_device()
    recorded, one_by_one = with_windows(model), without(model)
    first, second, third = [3, 9, 1], [20, 6], [11]
    passes = [
        [row(first, 0, list(range(3, 12)), 1), row(second, 0, [4, 5, 6], 1)],
        [row(first, 9, [7, 8], 2), row(second, 3, [5], 1)],
        [row(second, 4, [6], 1, [7]), row(first, 11, [9], 1)],
        [row(first, 9, [3], 2, [4]), row(second, 4, [8], 0)],
        [row(first, 10, [5], 1), row(second, 5, [6], 1), row(third, 0, [9, 3], 2)],
        [row(third, 2, [4], 1), row(second, 5, [9], 2, [9]), row(first, 9, [8], 1)],
    ]
    pairs = [(recorded.forward(rows), one_by_one.forward(rows)) for rows in passes]
    for found, expected in pairs:  # after the last pass: none may overwrite what an earlier one gave
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert recorded.windows is not None and recorded.windows.failure is None
    assert {size for size, _ in recorded.windows._ready} == {(2, 2, 0), (4, 2, 0)}
    for mine, theirs in zip(recorded.cache.layers, one_by_one.cache.layers, strict=True):
        written = theirs.ne(0).any(-1).any(0).any(0)
        torch.testing.assert_close(mine[:, :, written], theirs[:, :, written], atol=1e-4, rtol=1e-4)
        assert mine[:, :, ~written].eq(50.0).all()


def test_a_recorded_pass_goes_on_to_the_end_of_the_context() -> None:
    """The table of rotations cannot grow while a recording runs."""
    model = on_device(num_hidden_layers=1)
    rotary = copy(model.rotary)
    rotary._tables = rotary._make(2)
    runner, blocks = with_windows(replace(model, rotary=rotary)), list(range(9))
    for _ in range(2):
        runner.forward([row(blocks, 0, [5], 1)])
    runner.cache.layers[0].zero_()
    far = [row(blocks, 30, [4], 1)]
    torch.testing.assert_close(runner.forward(far), without(model).forward(far), atol=1e-4, rtol=1e-4)


def test_a_loop_drafts_what_passes_draft_one_by_one() -> None:
    model = on_device()
    runner, one_by_one = with_windows(model), without(model)
    starts = [([3, 9, 1], 0, [5, 6]), ([20, 6, 2], 0, [9]), ([11, 4], 0, [7])]
    rows = [row(*start, 1) for start in starts]
    assert runner.draft(rows, 4, SMALL["vocab_size"]) is None, "a size that comes once is not recorded"
    found = runner.draft(rows, 4, SMALL["vocab_size"])
    for start, drafted in zip(starts, found or [], strict=True):
        blocks, first, fed = start
        for token in drafted:
            expected = int(one_by_one.forward([row(blocks, first, fed, 1)]).argmax())
            assert token == expected
            first, fed = first + len(fed), [token]
    for mine, theirs in zip(runner.cache.layers, one_by_one.cache.layers, strict=True):
        written = theirs.ne(0).any(-1).any(0).any(0)
        torch.testing.assert_close(mine[:, :, written], theirs[:, :, written], atol=1e-4, rtol=1e-4)
        assert mine[:, :, ~written].eq(50.0).all()
    runner.draft(rows, 4, 9)
    assert all(token < 9 for drafted in runner.draft(rows, 4, 9) or [[9]] for token in drafted)


def test_tokens_of_broken_logits_are_no_tokens() -> None:
    model = on_device()
    broken = replace(model, embedding=model.embedding * float("nan"))
    runner = with_windows(broken)
    rows = [row([3], 0, [5], 1)]
    runner.draft(rows, 3, SMALL["vocab_size"])
    assert runner.draft(rows, 3, SMALL["vocab_size"]) == [[-1, -1, -1]]


def test_what_cannot_be_recorded_runs_without() -> None:
    tries: list[int] = []

    def refuse(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        tries.append(1)
        raise RuntimeError("no room\nand a long trace")

    model = on_device()
    runner = with_windows(model, refuse)
    rows = [row([3], 0, [5], 1)]
    expected = without(model).forward(rows)
    for _ in range(4):
        torch.testing.assert_close(runner.forward(rows), expected, atol=1e-4, rtol=1e-4)
    assert runner.windows is not None and runner.windows.failure == "no room" and tries == [1]


def test_an_interrupt_comes_before_a_window() -> None:
    runner = with_windows(on_device())
    rows = [row([3], 0, [5], 1)]
    runner.forward(rows)
    runner.forward(rows)
    runner.interrupted = lambda: True
    with pytest.raises(Interrupted):
        runner.forward(rows)
    with pytest.raises(Interrupted):
        runner.draft(rows, 2, SMALL["vocab_size"])


class NoHost(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fails where a number goes to the host or comes from it, which a recording cannot hold."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::")
        forbidden = ("_local_scalar_dense", "lift_fresh", "nonzero", "is_nonzero", "equal", "masked_select")
        assert name not in forbidden, f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


def test_a_recorded_function_never_asks_the_host() -> None:
    """In bfloat16, for which there are no kernels of the CPU's own, so that the operations are those of a GPU."""
    model = on_device(dtype=torch.bfloat16, family="qwen3", head_dim=16)

    def watched(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        watch: Any = NoHost
        with watch():
            result = run()
        return lambda: result

    runner = with_windows(model, watched)
    rows = [row([3, 5], 0, [5, 6], 1), row([7, 9], 0, [8], 1)]
    for _ in range(2):
        runner.forward(rows)
        runner.draft(rows, 3, SMALL["vocab_size"])
    assert runner.windows is not None and len(runner.windows._ready) == 2
