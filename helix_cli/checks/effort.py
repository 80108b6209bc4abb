"""How much a run of the checks does: enough for thirty seconds, for minutes, or for as long as it takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """The sizes of everything that is repeated."""

    name: str
    num_prompts: int
    """Of those that ship with Helix; a user's own are all used."""
    num_tokens: int
    """Tokens written after each prompt."""
    num_samples: int
    """Texts behind each comparison of laws."""
    counted_drafters: tuple[str, ...]
    """Whose texts are counted."""
    num_seeds: int
    """Sampled texts that must equal the plain ones."""
    offsets: tuple[int, ...]
    """Places in an accepted block at which a text is stopped."""
    depths: tuple[int, ...]
    """Draft lengths that stops and depths are tried with; 0 is plain decoding."""
    num_requests: int
    """Requests of the endurance check, on a tiny model."""
    restarts: bool
    """Whether the program may be started several times with the models."""


BOTH = ("model", "ngram")
EFFORTS = {
    "quick": Effort("quick", 2, 16, 100, BOTH[:1], 2, (1, 3, 6), (0, 4), 300, False),
    "default": Effort("default", 6, 40, 400, BOTH, 4, tuple(range(1, 9)), (0, 1, 3, 4, 7), 2000, True),
    "full": Effort("full", 12, 128, 8000, BOTH, 16, tuple(range(1, 13)), (0, 1, 2, 3, 4, 5, 7, 11), 10000, True),
}
