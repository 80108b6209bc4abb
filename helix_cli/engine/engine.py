"""The engine: draft, plan, one forward pass, judge, commit."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import perf_counter

import torch

from helix_cli.cache.table import BlockTable
from helix_cli.core import Draft, Request, Row, Sequence, StepOutput, StepPlan, Verdict
from helix_cli.draft.depth import Round, StepTimes
from helix_cli.draft.drafter import Drafter
from helix_cli.engine.memory import explains_memory
from helix_cli.engine.scheduler import Scheduler
from helix_cli.errors import InputError, MemoryLimitError, ModelError
from helix_cli.model.runner import ModelRunner
from helix_cli.sampling import Noise, is_finite
from helix_cli.stats import Trace
from helix_cli.verify.rule import VerifyRule

SEED_BITS = 63
EMPTY_DRAFT = Draft(torch.empty(0, dtype=torch.long), 0)


class Engine:
    """Runs many sequences to their ends. `add` and `abort` may be called from any thread, everything else from one."""

    def __init__(
        self,
        runner: ModelRunner,
        scheduler: Scheduler,
        drafter: Drafter,
        synchronize: Callable[[], None] = lambda: None,
    ) -> None:
        self.runner = runner
        self.scheduler = scheduler
        self.drafter = drafter
        self._synchronize = synchronize
        self._inbox: SimpleQueue[Sequence | int] = SimpleQueue()
        self._ids = itertools.count()
        self._aborted: list[Sequence] = []
        self._num_evicted = 0

    @property
    def idle(self) -> bool:
        """Nothing runs, waits or is on its way in."""
        return self.scheduler.idle and self._inbox.empty()

    def add(self, request: Request, rule: VerifyRule, watch: Callable[[int], bool] | None = None) -> int:
        """Queues a request and returns its id. `watch` sees each committed token and says when the text must end.

        Raises InputError for a prompt that is empty or does not fit the context, and MemoryLimitError for one that
        could never finish in the pool.
        """
        self.validate(request)
        cache, number = self.scheduler.cache, next(self._ids)
        seed = secrets.randbits(SEED_BITS) if request.params.seed is None else request.params.seed
        sequence = Sequence(
            id=number,
            tokens=list(request.prompt),
            prompt_len=len(request.prompt),
            params=request.params,
            priority=request.priority,
            arrival=number,
            seed=seed,
            rule=rule,
            table=BlockTable(),
            trace=Trace(len(request.prompt), cache.block_size, submitted=perf_counter()),
            watch=watch,
        )
        self._inbox.put(sequence)
        return number

    def abort(self, sequence_id: int) -> None:
        """Ends a sequence before the next step; one that has finished already is left alone."""
        self._inbox.put(sequence_id)

    def validate(self, request: Request) -> None:
        """Raises what `add` would raise, without adding."""
        length, context, cache = len(request.prompt), self.scheduler.context, self.scheduler.cache
        check_prompt(request.prompt, context, self.runner.decoder.architecture.vocab_size)
        needed = -(-min(length + request.params.max_tokens, context) // cache.block_size)
        if needed > cache.num_blocks:
            raise MemoryLimitError(
                f"The cache has {cache.num_blocks} blocks of {cache.block_size} tokens, and this request may need "
                f"{needed}.",
                f"{_shorter(cache.num_blocks * cache.block_size - length)}et cache.blocks to {needed} or more.",
            )

    @explains_memory
    def step(self) -> StepOutput:
        """One round for everything that runs: draft, plan, forward, judge, commit. Raises MemoryLimitError too."""
        self._take_in()
        started = perf_counter()
        drafts = self.drafter.propose(self.scheduler.ready_to_draft(self.drafter))
        drafted = perf_counter()
        plan = self.scheduler.plan(drafts)
        self._forget(plan.preempted)
        forwarding = perf_counter()
        logits = self._forward(plan.rows)
        forwarded = perf_counter()
        verdicts = self._judge(plan, logits)
        output = self.scheduler.commit(plan, verdicts)
        self._tell_drafter(output)
        self._record(plan, output, (started, drafted, forwarding, forwarded))
        # Kept on the engine until they are reported: an interrupted step must not lose them.
        output.finished.extend(self._aborted)
        self._aborted.clear()
        return output

    def check(self) -> None:
        """Asserts every invariant of the pool, the tables and the counters; call it between steps."""
        self.scheduler.check()

    def _take_in(self) -> None:
        """Moves what other threads have left into the scheduler."""
        while True:
            try:
                item = self._inbox.get_nowait()
            except Empty:
                return
            if isinstance(item, Sequence):
                self.scheduler.waiting.push(item)
            elif (sequence := self.scheduler.abort(item)) is not None:
                self._forget([sequence])
                self.scheduler.depth.forget(sequence.id)
                self._aborted.append(sequence)

    def _forward(self, rows: list[Row]) -> torch.Tensor | None:
        if not rows:
            return None
        logits = self.runner.forward(rows)
        self._synchronize()
        if not is_finite(logits):
            raise ModelError(
                "The model's logits are not finite in this number type.",
                "Use --dtype float32, or download the checkpoint again.",
            )
        return logits

    def _judge(self, plan: StepPlan, logits: torch.Tensor | None) -> list[Verdict | None]:
        """A verdict for each row that has logits; None for a prefill chunk that is not the last."""
        verdicts: list[Verdict | None] = []
        end = 0
        for sequence, row in zip(plan.sequences, plan.rows, strict=True):
            start, end = end, end + row.num_logits
            if row.num_logits == 0:
                verdicts.append(None)
                continue
            assert logits is not None
            verdicts.append(judge(sequence, row, logits[start:end]))
        return verdicts

    def _tell_drafter(self, output: StepOutput) -> None:
        for one in output.committed:
            if one.draft is not None:
                self.drafter.observe(one.sequence, one.draft, one.num_accepted)
        self._forget(output.finished)

    def _forget(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            self.drafter.forget(sequence.id)

    def _record(self, plan: StepPlan, output: StepOutput, times: tuple[float, float, float, float]) -> None:
        started, drafted, forwarding, forwarded = times
        now = perf_counter()
        draft_s, target_s, other_s = drafted - started, forwarded - forwarding, now - forwarded + forwarding - drafted
        num_evicted = self._newly_evicted()
        for sequence in plan.sequences:
            sequence.trace.record_start(started)
            sequence.trace.num_evicted += num_evicted
            sequence.trace.record_time(draft_s, target_s, other_s)
        only_decodes = all(row.length == row.num_logits for row in plan.rows)
        num_rows = sum(row.length for row in plan.rows)
        plain_s = target_s + other_s if only_decodes and num_rows == len(plan.rows) else None
        rounds = []
        for one in output.committed:
            # A round is a decode step. The step that ends a prefill emits the first token and judges no draft.
            trace = one.sequence.trace
            if trace.first_token is not None:
                wanted = self.scheduler.wanted_depth(one.sequence)
                trace.record_round(one.num_drafted, one.num_accepted, wanted, plain_s)
                length = one.draft.length if one.draft else 0
                rounds.append(Round(one.sequence.id, length, one.num_drafted, one.num_accepted))
            trace.record_commit(now, len(one.tokens))
        step_times = StepTimes(draft_s, target_s, other_s, num_rows if only_decodes and num_rows else None)
        self.scheduler.depth.observe(step_times, rounds)
        for sequence in output.finished:
            self.scheduler.depth.forget(sequence.id)

    def _newly_evicted(self) -> int:
        """Kept positions that the target's cache has given up since the last step."""
        cache = self.scheduler.cache
        before, self._num_evicted = self._num_evicted, cache.pool.num_evicted
        return (cache.pool.num_evicted - before) * cache.block_size


