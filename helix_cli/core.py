"""The types that travel between the parts. Standard library only at run time.

Vocabulary: a sequence holds *committed* tokens; positions whose K/V lie in the pool are *computed*; a drafter's tokens
are *drafted*, the rule says how many are *accepted* and which token comes *next*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

    from helix_cli.cache.table import BlockTable
    from helix_cli.stats import RequestStats, Trace
    from helix_cli.verify.rule import VerifyRule


@dataclass(frozen=True)
class SamplingParams:
    """How one request is sampled and when it stops. `temperature` 0 is greedy; 0 switches `top_k` off."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int = 256
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False


@dataclass(frozen=True)
class Request:
    """A tokenised prompt; a smaller `priority` runs earlier."""

    prompt: tuple[int, ...]
    params: SamplingParams
    priority: int = 0


class FinishReason(StrEnum):
    """Why a sequence ended."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"


@dataclass(eq=False)
class Sequence:
    """A request on its way: committed `tokens`, and a block table that says which of them are computed."""

    id: int
    tokens: list[int]
    prompt_len: int
    params: SamplingParams
    priority: int
    arrival: int
    seed: int
    rule: VerifyRule
    table: BlockTable
    trace: Trace
    watch: Callable[[int], bool] | None = None
    """Called once for each committed token; True when the text now ends in a stop string."""
    finish: FinishReason | None = None

    @property
    def num_uncomputed(self) -> int:
        """Committed tokens whose K/V are not in the pool yet; 1 while decoding."""
        return len(self.tokens) - self.table.num_computed

    @property
    def num_generated(self) -> int:
        """Committed tokens after the prompt."""
        return len(self.tokens) - self.prompt_len


@dataclass(frozen=True)
class Draft:
    """Proposed tokens. `probs` [length, V] is the law each was drawn from; None means a point mass."""

    tokens: torch.Tensor
    length: int
    probs: torch.Tensor | None = None
    confidences: tuple[float, ...] = ()
    """The draft's own chance of its likeliest token at each place, where it was looked at."""


class Wanted(NamedTuple):
    """What a drafter is asked for: up to `depth` tokens after `sequence`.

    A drafter that can tell how likely its tokens are to be kept ends earlier: before it draws a token that would be
    kept (with all before it) with a chance below `token_floor`, and after one whose successor would be kept with a
    chance below `step_floor`. Both floors are prices in tokens: of one more row of the target, and of one
    more pass of the draft with it. Zero floors ask for the whole depth.
    """

    sequence: Sequence
    depth: int
    token_floor: float = 0.0
    step_floor: float = 0.0


@dataclass(frozen=True)
class Row:
    """One sequence's part of a forward pass: `tokens`, then the draft, from position `table.num_computed` on.

    Logits are wanted for the last `num_logits` of them.
    """

    table: BlockTable
    tokens: list[int]
    num_logits: int
    draft: Draft | None = None

    @property
    def length(self) -> int:
        """Tokens fed."""
        return len(self.tokens) + (self.draft.length if self.draft else 0)


@dataclass(frozen=True)
class StepPlan:
    """What one step computes: `rows[i]` belongs to `sequences[i]`; `preempted` lost their blocks to make room."""

    sequences: list[Sequence] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)

    def add(self, sequence: Sequence, row: Row) -> None:
        """Appends one sequence's row."""
        self.sequences.append(sequence)
        self.rows.append(row)


@dataclass(frozen=True)
class Verdict:
    """How many drafted tokens are kept, and one token of the target's own law that follows them."""

    num_accepted: int
    next_token: int


@dataclass(frozen=True)
class Committed:
    """Tokens that one step appended to one sequence; the first `num_accepted` of them came from `draft`.

    Both counts are trimmed at a stop: what lies behind it was neither used nor rejected.
    """

    sequence: Sequence
    tokens: list[int]
    num_accepted: int
    num_drafted: int
    draft: Draft | None


@dataclass(frozen=True)
class StepOutput:
    """Everything that changed in one step."""

    committed: list[Committed] = field(default_factory=list)
    finished: list[Sequence] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)


@dataclass(frozen=True)
class Piece:
    """The text that one token released ("" while a character or a possible stop string is incomplete).

    `token` is None for text that was held back until the end and belongs to no single token.
    """

    text: str
    token: int | None
    drafted: bool


@dataclass(frozen=True)
class TextEvent:
    """New text of request `index`."""

    index: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class FinishedEvent:
    """Request `index` is complete."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    stats: RequestStats


Event = TextEvent | FinishedEvent
