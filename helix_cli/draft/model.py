"""A second, cheaper model proposes: another checkpoint, or the target's own first layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from helix_cli.cache.table import BlockTable
from helix_cli.core import Draft, Row, Sequence, Wanted
from helix_cli.draft.confidence import Confidence, confidence_of
from helix_cli.draft.device_loop import draft_on_device
from helix_cli.draft.vocabulary import Reading, Vocabulary
from helix_cli.model.runner import ModelRunner
from helix_cli.sampling import Noise, is_finite


@dataclass(eq=False)
class _Held:
    """What the draft's cache holds for one sequence: `tokens` beyond `num_shared` may be others by now."""

    table: BlockTable
    tokens: list[int]
    num_shared: int


@dataclass(eq=False)
class Growing:
    """One sequence's draft while it is being drawn."""

    wanted: Wanted
    held: _Held
    depth: int
    vocabulary: Vocabulary
    reading: Reading
    tokens: list[int] = field(default_factory=list)
    probs: list[torch.Tensor] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    chance: float = 1.0
    """That all its tokens are kept, as far as the draft can tell."""
    closed: bool = False

    @property
    def sequence(self) -> Sequence:
        """Whose draft it is."""
        return self.wanted.sequence

    def draft(self) -> Draft:
        """The finished draft."""
        proposed = self.vocabulary.proposal(self.sequence, self.reading, self.tokens)
        if proposed is not None:
            return Draft(torch.tensor(proposed[: self.depth], dtype=torch.long), len(proposed[: self.depth]))
        probs = torch.stack(self.probs) if self.probs else None
        return Draft(torch.tensor(self.tokens), len(self.tokens), probs, tuple(self.confidences))


