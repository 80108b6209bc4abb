"""Prompt lookup: what followed the last time this text came up (Saxena, "Prompt Lookup Decoding", 2023)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from helix_cli.core import Draft, Sequence

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

    def propose(self, wanted: list[tuple[Sequence, int]]) -> dict[int, Draft]:
        drafts = {}
        for sequence, depth in wanted:
            tokens = self._lookup(sequence, depth)
            if tokens:
                drafts[sequence.id] = Draft(torch.tensor(tokens), len(tokens))
        return drafts

    def observe(self, sequence: Sequence, draft: Draft, num_accepted: int) -> None:
        return None

    def forget(self, sequence_id: int) -> None:
        self._indexes.pop(sequence_id, None)

    def _lookup(self, sequence: Sequence, depth: int) -> list[int]:
        tokens = sequence.tokens
        index = self._indexes.setdefault(sequence.id, _Index())
        self._extend(index, tokens)
        end = self._longest_match(index, tokens)
        if end is None:
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

    def _longest_match(self, index: _Index, tokens: list[int]) -> int | None:
        """The end of the longest earlier match, the most recent among equals."""
        if len(tokens) < self.shortest:
            return None
        ends = index.ends.get(tuple(tokens[-self.shortest :]), [])
        best, best_length = None, 0
        for end in reversed(ends[-MAX_CANDIDATES:]):
            length = self._match_length(tokens, end)
            if length > best_length:
                best, best_length = end, length
            if best_length == self.longest:
                break
        return best

    def _match_length(self, tokens: list[int], end: int) -> int:
        length = self.shortest
        while length < self.longest and end > length and tokens[end - length - 1] == tokens[-length - 1]:
            length += 1
        return length
