"""The one place where a sequence ends: plain and speculative decoding commit through the same check."""

from __future__ import annotations

from helix_cli.core import FinishReason, Sequence


def append_until_stop(sequence: Sequence, tokens: list[int], eos_ids: frozenset[int], limit: int) -> list[int]:
    """Commits `tokens` one by one until the sequence stops; returns those that were kept.

    EOS and stop strings beat the length limit when one token meets both. The stopping token is kept.
    """
    for count, token in enumerate(tokens, start=1):
        sequence.tokens.append(token)
        sequence.finish = _finish_reason(sequence, token, eos_ids, limit)
        if sequence.finish is not None:
            return tokens[:count]
    return tokens


def _finish_reason(sequence: Sequence, token: int, eos_ids: frozenset[int], limit: int) -> FinishReason | None:
    # The watch must see every token, an EOS included, or its text would lag behind the tokens.
    stopped = sequence.watch is not None and sequence.watch(token)
    if stopped or (token in eos_ids and not sequence.params.ignore_eos):
        return FinishReason.STOP
    return FinishReason.LENGTH if len(sequence.tokens) >= limit else None
