"""Two drafters in one: n-grams where the text is being repeated, a draft model elsewhere."""

from __future__ import annotations

from helix_cli.core import Draft, Sequence, Wanted
from helix_cli.draft.acceptance import Averages
from helix_cli.draft.model import ModelDrafter
from helix_cli.draft.ngram import NgramDrafter


class AutoDrafter:
    """Copies where the text's ending has come up before and copies have been kept as often as the model's drafts.

    A match of the longest length is always copied until copies have proved worse; a copy costs next to nothing, so it
    wins at equal acceptance. The choice is made from committed tokens and past verdicts.
    """

    def __init__(self, ngram: NgramDrafter, model: ModelDrafter) -> None:
        self.ngram = ngram
        self.model = model
        # Shares kept by length of the match: position i of these averages is a match of i tokens.
        self._copied = Averages()
        self._drawn = Averages()
        self._made: dict[int, tuple[str, int]] = {}

    def source(self, sequence: Sequence) -> str:
        length = self.ngram.match_length(sequence)
        return self.ngram.source(sequence) if self._copies(length) else self.model.source(sequence)

    def propose(self, wanted: list[Wanted]) -> dict[int, Draft]:
        copying: list[Wanted] = []
        drawing: list[Wanted] = []
        for one in wanted:
            length = self.ngram.match_length(one.sequence)
            copies = self._copies(length)
            (copying if copies else drawing).append(one)
            self._made[one.sequence.id] = ("ngram" if copies else "model", length)
        return self.ngram.propose(copying) | (self.model.propose(drawing) if drawing else {})

    def observe(self, sequence: Sequence, draft: Draft, num_accepted: int) -> None:
        source, length = self._made[sequence.id]
        if source == "model":
            self.model.observe(sequence, draft, num_accepted)
        averages, place = (self._copied, length) if source == "ngram" else (self._drawn, 0)
        judged = num_accepted if sequence.finish is not None else min(num_accepted + 1, draft.length)
        for token in range(judged):
            averages.observe(place, token < num_accepted)

    def forget(self, sequence_id: int) -> None:
        self._made.pop(sequence_id, None)
        self.ngram.forget(sequence_id)
        self.model.forget(sequence_id)

    def check(self) -> None:
        """Asserts the invariants of the draft model's pool."""
        self.model.check()

    def _copies(self, length: int) -> bool:
        """Whether a match of so many tokens (0: none) is copied."""
        if length == 0:
            return False
        if not self._copied.known(length):
            return length == self.ngram.longest
        return self._copied.at(length) >= self._drawn.at(0)
