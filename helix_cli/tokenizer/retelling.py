"""A text that grows in one tokenizer's tokens, told in another's, at the cost of its last words.

Text that is tokenised anew may be cut otherwise at its end, so the last tokens can change while the text grows. Words
far enough back cannot, and those are settled: whoever computes something for the tokens may keep it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from helix_cli.tokenizer.pairing import Pairing
from helix_cli.tokenizer.pieces import Pieces
from helix_cli.tokenizer.tokenizer import Tokenizer

LONGEST_TAIL = 160
"""Characters that are tokenised anew each time before some of them are settled."""
KEPT = 32
"""Characters at the end that stay open then: longer than the words that a later letter could join."""
MOST_CUTS = 16
"""Ends of words that are tried, the last first."""
_WORD_ENDS = re.compile(r"(?<=\S)(?=\s\S)")
_STAND_INS = ("\n", "a", ".")
"""Texts to stand before another where what really does would merge with it."""


def encode_after(tokenizer: Tokenizer, before: str, text: str) -> list[int]:
    """Ids of `text` where it follows `before`, of which "" is the beginning of a text.

    Many tokenizers treat the beginning of a text specially, so the text is never tokenised alone elsewhere.
    """
    for head in (before, *_STAND_INS) if before else ("",):
        first, whole = tokenizer.encode_rendered(head), tokenizer.encode_rendered(head + text)
        if whole[: len(first)] == first:
            return whole[len(first) :]
    return tokenizer.encode_rendered(text)


class Respelling:
    """One text token by token in the ids of `draft`, which cuts text as `target` does."""

    def __init__(self, target: Tokenizer, draft: Tokenizer, pairing: Pairing) -> None:
        self.tokens: list[int] = list(draft.leading_ids)
        """The text so far."""
        self._target, self._draft, self._pairing = target, draft, pairing
        self._num_read = 0

    @property
    def num_settled(self) -> int:
        """How many of the tokens will not change: all."""
        return len(self.tokens)

    def follow(self, tokens: Sequence[int]) -> bool:
        """Reads what `tokens` has beyond what was read before; always True."""
        skipped = 0 if self._num_read else _num_leading(tokens, self._target, self._pairing, self.tokens)
        for token in tokens[self._num_read + skipped :]:
            paired = self._pairing.to_draft.get(token)
            # A marker that the draft lacks is told by its letters.
            told = self._draft.encode_rendered(self._target.token(token) or "") if paired is None else [paired]
            self.tokens += told
        self._num_read = len(tokens)
        return True


class Retelling:
    """One text in the tokens of `draft`, as far as it has been told in the tokens of `target`."""

    def __init__(self, target: Tokenizer, draft: Tokenizer, pairing: Pairing) -> None:
        self.tokens: list[int] = list(draft.leading_ids)
        """The text so far; the first `num_settled` of them will not change."""
        self.num_settled = len(self.tokens)
        self._target, self._draft, self._pairing = target, draft, pairing
        self._num_read = 0
        self._pieces = Pieces(target)
        self._before = ""
        """The settled text just before the tail; empty at the beginning."""
        self._tail = ""
        self._limit = LONGEST_TAIL

    def follow(self, tokens: Sequence[int]) -> bool:
        """Reads what `tokens` has beyond what was read before; False where it ends within a character.

        `tokens` is the whole text each time, and only ever grows.
        """
        skipped = 0 if self._num_read else _num_leading(tokens, self._target, self._pairing, self.tokens)
        for token in tokens[self._num_read + skipped :]:
            if token in self._target.special_ids:
                self._tell_special(token)
            else:
                self._tail += self._pieces.push(token)
        self._num_read = len(tokens)
        self._tell_tail()
        return self._pieces.is_whole

    def _tell_special(self, token: int) -> None:
        """A special token ends the text before it for good; one that the draft lacks is told by its letters."""
        self._tell_tail()
        paired = self._pairing.to_draft.get(token)
        entry = self._target.token(token) if paired is None else self._draft.token(paired)
        told = encode_after(self._draft, self._before, entry or "") if paired is None else [paired]
        self._settle([*self.tokens[self.num_settled :], *told], before=entry or "", tail="")
        self._pieces = Pieces(self._target)

    def _tell_tail(self) -> None:
        ids = encode_after(self._draft, self._before, self._tail)
        self.tokens[self.num_settled :] = ids
        if len(self._tail) > self._limit:
            self._settle_words(ids)

    def _settle_words(self, ids: list[int]) -> None:
        """Settles all but the end of the tail, whose tokens are `ids`, where the cut leaves them as they are."""
        last = len(self._tail) - KEPT
        ends = [match.start() for match in _WORD_ENDS.finditer(self._tail, 0, last)]
        for cut in (*ends[: -MOST_CUTS - 1 : -1], last):
            left, right = self._tail[:cut], self._tail[cut:]
            first = encode_after(self._draft, self._before, left)
            if first != ids[: len(first)]:
                continue
            before = left[-2 * KEPT :]
            if encode_after(self._draft, before, right) == ids[len(first) :]:
                self._settle(first, before, right)
                self.tokens += ids[len(first) :]
                self._limit = LONGEST_TAIL
                return
        self._limit = 2 * len(self._tail)

    def _settle(self, ids: list[int], before: str, tail: str) -> None:
        """The tokens after the settled ones are `ids`, for good; `tail` is what follows, and not told yet."""
        self.tokens[self.num_settled :] = ids
        self.num_settled = len(self.tokens)
        self._before, self._tail = before, tail


def _num_leading(tokens: Sequence[int], target: Tokenizer, pairing: Pairing, begun: Sequence[int]) -> int:
    """How many of the target's tokens only begin the text, which the draft's tokens `begun` have done already."""
    leading = target.leading_ids
    if leading and tuple(tokens[: len(leading)]) == leading:
        return len(leading)
    paired = pairing.to_draft.get(tokens[0]) if tokens else None
    return int(paired is not None and list(begun[:1]) == [paired])
