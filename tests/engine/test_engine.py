"""Admission, preemption, priority, abort, interruption, and what is refused before any work."""

import threading

import pytest
import torch

from helix_cli.core import FinishReason, Request, SamplingParams
from helix_cli.draft import DRAFTERS
from helix_cli.draft.model import ModelDrafter
from helix_cli.errors import InputError, Interrupted, MemoryLimitError, ModelError
from helix_cli.verify import RULES
from tests.harness import build, prompts, requests

RULE = RULES["greedy"]


def test_a_step_feeds_no_more_than_its_budget() -> None:
    bench = build("model", k=3, max_step_tokens=16, max_sequences=4)
    sizes: list[int] = []
    runner = bench.engine.runner
    forward = runner.forward
    runner.forward = lambda rows: sizes.append(sum(row.length for row in rows)) or forward(rows)  # type: ignore[method-assign, func-returns-value]
    bench.run([Request(tuple(range(3, 16)) * 3, SamplingParams(max_tokens=8, ignore_eos=True))] * 6)
    assert max(sizes) <= 16
    assert max(sizes) > 8


def test_the_first_token_comes_before_anything_is_drafted() -> None:
    bench = build("model", max_step_tokens=16)
    proposed: list[int] = []
    propose = bench.engine.drafter.propose
    bench.engine.drafter.propose = lambda wanted: proposed.append(len(wanted)) or propose(wanted)  # type: ignore[method-assign, func-returns-value]
    bench.engine.add(Request(tuple(range(3, 16)) * 3, SamplingParams(max_tokens=8, ignore_eos=True)), RULE)
    while not bench.engine.step().committed:
        assert not any(proposed)


def test_a_long_draft_prefill_yields_empty_drafts_until_it_has_caught_up() -> None:
    bench = build("model", k=2, max_step_tokens=16)
    outcome = bench.run([Request(tuple(range(3, 16)) * 3, SamplingParams(max_tokens=16, ignore_eos=True))])[0]
    drafted = outcome.sequence.trace.drafted
    assert drafted[0] == 0 and 2 in drafted


def test_priority_then_arrival_decides_who_runs_first() -> None:
    bench = build("none", max_sequences=1)
    params = SamplingParams(max_tokens=2, ignore_eos=True)
    prompt = prompts(1)[0]
    ids = [bench.engine.add(Request(prompt, params, priority), RULE) for priority in (1, 0, 1, 0)]
    finished = []
    while not bench.engine.idle:
        finished += [sequence.id for sequence in bench.engine.step().finished]
    assert finished == [ids[1], ids[3], ids[0], ids[2]]


def test_preemption_takes_the_last_and_changes_no_text() -> None:
    several = requests(4, max_tokens=24, ignore_eos=True)
    calm = [outcome.tokens for outcome in build("none").run(several)]
    bench = build("model", num_blocks=18)
    assert [outcome.tokens for outcome in bench.run(several)] == calm
    preempted = [sequence.id for output in bench.outputs for sequence in output.preempted]
    assert preempted and 0 not in preempted, "the first to come keeps its blocks"


@pytest.mark.parametrize("drafter", DRAFTERS)
def test_a_small_draft_pool_costs_drafts_and_nothing_else(drafter: str) -> None:
    several = requests(4, max_tokens=16, ignore_eos=True)
    bench = build(drafter, draft_blocks=3)
    assert [one.tokens for one in bench.run(several)] == [one.tokens for one in build("none").run(several)]


def test_a_shared_prompt_is_computed_once() -> None:
    bench = build("model", max_sequences=1)
    first, second = bench.run(requests(2, shared=20, max_tokens=4, ignore_eos=True))
    assert first.sequence.trace.num_reused == 0
    assert second.sequence.trace.num_reused == 20


def test_the_text_that_takes_kept_blocks_counts_them_as_evicted() -> None:
    bench = build("none", num_blocks=12, max_sequences=1)
    outcomes = bench.run(
        [Request((2 + i, *range(3, 16), *range(3, 14)), SamplingParams(max_tokens=2)) for i in range(4)]
    )
    evicted = [one.sequence.trace.num_evicted for one in outcomes]
    pool = bench.target_cache.pool
    assert evicted[0] == 0 and sum(evicted) == pool.num_evicted * bench.target_cache.block_size > 0


def test_abort_anywhere_leaves_nothing_behind() -> None:
    bench = build("model", max_sequences=2)
    ids = [bench.engine.add(request, RULE) for request in requests(3, max_tokens=30, ignore_eos=True)]
    bench.engine.step()
    bench.engine.step()
    for sequence_id in [*ids, 99]:
        bench.engine.abort(sequence_id)
    finished = bench.engine.step().finished
    assert [sequence.finish for sequence in finished] == [FinishReason.ABORT] * 3
    assert bench.engine.idle and bench.target_cache.pool.num_used == 0
    bench.check()


