"""A whole engine over given models, without a session: any drafter, rule and cache, checked after each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from helix_cli.cache.paged import PagedKVCache, num_blocks_for
from helix_cli.cache.table import BlockTable
from helix_cli.core import FinishReason, Request, Row, StepOutput
from helix_cli.core import Sequence as EngineSequence
from helix_cli.draft import DRAFTERS, DraftSetup
from helix_cli.draft.depth import FixedDepth
from helix_cli.draft.drafter import Drafter
from helix_cli.draft.none import NoDrafter
from helix_cli.draft.vocabulary import Vocabulary
from helix_cli.engine.engine import Engine
from helix_cli.engine.scheduler import Scheduler
from helix_cli.model.language_model import LanguageModel
from helix_cli.model.runner import ModelRunner
from helix_cli.verify.choose import choose_rule
from helix_cli.verify.rule import VerifyRule

BLOCK_SIZE = 16


@dataclass
class Finished:
    """What became of one request."""

    tokens: list[int]
    finish: FinishReason | None
    sequence: EngineSequence


@dataclass
class Workbench:
    """An engine and the cache under it; see `build`."""

    engine: Engine
    target_cache: PagedKVCache
    outputs: list[StepOutput] = field(default_factory=list)

    def run(
        self,
        requests: Sequence[Request],
        rule: str | VerifyRule = "auto",
        watches: dict[int, Callable[[int], bool]] | None = None,
        after_step: Callable[[Workbench], None] = lambda bench: None,
    ) -> list[Finished]:
        """Runs requests to their ends, with every invariant checked between steps and nothing left behind."""
        ids = [
            self.engine.add(
                request,
                choose_rule(rule, request.params) if isinstance(rule, str) else rule,
                (watches or {}).get(place),
            )
            for place, request in enumerate(requests)
        ]
        done: dict[int, EngineSequence] = {}
        while not self.engine.idle:
            output = self.engine.step()
            self.outputs.append(output)
            self.check()
            done.update({sequence.id: sequence for sequence in output.finished})
            after_step(self)
        self.check()
        assert self.target_cache.pool.num_used == 0, "blocks leaked"
        return [Finished(done[one].tokens[done[one].prompt_len :], done[one].finish, done[one]) for one in ids]

    def check(self) -> None:
        """Asserts the invariants of engine and drafter."""
        self.engine.check()
        check = getattr(self.engine.drafter, "check", None)
        if check is not None:
            check()

    @property
    def num_drafted(self) -> int:
        """Drafted tokens that were judged so far."""
        return sum(one.num_drafted for output in self.outputs for one in output.committed)

    @property
    def num_accepted(self) -> int:
        """Drafted tokens that were kept so far."""
        return sum(one.num_accepted for output in self.outputs for one in output.committed)

    def keys_and_values(self, num_positions: int) -> Tensor:
        """K/V of the first positions of the only sequence that a fresh pool has seen: it starts in the first slot."""
        return torch.stack([layer[:, :, :num_positions] for layer in self.target_cache.layers])


def build(
    target: LanguageModel,
    drafter: str | Drafter = "none",
    k: Any = 4,
    *,
    eos_ids: frozenset[int] = frozenset(),
    draft: LanguageModel | None = None,
    vocabulary_of: Callable[[EngineSequence], Vocabulary] | None = None,
    block_size: int = 4,
    num_blocks: int = 64,
    draft_blocks: int | None = None,
    max_step_tokens: int = 64,
    max_sequences: int = 8,
    context: int = 128,
    prefix_reuse: bool = True,
) -> Workbench:
    """An engine over fresh caches, with a drafter by name or a given one.

    `k` tokens are proposed at a time. A drafter that needs a draft model gets `draft`, which talks as `vocabulary_of`
    says, or the target's first layers.
    """

    def runner(model: LanguageModel, blocks: int) -> ModelRunner:
        return ModelRunner(model, cache_for(model, blocks, block_size, prefix_reuse))

    drafting = None
    if isinstance(drafter, str) and drafter not in ("none", "ngram"):
        model = draft if draft is not None and drafter != "early_exit" else target.truncated(1)
        drafting = runner(model, draft_blocks or num_blocks)
    target_runner = runner(target, num_blocks)
    scheduler = Scheduler(
        target_runner.cache,
        FixedDepth(k) if isinstance(k, int) else k,
        eos_ids=eos_ids,
        context=context,
        max_step_tokens=max_step_tokens,
        max_sequences=max_sequences,
    )
    if isinstance(drafter, str):
        setup = DraftSetup(
            eos_ids=eos_ids,
            target_vocab_size=target.architecture.vocab_size,
            max_step_tokens=max_step_tokens,
            ngram_min=1,
            ngram_max=4,
            runner=drafting,
            vocabulary_of=None if drafter == "early_exit" else vocabulary_of,
        )
        drafter = DRAFTERS[drafter](setup)
    return Workbench(Engine(target_runner, scheduler, drafter), target_runner.cache)


def cache_for(model: LanguageModel, blocks: int, block_size: int, prefix_reuse: bool = True) -> PagedKVCache:
    """A pool that fits a model."""
    return PagedKVCache(model.kv_shapes, blocks, block_size, model.dtype, model.device, prefix_reuse)


class Scripted(NoDrafter):
    """Drafts a text that is written down for each prompt: the one that will come, or one that will not."""

    def __init__(self, texts: dict[tuple[int, ...], list[int]]) -> None:
        """`texts` are continuations by prompt."""
        self.texts = texts

    def propose(self, wanted: Any) -> Any:
        from helix_cli.core import Draft

        drafts = {}
        for sequence, depth, *_ in wanted:
            text = self.texts[tuple(sequence.tokens[: sequence.prompt_len])]
            tokens = text[sequence.num_generated :][:depth]
            if tokens:
                drafts[sequence.id] = Draft(torch.tensor(tokens), len(tokens))
        return drafts


class Scorer:
    """A text in a pool of its own, fed piece by piece: what the logits are, however the text is cut into passes."""

    def __init__(self, decoder: LanguageModel, tokens: Sequence[int], shuffled: bool = False) -> None:
        """Nothing is computed yet; with `shuffled` the blocks of the table descend."""
        num_blocks = num_blocks_for(len(tokens), BLOCK_SIZE)
        self.cache = cache_for(decoder, num_blocks, BLOCK_SIZE, prefix_reuse=False)
        self.runner = ModelRunner(decoder, self.cache)
        self.tokens = list(tokens)
        self.table = BlockTable()
        self.cache.grow(self.table, len(tokens))
        if shuffled:
            self.table = BlockTable(self.table.blocks[::-1])

    def feed(self, count: int, num_logits: int | None = None) -> Tensor:
        """Computes the next `count` tokens in one pass; logits of the last `num_logits` of them, of all if None."""
        first = self.table.num_computed
        fed = self.tokens[first : first + count]
        wanted = len(fed) if num_logits is None else num_logits
        logits = self.runner.forward([Row(self.table, fed, num_logits=wanted)])
        self.table.num_computed += len(fed)
        return logits


def scores(decoder: LanguageModel, tokens: Sequence[int], first: int, piece: int, shuffled: bool = False) -> Tensor:
    """Logits [len - first, V] of the positions from `first` on, which are fed `piece` at a time."""
    scorer = Scorer(decoder, tokens, shuffled)
    if first:
        scorer.feed(first, num_logits=0)
    return torch.cat([scorer.feed(piece) for _ in range(first, len(tokens), piece)])
