"""What a drafter is."""

from __future__ import annotations

from typing import Protocol

from helix_cli.core import Draft, Sequence, Wanted


class Drafter(Protocol):
    """Proposes tokens for sequences that are decoding. A bad proposal costs time and never changes the text."""

    def source(self, sequence: Sequence) -> str:
        """The way in which the next draft would be made: costs and acceptance are learned for each way by itself."""
        ...

    def propose(self, wanted: list[Wanted]) -> dict[int, Draft]:
        """Drafts of at most the wanted length by sequence id; a sequence that is left out gets no draft.

        A draft ends after an EOS that its sequence obeys, and a token once drawn is never dropped: dropping by value
        would bend the law of the text.
        """
        ...

    def observe(self, sequence: Sequence, draft: Draft, num_accepted: int) -> None:
        """Learns how a draft fared; called after the sequence has committed."""
        ...

    def forget(self, sequence_id: int) -> None:
        """Releases all that is held for a sequence; unknown ids are fine."""
        ...
