"""No drafter: plain decoding, the same path with empty drafts."""

from __future__ import annotations

from helix_cli.core import Draft, Sequence


class NoDrafter:
    """Proposes nothing."""

    def propose(self, wanted: list[tuple[Sequence, int]]) -> dict[int, Draft]:
        return {}

    def observe(self, sequence: Sequence, draft: Draft, num_accepted: int) -> None:
        return None

    def forget(self, sequence_id: int) -> None:
        return None
