"""A whole engine over tiny random models, for tests: every drafter, every rule, any cache, checked after each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch

from helix_cli.backend import open_backend
from helix_cli.cache.paged import PagedKVCache
from helix_cli.core import FinishReason, Request, SamplingParams, Sequence, StepOutput
from helix_cli.draft import DRAFTERS, DraftSetup
from helix_cli.draft.depth import Depth, FixedDepth
from helix_cli.engine.engine import Engine
from helix_cli.engine.scheduler import Scheduler
from helix_cli.model.architecture import read_architecture
from helix_cli.model.decoder import Decoder
from helix_cli.model.loader import load_decoder
from helix_cli.model.runner import ModelRunner
from helix_cli.verify.choose import choose_rule
from tests.tiny import tiny_checkpoint

EOS = frozenset({2})
# A small vocabulary makes drafts of an unrelated random model agree now and then, so that every branch is taken.
SMALL: dict[str, Any] = {"vocab_size": 16, "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48}


@cache
def decoder(role: str, vocab_size: int = SMALL["vocab_size"]) -> Decoder:
    """The tiny target, or a draft that differs from it a little, in float32."""
    path = tiny_checkpoint(Path(mkdtemp()), **(SMALL | {"vocab_size": vocab_size}))
    loaded = load_decoder(path, read_architecture(path), open_backend("cpu", threads=1), torch.float32)
    if role == "draft":
        disturb(loaded)
    return loaded


def disturb(loaded: Decoder) -> None:
    """Changes a model a little: its drafts are then accepted now and then."""
    generator = torch.Generator().manual_seed(1)
    loaded.embedding.add_(0.2 * torch.randn(loaded.embedding.shape, generator=generator))


@dataclass
class Outcome:
    """What became of one request."""

    tokens: list[int]
    finish: FinishReason | None
    sequence: Sequence


@dataclass
class Bench:
    """An engine and the caches under it; `settings` are the arguments of `build`."""

    engine: Engine
    target_cache: PagedKVCache
    outputs: list[StepOutput] = field(default_factory=list)

    def run(
        self,
        requests: list[Request],
        rule: str = "auto",
        watches: dict[int, Callable[[int], bool]] | None = None,
        after_step: Callable[[Bench], None] = lambda bench: None,
    ) -> list[Outcome]:
        """Runs requests to their ends, with every invariant checked between steps and nothing left behind."""
        ids = [
            self.engine.add(request, choose_rule(rule, request.params), (watches or {}).get(place))
            for place, request in enumerate(requests)
        ]
        done: dict[int, Sequence] = {}
        while not self.engine.idle:
            output = self.engine.step()
            self.outputs.append(output)
            self.check()
            done.update({sequence.id: sequence for sequence in output.finished})
            after_step(self)
        self.check()
        assert self.target_cache.pool.num_used == 0, "blocks leaked"
        return [Outcome(done[one].tokens[done[one].prompt_len :], done[one].finish, done[one]) for one in ids]

    def check(self) -> None:
        """Asserts the invariants of engine and drafter."""
        self.engine.check()
        check = getattr(self.engine.drafter, "check", None)
        if check is not None:
            check()


def build(
    drafter: str = "none",
    k: int | Depth = 4,
    *,
    block_size: int = 4,
    num_blocks: int = 64,
    draft_blocks: int | None = None,
    max_step_tokens: int = 64,
    max_sequences: int = 8,
    context: int = 128,
    prefix_reuse: bool = True,
    target: Decoder | None = None,
    draft: Decoder | None = None,
) -> Bench:
    """An engine with one drafter over fresh caches."""
    target = target or decoder("target")

    def runner(model: Decoder, blocks: int) -> ModelRunner:
        return ModelRunner(model, cache_for(model, blocks, block_size, prefix_reuse))

    models: dict[str, Callable[[], Decoder]] = {
        "model": lambda: draft or decoder("draft"),
        "auto": lambda: draft or decoder("draft"),
        "early_exit": lambda: target.truncated(1),
    }
    draft_runner = runner(models[drafter](), draft_blocks or num_blocks) if drafter in models else None
    target_runner = runner(target, num_blocks)
    scheduler = Scheduler(
        target_runner.cache,
        FixedDepth(k) if isinstance(k, int) else k,
        eos_ids=EOS,
        context=context,
        max_step_tokens=max_step_tokens,
        max_sequences=max_sequences,
    )
    setup = DraftSetup(
        eos_ids=EOS,
        target_vocab_size=target.architecture.vocab_size,
        max_step_tokens=max_step_tokens,
        ngram_min=1,
        ngram_max=4,
        runner=draft_runner,
    )
    return Bench(Engine(target_runner, scheduler, DRAFTERS[drafter](setup)), target_runner.cache)


def cache_for(model: Decoder, blocks: int, block_size: int, prefix_reuse: bool = True) -> PagedKVCache:
    """A pool that fits a model."""
    return PagedKVCache(
        model.architecture.num_layers,
        model.architecture.num_kv_heads,
        model.architecture.head_dim,
        blocks,
        block_size,
        model.dtype,
        "cpu",
        prefix_reuse,
    )


def prompts(count: int, shared: int = 0, seed: int = 0) -> list[tuple[int, ...]]:
    """Random prompts of different lengths without EOS; the first `shared` tokens are the same in all."""
    generator = torch.Generator().manual_seed(seed)

    def some(length: int) -> list[int]:
        values: list[int] = torch.randint(3, SMALL["vocab_size"], (length,), generator=generator).tolist()
        return values

    start = some(shared)
    return [tuple(start + some(1 + 7 * place)) for place in range(count)]


def requests(count: int, *, shared: int = 0, **params: Any) -> list[Request]:
    """Requests over `prompts`, each with the same parameters."""
    return [Request(prompt, SamplingParams(**params)) for prompt in prompts(count, shared)]
