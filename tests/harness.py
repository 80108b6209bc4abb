"""A whole engine over tiny random models, for tests: every drafter, every rule, any cache, checked after each step."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch

from helix_cli.backend import open_backend
from helix_cli.checks.workbench import Workbench
from helix_cli.checks.workbench import build as build_workbench
from helix_cli.core import Request, SamplingParams
from helix_cli.model.architecture import read_architecture
from helix_cli.model.decoder import Decoder
from helix_cli.model.loader import load_decoder
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


def build(drafter: str = "none", k: Any = 4, **settings: Any) -> Workbench:
    """An engine over the tiny target, or another one; see `helix_cli.checks.workbench.build` for the settings."""
    target = settings.pop("target", None) or decoder("target")
    draft = settings.pop("draft", None) or (
        decoder("draft") if drafter not in ("none", "ngram", "early_exit") else None
    )
    return build_workbench(target, drafter, k, eos_ids=EOS, draft=draft, **settings)


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
