"""Whether something fits, and the sentences where it does not; the sizes themselves are tested beside this file."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from helix_cli.config import Config
from helix_cli.errors import MemoryLimitError
from helix_cli.planning.from_config import largest_step
from helix_cli.planning.memory import ASSUMED_FREE_BYTES, MemoryPlan, ModelMemory
from helix_cli.planning.refusal import (
    amount,
    better_context,
    check_pool,
    check_room,
    explained_loading,
    what_would_fit,
)
from helix_cli.planning.sizes import Step, WeightSize, Widths

MIB = 2**20
WIDTHS = Widths(vocab_size=1000, context=4096, widest=4096, num_heads=8, head_dim=64)
TARGET = ModelMemory(
    "target",
    WIDTHS,
    2048,
    torch.float32,
    "float32",
    WeightSize(800 * MIB),
    {"float32": WeightSize(800 * MIB), "bfloat16": WeightSize(400 * MIB)},
)
DRAFT = ModelMemory(
    "draft",
    WIDTHS,
    512,
    torch.float32,
    "float32",
    WeightSize(100 * MIB),
    {"float32": WeightSize(100 * MIB), "int8": WeightSize(25 * MIB)},
)


def plan(free: int | None, *models: ModelMemory, **changes: object) -> MemoryPlan:
    """A plan for one small step."""
    made = MemoryPlan(
        models=models or (TARGET,),
        step=Step(tokens=64, texts=4, depth=4),
        fused_attention=True,
        mixed_products=True,
        block_size=16,
        memory_share=0.5,
        fixed_blocks=None,
        free=free,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def refused(made: MemoryPlan) -> MemoryLimitError:
    """What the loader would say."""
    with pytest.raises(MemoryLimitError) as caught:
        check_room(made, "a card")
    return caught.value


def test_a_plan_adds_up() -> None:
    both = plan(2048 * MIB, TARGET, DRAFT)
    assert both.block_bytes == 16 * (2048 + 512) * 4
    assert both.activations == 64 * 4096 * 4
    rows, copies = 4 * 5, 3 * 5
    assert both.logits == (rows + copies) * 1000 * 4 + 4 * 4 * 1000 * 4
    assert both.least == 900 * MIB + both.logits + both.activations + both.block_bytes
    slow = replace(both, models=(TARGET, replace(DRAFT, size=WeightSize(100 * MIB, 300 * MIB))))
    assert slow.least == 1200 * MIB
    assert replace(slow, models=(replace(TARGET, size=WeightSize(800 * MIB, 500 * MIB)), DRAFT)).least == 1300 * MIB
    alone = plan(2048 * MIB)
    assert alone.logits == (rows + copies) * 1000 * 4
    assert plan(alone.least).fits and not plan(alone.least - 1).fits, "a step needs room too"
    # In 16 bits logits are computed, then copied in float32, and rotations are a cosine and a sine.
    narrow = plan(2048 * MIB, replace(TARGET, dtype=torch.bfloat16))
    assert narrow.logits == (rows * (4 + 2) + copies * 4) * 1000
    assert narrow.attention(256) == 64 * 256 * 2 + 256 * 64 * 2 * 2
    assert alone.attention(256) == 64 * 256 * 4 + 256 * 64 * 4


def test_the_cache_takes_its_share_of_what_is_left_and_no_more_than_can_be_used() -> None:
    tight = plan(864 * MIB)
    left = 64 * MIB - tight.logits - tight.activations
    assert tight.num_blocks == left // 2 // tight.block_bytes
    assert tight.room_for_blocks == left // tight.block_bytes
    assert plan(2**50).num_blocks == 4 * 4096 // 16
    assert plan(864 * MIB, fixed_blocks=7).num_blocks == 7
    silent = plan(None)
    assert silent.num_blocks == min(1024, (ASSUMED_FREE_BYTES - silent.logits - silent.activations) // 2 // (16 * 8192))


def test_a_context_fits_where_its_blocks_and_its_attention_do() -> None:
    made = plan(864 * MIB)
    tokens = made.num_tokens
    assert made.holds(tokens, 1) and not made.holds(tokens + 1, 1)
    assert made.holds(tokens // 4 // 16 * 16, 4) and not made.holds(tokens // 4 + 16, 4)
    # Without a fused kernel the scores of every head need room too.
    assert not plan(864 * MIB, fused_attention=False, memory_share=0.95).holds(tokens, 1)
    assert plan(None).holds(4096, 1)
    assert not plan(700 * MIB).holds(1, 1)


def test_models_that_do_not_fit_are_refused_with_what_would() -> None:
    both = plan(850 * MIB, TARGET, DRAFT)
    error = refused(both)
    assert error.message.startswith(
        f"The model and its draft need {amount(both.least)} of memory, and 850 MiB are free"
    )
    assert error.message.endswith("on a card.")
    assert error.hint.startswith("--draft-weights int8 would need")
    assert what_would_fit(replace(both, free=815 * MIB)).startswith("--drafter ngram, with no draft model, would need")
    assert what_would_fit(replace(both, free=600 * MIB)).startswith("--weights bfloat16 would need")
    assert what_would_fit(replace(both, free=410 * MIB)).startswith("--weights bfloat16 and --drafter ngram would need")
    hint = what_would_fit(replace(both, free=100 * MIB))
    assert "smaller model; even --weights bfloat16 and --drafter ngram would need 40" in hint
    check_room(replace(both, free=None), "a card")
    check_room(replace(both, free=950 * MIB), "a card")


def test_elsewhere_the_number_type_is_what_can_be_narrowed() -> None:
    card = plan(500 * MIB, TARGET, mixed_products=False)
    assert refused(card).hint.startswith("--dtype bfloat16 would need")


def test_a_model_that_nothing_can_make_smaller() -> None:
    only = replace(TARGET, formats={"float32": WeightSize(800 * MIB)})
    assert refused(plan(MIB, only)).hint == "Close other programs, or choose a smaller model."


def test_a_cache_that_does_not_fit_says_which_would() -> None:
    made = plan(864 * MIB, fixed_blocks=10_000)
    error = refused(made)
    assert "10000 blocks needs 1.2 GiB" in error.message
    room = made.room_for_blocks
    assert error.hint == f"cache.blocks={room} would fit, which is room for {room * 16:,} tokens."
    check_pool(replace(made, fixed_blocks=room))
    with pytest.raises(MemoryLimitError):
        check_pool(replace(made, fixed_blocks=room + 1))


def test_a_share_that_holds_no_block_is_refused() -> None:
    made = plan(None, memory_share=1e-9)
    with pytest.raises(MemoryLimitError, match="holds no block of 16 tokens, which needs 128 KiB") as caught:
        check_pool(made)
    assert "cache.memory_share" in caught.value.hint
    # Where the models fit, but the memory is gone once they are loaded.
    with pytest.raises(MemoryLimitError):
        check_pool(plan(MIB, replace(TARGET, size=WeightSize(0))))


def test_what_would_give_a_longer_context() -> None:
    assert better_context(plan(864 * MIB, fixed_blocks=3)) == "cache.blocks=256 would hold all of it."
    assert better_context(plan(845 * MIB)) == "With cache.memory_share=0.9 all of it would fit."
    assert better_context(plan(820 * MIB)) == "With --weights bfloat16 all of it would fit."
    assert "smaller model" in better_context(plan(410 * MIB))


@pytest.mark.parametrize(
    "failure",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes."),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
)
def test_memory_that_runs_out_while_loading_is_explained(failure: Exception) -> None:
    with (
        pytest.raises(MemoryLimitError, match="while the models were loaded") as caught,
        explained_loading(plan(2**30)),
    ):
        raise failure
    assert "1.0 GiB that were free" in caught.value.message
    assert caught.value.hint.startswith("--weights bfloat16 would need")
    with pytest.raises(ValueError), explained_loading(plan(2**30)):
        raise ValueError
    with pytest.raises(RuntimeError, match="shape"), explained_loading(plan(2**30)):
        raise RuntimeError("shape mismatch")


def test_the_largest_step_is_what_the_config_allows() -> None:
    made = Config.model_validate(
        {"draft": {"kind": "ngram", "k": 3}, "engine": {"max_step_tokens": 64, "max_sequences": 2}}
    )
    assert largest_step(made, 4096) == Step(64, 2, 3) and largest_step(made, 4096).rows == 8
    assert largest_step(made, 32).tokens == 32
    assert largest_step(Config.model_validate({"draft": {"kind": "none"}}), 4096).depth == 0
    assert largest_step(Config.model_validate({"draft": {"kind": "ngram"}}), 4096).depth == 16
    assert Step(10, 4, 4).rows == 10


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(2048, "2 KiB"), (80 * MIB, "80.0 MiB"), (300 * MIB, "300 MiB"), (int(1.25 * 2**30), "1.2 GiB")],
)
def test_amounts(num_bytes: int, text: str) -> None:
    assert amount(num_bytes) == text
