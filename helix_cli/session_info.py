"""What a session says of itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SessionInfo:
    """What was loaded and how it runs, for the first event of `--json` and for the statistics."""

    version: str
    target: str
    draft: str | None
    device: str
    threads: int
    dtype: str
    weights: str
    """How the target's matrices are stored."""
    implementation: str
    """What computes the target: native, or transformers' modules."""
    draft_weights: str | None
    """The same of the model that drafts; None where none does."""
    vocabulary: dict[str, Any] | None
    """How a second model talks to the target (same, mapped, shared or text) and how much their vocabularies share."""
    exact: bool
    exact_reason: str
    drafter: str
    k: int | str
    """The fixed depth, or auto."""
    rule: str
    context: int
    block_size: int
    num_blocks: int
    notes: tuple[str, ...]
    load_s: float
    startup: dict[str, float]
    """Seconds of each phase of the start so far; see `Phases`."""
    config: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return asdict(self)