def test_add_and_abort_from_other_threads() -> None:
    bench = build("ngram", max_sequences=4)
    ids: list[int] = []
    several = requests(3, max_tokens=12, ignore_eos=True)

    def submit() -> None:
        for request in several:
            ids.append(bench.engine.add(request, RULE))
        bench.engine.abort(ids[-1])

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    finished: dict[int, FinishReason | None] = {}
    while any(thread.is_alive() for thread in threads) or not bench.engine.idle:
        finished.update({sequence.id: sequence.finish for sequence in bench.engine.step().finished})
        bench.check()
    assert sorted(finished) == sorted(ids) == list(range(12))
    assert FinishReason.ABORT in finished.values()


def test_an_interrupted_forward_pass_changes_nothing() -> None:
    bench = build("model")
    request = requests(2, max_tokens=12, ignore_eos=True)[1]
    expected = build("none").run([request])[0].tokens
    runner = bench.engine.runner
    forward = runner.forward
    calls = []

    def broken(rows: list[object]) -> object:
        calls.append(rows)
        result = forward(rows)  # type: ignore[arg-type]
        if len(calls) % 2:
            raise Interrupted
        return result

    runner.forward = broken  # type: ignore[method-assign, assignment]
    bench.engine.add(request, RULE)
    tokens: list[int] = []
    while not bench.engine.idle:
        try:
            for committed in bench.engine.step().committed:
                tokens += committed.tokens
        except Interrupted:
            bench.check()
    assert tokens == expected


def test_what_cannot_run_is_refused_before_any_work() -> None:
    engine = build("none", num_blocks=4, block_size=4, context=64).engine
    with pytest.raises(InputError, match="empty"):
        engine.add(Request((), SamplingParams()), RULE)
    with pytest.raises(InputError, match="64 tokens, and the model's context"):
        engine.add(Request((5,) * 64, SamplingParams()), RULE)
    with pytest.raises(MemoryLimitError, match="may need 5"):
        engine.add(Request((5,) * 10, SamplingParams(max_tokens=7)), RULE)
    assert engine.idle


def test_an_interrupted_step_still_reports_who_was_aborted() -> None:
    bench = build("none")
    ids = [bench.engine.add(request, RULE) for request in requests(2, max_tokens=12, ignore_eos=True)]
    bench.engine.step()
    forward = bench.engine.runner.forward

    def stop(rows: object) -> torch.Tensor:
        raise Interrupted

    bench.engine.runner.forward = stop  # type: ignore[method-assign]
    bench.engine.abort(ids[1])
    with pytest.raises(Interrupted):
        bench.engine.step()
    bench.engine.runner.forward = forward  # type: ignore[method-assign]
    bench.engine.abort(ids[0])
    assert sorted(sequence.id for sequence in bench.engine.step().finished) == ids


def test_logits_that_are_not_finite_are_named() -> None:
    bench = build("none")
    bench.engine.runner.forward = lambda rows: torch.full((1, 16), float("nan"))  # type: ignore[method-assign]
    bench.engine.add(requests(1)[0], RULE)
    with pytest.raises(ModelError, match="not finite"):
        bench.engine.step()


def test_a_broken_draft_costs_its_proposals_and_never_the_run() -> None:
    bench = build("model")
    drafter = bench.engine.drafter
    assert isinstance(drafter, ModelDrafter)
    forward = drafter.runner.forward
    drafter.runner.forward = lambda rows: forward(rows) * float("nan")  # type: ignore[method-assign]
    request = requests(2, max_tokens=12, ignore_eos=True)[1]
    outcome = bench.run([request])[0]
    assert outcome.tokens == build("none").run([request])[0].tokens
    assert sum(outcome.sequence.trace.drafted) == 0


def test_drafts_leave_room_for_a_prefill() -> None:
    bench = build("ngram", k=7, max_step_tokens=8, max_sequences=2)
    params = SamplingParams(max_tokens=60, ignore_eos=True)
    bench.engine.add(Request((3, 4, 3, 4, 3, 4), params, priority=5), RULE)
    bench.engine.step()
    urgent = bench.engine.add(Request(tuple(range(3, 15)), params), RULE)
    for _ in range(6):
        if any(one.sequence.id == urgent for one in bench.engine.step().committed):
            break
    else:
        pytest.fail("the prompt waits for the drafts of another")


def test_a_last_sequence_gives_up_its_draft_before_its_blocks() -> None:
    bench = build("ngram", k=8, block_size=2, num_blocks=12, max_sequences=1)
    bench.run([Request((3, 4, 3, 4, 3, 4), SamplingParams(max_tokens=18, ignore_eos=True))])
    assert not any(output.preempted for output in bench.outputs)