def _shorter(room: int) -> str:
    """How many tokens the cache has room for after the prompt, as the beginning of a sentence."""
    return f"--max-tokens {room} would fit; or s" if room > 0 else "S"


def check_prompt(tokens: tuple[int, ...] | list[int], context: int, vocab_size: int) -> None:
    """Raises InputError for a prompt that no model of this context and vocabulary can continue."""
    if not tokens:
        raise InputError("The prompt is empty.", "Give a prompt with at least one token.")
    if len(tokens) >= context:
        raise InputError(
            f"The prompt has {len(tokens)} tokens, and the model's context holds {context} with its answer.",
            "Shorten the prompt, or choose a model with a longer context.",
        )
    if max(tokens) >= vocab_size:
        raise InputError(
            f"The prompt holds token {max(tokens)}, and the model knows {vocab_size}.",
            "The tokenizer belongs to another model; download the checkpoint again.",
        )


def judge(sequence: Sequence, row: Row, logits: torch.Tensor) -> Verdict:
    """The rule's verdict on one row's logits [draft length + 1, V], with the whole sampling chain at each position."""
    draft = row.draft or EMPTY_DRAFT
    start = len(sequence.tokens)
    scores = sequence.rule.scores(logits, sequence.params, sequence.tokens, draft.tokens)
    return sequence.rule.judge(scores, draft, Noise(sequence.seed, start), start)
