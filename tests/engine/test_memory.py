"""A step that finds no memory says what was under way, and the engine goes on as if it had not been tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from helix_cli.core import Request, SamplingParams
from helix_cli.errors import MemoryLimitError
from helix_cli.verify import RULES
from tests.harness import build, prompts

RULE = RULES["greedy"]
FULL = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")


def failing_once(function: Callable[..., Any], failure: Exception, after: int) -> Callable[..., Any]:
    """`function`, whose call number `after` raises."""
    calls = iter(range(1_000_000))

    def run(*arguments: Any) -> Any:
        if next(calls) == after:
            raise failure
        return function(*arguments)

    return run


@pytest.mark.parametrize("failure", [FULL, MemoryError()])
@pytest.mark.parametrize("place", ["target", "draft"])
def test_a_step_without_memory_changes_nothing(place: str, failure: Exception) -> None:
    params = SamplingParams(max_tokens=12, ignore_eos=True)
    several = [Request(prompt, params) for prompt in prompts(4)]
    calm = [outcome.tokens for outcome in build("model").run(several)]
    bench = build("model", max_step_tokens=128)
    runner = bench.engine.runner if place == "target" else bench.engine.drafter.runner  # type: ignore[attr-defined]
    runner.forward = failing_once(runner.forward, failure, after=3)  # type: ignore[method-assign]
    ids = [bench.engine.add(request, RULE) for request in several]
    done: dict[int, list[int]] = {}
    errors: list[MemoryLimitError] = []
    while not bench.engine.idle:
        try:
            done.update((one.id, one.tokens[one.prompt_len :]) for one in bench.engine.step().finished)
        except MemoryLimitError as caught:
            errors.append(caught)
            bench.engine.check()
    assert [done[number] for number in ids] == [list(tokens) for tokens in calm]
    (error,) = errors
    assert error.message.startswith("Memory ran out while 4 texts were generated, the longest of ")
    assert "engine.max_sequences=2" in error.hint and "max_step_tokens" not in error.hint


def test_a_long_text_alone_may_take_smaller_steps() -> None:
    bench = build("none", max_step_tokens=128, num_blocks=64, context=512)
    bench.engine.runner.forward = failing_once(bench.engine.runner.forward, FULL, after=0)  # type: ignore[method-assign]
    bench.engine.add(Request((5,) * 200, SamplingParams(max_tokens=2)), RULE)
    with pytest.raises(MemoryLimitError, match=r"while a text was generated, of 200 tokens\.") as caught:
        bench.engine.step()
    assert "engine.max_step_tokens=64" in caught.value.hint and "max_sequences" not in caught.value.hint


def test_another_failure_stays_what_it_is() -> None:
    bench = build("none")
    bench.engine.runner.forward = failing_once(print, RuntimeError("shape mismatch"), after=0)  # type: ignore[method-assign]
    bench.engine.add(Request((5,) * 4, SamplingParams(max_tokens=2)), RULE)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        bench.engine.step()


def test_what_the_cache_has_room_for_is_said() -> None:
    engine = build("none", num_blocks=4, block_size=4, context=64).engine
    with pytest.raises(MemoryLimitError, match="may need 5") as caught:
        engine.add(Request((5,) * 10, SamplingParams(max_tokens=7)), RULE)
    assert caught.value.hint == "--max-tokens 6 would fit; or set cache.blocks to 5 or more."
    engine.add(Request((5,) * 10, SamplingParams(max_tokens=6)), RULE)
    with pytest.raises(MemoryLimitError) as caught:
        engine.add(Request((5,) * 16, SamplingParams(max_tokens=1)), RULE)
    assert caught.value.hint == "Set cache.blocks to 5 or more."