class ModelDrafter:
    """Draws tokens one by one from a draft model that has a pool and a table of its own.

    Each round first rolls back to the longest prefix that is still true and feeds what is missing, so the last accepted
    token can never be absent from the draft's cache. That prefill is chunked by `max_step_tokens`; until it has caught
    up, and whenever the draft's pool or context is full, a sequence gets no draft.
    """

    def __init__(
        self,
        runner: ModelRunner,
        vocabulary_of: Callable[[Sequence], Vocabulary],
        *,
        max_step_tokens: int,
    ) -> None:
        """`vocabulary_of` says how to talk of a sequence, which stays so while the sequence lives."""
        self.runner = runner
        self.cache = runner.cache
        self.context = runner.context
        self.vocabulary_of = vocabulary_of
        self.max_step_tokens = max_step_tokens
        self.confidence = Confidence()
        self._held: dict[int, _Held] = {}
        self._vocabularies: dict[int, Vocabulary] = {}

    def source(self, sequence: Sequence) -> str:
        return "model"

    def propose(self, wanted: list[Wanted]) -> dict[int, Draft]:
        growing, rows = self._catch_up(wanted)
        if draft_on_device(self.runner, growing, rows):
            rows = []
        active = growing
        while rows:
            logits = self.runner.forward(rows)
            self._advance(active, rows)
            if not is_finite(logits):
                break  # a broken draft costs its proposals, never the run
            self._draw(active, logits)
            active = [one for one in active if not one.closed]
            rows = [Row(one.held.table, [one.vocabulary.to_draft(one.tokens[-1])], num_logits=1) for one in active]
        drafts = {one.sequence.id: one.draft() for one in growing if one.tokens}
        return {sequence_id: draft for sequence_id, draft in drafts.items() if draft.length}

    def observe(self, sequence: Sequence, draft: Draft, num_accepted: int) -> None:
        # A text that has ended says nothing about the tokens behind its end.
        refused = num_accepted < draft.length and sequence.finish is None
        for place, confidence in enumerate(draft.confidences[: num_accepted + refused]):
            self.confidence.observe(confidence, place < num_accepted)

    def forget(self, sequence_id: int) -> None:
        held = self._held.pop(sequence_id, None)
        if held is not None:
            self.cache.free(held.table)
        vocabulary = self._vocabularies.pop(sequence_id, None)
        if vocabulary is not None:
            vocabulary.forget(sequence_id)

    def check(self) -> None:
        """Asserts the invariants of the draft's pool."""
        self.cache.check([held.table for held in self._held.values()])

    def _catch_up(self, wanted: list[Wanted]) -> tuple[list[Growing], list[Row]]:
        """Rolls back and plans the missing tokens of every sequence under the token budget."""
        budget = self.max_step_tokens
        growing, rows = [], []
        for one in wanted:
            if one.depth < 1 or budget < 1:
                continue
            vocabulary = self._vocabulary(one.sequence)
            reading = vocabulary.read(one.sequence)
            depth = 0 if reading is None else min(one.depth, self.context - len(reading.tokens) + 1)
            if reading is None or depth < 1:
                continue
            held = self._roll_back(one.sequence, reading)
            missing = reading.tokens[held.table.num_computed :]
            if max(missing) >= self.runner.decoder.architecture.vocab_size:
                continue  # a padding id of the target's, for which the draft has no embedding
            fed = missing[:budget]
            last = held.table.num_computed + len(fed)
            caught_up = len(fed) == len(missing)
            length = last + depth - 1 if caught_up else last
            if not self.cache.can_grow(held.table, length):
                continue
            self.cache.grow(held.table, length)
            budget -= len(fed)
            growing.append(Growing(one, held, depth, vocabulary, reading, closed=not caught_up))
            rows.append(Row(held.table, fed, num_logits=int(caught_up)))
        return growing, rows

    def _vocabulary(self, sequence: Sequence) -> Vocabulary:
        if sequence.id not in self._vocabularies:
            self._vocabularies[sequence.id] = self.vocabulary_of(sequence)
        return self._vocabularies[sequence.id]

    def _roll_back(self, sequence: Sequence, reading: Reading) -> _Held:
        """Makes the table end with the longest computed prefix of the committed text, its last token excepted.

        Tokens that are not settled are compared again each time, and their blocks are not published.
        """
        tokens, settled = reading.tokens, reading.tokens[: reading.num_settled]
        held = self._held.get(sequence.id)
        if held is None:
            table = self.cache.match_prefix(tokens[: reading.num_settled + 1])
            held = _Held(table, tokens[: table.num_computed], table.num_computed)
            self._held[sequence.id] = held
        shared = held.num_shared
        end = min(len(held.tokens), len(tokens) - 1)
        while shared < end and held.tokens[shared] == tokens[shared]:
            shared += 1
        del held.tokens[shared:]
        held.num_shared = min(shared, reading.num_settled)
        self.cache.advance(held.table, settled, shared)
        return held

    def _advance(self, active: list[Growing], rows: list[Row]) -> None:
        for one, row in zip(active, rows, strict=True):
            one.held.tokens.extend(row.tokens)
            one.held.table.num_computed += row.length

    def _draw(self, active: list[Growing], logits: torch.Tensor) -> None:
        """Draws one token for every draft that has caught up, by the law that its sequence's rule asks for."""
        drawing = [one for one in active if not one.closed]
        for index, one in enumerate(drawing):
            sequence, vocabulary = one.sequence, one.vocabulary
            rule, prefix = vocabulary.rule(sequence), vocabulary.prefix(sequence, one.reading)
            if sequence.params.repetition_penalty != 1.0:
                prefix = prefix + one.tokens
            scores = rule.scores(vocabulary.fit(logits[index : index + 1]), sequence.params, prefix)
            if one.wanted.step_floor > 0.0 and self._ends_before(one, scores[0]):
                one.closed = True
                continue
            start = len(sequence.tokens)
            drawn = rule.draw(scores[0], Noise(sequence.seed, start), start + len(one.tokens))
            token = int(drawn.token)
            one.tokens.append(token)
            if drawn.probs is not None:
                one.probs.append(drawn.probs)
            next_chance = one.chance * self.confidence.usual
            one.closed = (
                vocabulary.ends(sequence, token) or len(one.tokens) == one.depth or next_chance < one.wanted.step_floor
            )

    def _ends_before(self, one: Growing, scores: torch.Tensor) -> bool:
        """Whether the next token's row would cost more than the token is worth; decided by its law, before it is drawn.

        The law [V] follows from the tokens before it, so no token is kept or dropped for its own value.
        """
        confidence = confidence_of(scores)
        one.chance *= self.confidence.chance(confidence)
        if one.chance < one.wanted.token_floor:
            return True
        one.confidences.append(confidence)
        return False
