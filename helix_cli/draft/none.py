"""No drafter: plain decoding, the same path with empty drafts."""

from __future__ import annotations

from helix_cli.core import Draft, Sequence, Wanted


class NoDrafter:
    """Proposes nothing."""

    def source(self, sequence: Sequence) -> str:
        return "none"

    def propose(self, wanted: list[Wanted]) -> dict[int, Draft]:
        return {}

    def observe(self, sequence: Sequence, draft: Draft, num_accepted: int) -> None:
        return None

    def forget(self, sequence_id: int) -> None:
        return None
