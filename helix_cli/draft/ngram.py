"""Prompt lookup: what followed the last time this text came up (Saxena, "Prompt Lookup Decoding", 2023)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from helix_cli.core import Draft, Sequence, Wanted

# Candidates looked at per proposal: text that repeats one n-gram for ever must not make a step quadratic.
MAX_CANDIDATES = 64


@dataclass
class _Index:
    """Where each n-gram of the shortest length ended, oldest first."""

    num_indexed: int = 0
    ends: dict[tuple[int, ...], list[int]] = field(default_factory=dict)


class NgramDrafter:
    """Copies what followed the longest recent earlier match of the text's own suffix, over prompt and output."""

    def __init__(self, shortest: int, longest: int, eos_ids: frozenset[int]) -> None:
        self.shortest = shortest
        self.longest = longest
        self.eos_ids = eos_ids
        self._indexes: dict[int, _Index] = {}

    def source(self, sequence: Sequence) -> str:
        return "ngram"

    def propose(self, wanted: list[Wanted]) -> dict[int, Draft]:
        drafts = {}
        for sequence, depth, *_ in wanted:
            tokens = self._lookup(sequence, depth)
            if tokens:
                drafts[sequence.id] = Draft(torch.tensor(tokens), len(tokens))
        return drafts

    def observe(self, sequence: Sequence, draft: Draft, num_accepted: int) -> None:
        return None

    def forget(self, sequence_id: int) -> None:
        self._indexes.pop(sequence_id, None)

    def match_length(self, sequence: Sequence) -> int:
        """How many tokens of the text's ending have come up before, at most the longest looked up; 0 for too few."""
        return self._match(sequence)[1]

    def _match(self, sequence: Sequence) -> tuple[int, int]:
        """Where the longest earlier match ended and its length; length 0 where there is none."""
        index = self._indexes.setdefault(sequence.id, _Index())
        self._extend(index, sequence.tokens)
        return self._longest_match(index, sequence.tokens)

    def _lookup(self, sequence: Sequence, depth: int) -> list[int]:
        tokens = sequence.tokens
        end, length = self._match(sequence)
        if not length:
            return []
        copied: list[int] = []
        for position in range(end, end + depth):
            # Past the end of the text the copy reads what it has just written, so a loop is continued as a loop.
            token = tokens[position] if position < len(tokens) else copied[position - len(tokens)]
            copied.append(token)
            if token in self.eos_ids and not sequence.params.ignore_eos:
                break
        return copied

    def _extend(self, index: _Index, tokens: list[int]) -> None:
        # The suffix itself is left out: an n-gram is indexed once a token follows it.
        for end in range(max(index.num_indexed + 1, self.shortest), len(tokens)):
            index.ends.setdefault(tuple(tokens[end - self.shortest : end]), []).append(end)
        index.num_indexed = max(index.num_indexed, len(tokens) - 1)

    def _longest_match(self, index: _Index, tokens: list[int]) -> tuple[int, int]:
        """The end and the length of the longest earlier match, the most recent among equals; (0, 0) for none."""
        if len(tokens) < self.shortest:
            return 0, 0
        ends = index.ends.get(tuple(tokens[-self.shortest :]), [])
        best, best_length = 0, 0
        for end in reversed(ends[-MAX_CANDIDATES:]):
            length = self._match_length(tokens, end)
            if length > best_length:
                best, best_length = end, length
            if best_length == self.longest:
                break
        return best, best_length

    def _match_length(self, tokens: list[int], end: int) -> int:
        length = self.shortest
        while length < self.longest and end > length and tokens[end - length - 1] == tokens[-length - 1]:
            length += 1
        return length
