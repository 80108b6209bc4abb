"""Who runs next, with how many tokens, and what becomes of the result.

A sequence is described by counters alone: it feeds what is committed but not computed, and its draft. A prefill chunk,
a decode step and a verification are the same row with different lengths; preemption and rejection assign to a counter.
"""

from __future__ import annotations

from helix_cli.cache.paged import PagedKVCache
from helix_cli.core import Committed, Draft, FinishReason, Row, Sequence, StepOutput, StepPlan, Verdict, Wanted
from helix_cli.draft.depth import Depth, Room
from helix_cli.draft.drafter import Drafter
from helix_cli.engine.request_queue import RequestQueue
from helix_cli.engine.stopping import append_until_stop


class Scheduler:
    """Keeps the waiting and the running sequences, and all of the target's K/V bookkeeping.

    A step feeds at most `max_step_tokens` tokens of at most `max_sequences` sequences. When blocks run out, the
    sequence that is last by (priority, arrival) gives up its own and starts over later from its tokens.
    """

    def __init__(
        self,
        cache: PagedKVCache,
        depth: Depth,
        *,
        eos_ids: frozenset[int],
        context: int,
        max_step_tokens: int,
        max_sequences: int,
    ) -> None:
        self.cache = cache
        self.depth = depth
        self.eos_ids = eos_ids
        self.context = context
        self.max_step_tokens = max_step_tokens
        self.max_sequences = max_sequences
        self.waiting = RequestQueue()
        self.running: list[Sequence] = []
        self._depths: dict[int, int] = {}

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not self.running and not len(self.waiting)

    def limit(self, sequence: Sequence) -> int:
        """Tokens that a sequence may reach, prompt included."""
        return min(sequence.prompt_len + sequence.params.max_tokens, self.context)

    def ready_to_draft(self, drafter: Drafter) -> list[Wanted]:
        """Decoding sequences, each with the number of tokens that `drafter` shall propose.

        The first token must be out before anything is drafted: a draft's prefill would delay it.
        """
        decoding = [one for one in self.running if one.num_generated and one.num_uncomputed == 1]
        # Sequences in their prefill count too: drafts must leave room for them.
        share = self.max_step_tokens // max(1, len(self.running))
        choices = self.depth.choose([self._room(one, share, drafter.source(one)) for one in decoding])
        wanted = [Wanted(one, *choice) for one, choice in zip(decoding, choices, strict=True) if choice.depth > 0]
        self._depths = {one.sequence.id: one.depth for one in wanted}
        return wanted

    def wanted_depth(self, sequence: Sequence) -> int:
        """How many tokens were asked for in this step."""
        return self._depths.get(sequence.id, 0)

    def plan(self, drafts: dict[int, Draft]) -> StepPlan:
        """Chooses this step's rows and gives each the blocks it writes to."""
        preempted = self._make_room(drafts)
        self._admit()
        reserved = sum(self._decode_length(one, drafts) for one in self.running if one.num_uncomputed == 1)
        prefill_budget = self.max_step_tokens - reserved
        plan = StepPlan(preempted=preempted)
        for sequence in self.running:
            if sequence.num_uncomputed == 1:
                plan.add(sequence, self._decode_row(sequence, drafts.get(sequence.id)))
            elif prefill_budget > 0:
                row = self._prefill_row(sequence, prefill_budget)
                prefill_budget -= row.length
                plan.add(sequence, row)
        for sequence, row in zip(plan.sequences, plan.rows, strict=True):
            sequence.trace.record_blocks(len(row.table.blocks), row.table.num_computed + row.length)
        return plan

    def commit(self, plan: StepPlan, verdicts: list[Verdict | None]) -> StepOutput:
        """Appends what was verified, moves the counters, and lets go of what is finished."""
        output = StepOutput(preempted=plan.preempted)
        for sequence, row, verdict in zip(plan.sequences, plan.rows, verdicts, strict=True):
            if verdict is None:
                self.cache.advance(sequence.table, sequence.tokens, sequence.table.num_computed + row.length)
                continue
            output.committed.append(self._commit_row(sequence, row, verdict))
            if sequence.finish is not None:
                output.finished.append(sequence)
        for sequence in output.finished:
            self._let_go(sequence)
        return output

    def abort(self, sequence_id: int) -> Sequence | None:
        """Ends a sequence wherever it is; None when it is not here (any more)."""
        sequence = self.waiting.remove(sequence_id)
        if sequence is None:
            sequence = next((one for one in self.running if one.id == sequence_id), None)
            if sequence is None:
                return None
            self._let_go(sequence)
        sequence.finish = FinishReason.ABORT
        return sequence

    def check(self) -> None:
        """Asserts the invariants of pool, tables and counters; for when no step is under way."""
        self.cache.check([one.table for one in self.running])
        for sequence in self.running:
            assert sequence.finish is None
            assert 0 <= sequence.table.num_computed < len(sequence.tokens) <= self.limit(sequence)

    def _room(self, sequence: Sequence, share: int, source: str) -> Room:
        """How much may be proposed: a round emits one token more, and a step has so many rows for a sequence."""
        num_tokens = len(sequence.tokens)
        return Room(sequence.id, num_tokens, max(0, min(self.limit(sequence) - num_tokens, share) - 1), source)

    def _make_room(self, drafts: dict[int, Draft]) -> list[Sequence]:
        """Grows every running table in order of rank; preempts from the back where blocks run out."""
        preempted = []
        for sequence in list(self.running):
            while sequence in self.running and not self._grow(sequence, drafts):
                victim = self.running[-1]
                # A draft goes before its own sequence does, and with it. Neither choice looks at what was drawn.
                if drafts.pop(victim.id, None) is None or victim is not sequence:
                    preempted.append(self._preempt(victim))
        return preempted

    def _grow(self, sequence: Sequence, drafts: dict[int, Draft]) -> bool:
        """Gives a sequence the blocks of its next row, if they are free.

        A draft asks for the depth that was wanted, not for the length that was drawn: it ends at its EOS, so its length
        is a value, and a step lost or kept by value would bend the law of the text.
        """
        length = len(sequence.tokens)
        if sequence.num_uncomputed == 1 and sequence.id in drafts:
            length += self._depths[sequence.id]
        if not self.cache.can_grow(sequence.table, length):
            return False
        self.cache.grow(sequence.table, length)
        return True

    def _preempt(self, sequence: Sequence) -> Sequence:
        """Takes the blocks of a running sequence and queues it again; its committed tokens are its memory."""
        self.running.remove(sequence)
        self.cache.free(sequence.table)
        self.waiting.push(sequence)
        return sequence

    def _admit(self) -> None:
        """Starts waiting sequences, in order, while all their tokens and one more block fit."""
        while len(self.running) < self.max_sequences and (sequence := self.waiting.peek()) is not None:
            table = self.cache.match_prefix(sequence.tokens)
            spare = self.cache.block_size if self.running else 0
            if not self.cache.can_grow(table, min(len(sequence.tokens) + spare, self.limit(sequence))):
                self.cache.free(table)
                return
            self.cache.grow(table, len(sequence.tokens))
            sequence.table = table
            if sequence.trace.started is None:
                sequence.trace.num_reused = table.num_computed
            self.running.append(self.waiting.pop())
        self.running.sort(key=lambda one: (one.priority, one.arrival))

    @staticmethod
    def _decode_length(sequence: Sequence, drafts: dict[int, Draft]) -> int:
        draft = drafts.get(sequence.id)
        return 1 + (draft.length if draft else 0)

    @staticmethod
    def _decode_row(sequence: Sequence, draft: Draft | None) -> Row:
        return Row(sequence.table, sequence.tokens[-1:], num_logits=1 + (draft.length if draft else 0), draft=draft)

    @staticmethod
    def _prefill_row(sequence: Sequence, budget: int) -> Row:
        """The next chunk of a prefill; only its last token's logits are of use, and only in the last chunk."""
        start = sequence.table.num_computed
        chunk = sequence.tokens[start : start + budget]
        return Row(sequence.table, chunk, num_logits=int(start + len(chunk) == len(sequence.tokens)))

    def _commit_row(self, sequence: Sequence, row: Row, verdict: Verdict) -> Committed:
        accepted = row.draft.tokens[: verdict.num_accepted].tolist() if row.draft else []
        num_before = len(sequence.tokens)
        limit = self.limit(sequence)
        tokens = append_until_stop(sequence, [*accepted, verdict.next_token], self.eos_ids, limit)
        computed = min(num_before + verdict.num_accepted, len(sequence.tokens) - 1)
        self.cache.advance(sequence.table, sequence.tokens, computed)
        num_drafted = row.draft.length if row.draft else 0
        if len(tokens) <= verdict.num_accepted:
            num_drafted = len(tokens)
        return Committed(sequence, tokens, min(verdict.num_accepted, len(tokens)), num_drafted, row.draft)

    def _let_go(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.cache.free(sequence.table)
