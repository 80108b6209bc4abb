"""The arms of `compare_peers`: which engine runs which weights at which depth, and in which worker."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.peers_convert import GGUF_FORMATS, OPENVINO_FORMATS, Converter
from scripts.peers_process import Recipe


@dataclass(frozen=True)
class Setup:
    """What all arms have in common. `context` is how many positions the longest text takes."""

    converter: Converter
    context: int
    helix_depths: tuple[int, ...]
    peer_depths: tuple[int, ...]

    @property
    def target(self) -> Path:
        """The target's checkpoint."""
        return self.converter.checkpoints["target"]

    @property
    def draft(self) -> Path:
        """The draft's checkpoint."""
        return self.converter.checkpoints["draft"]

    @property
    def threads(self) -> int:
        """Threads of every engine."""
        return self.converter.threads


@dataclass(frozen=True)
class Arm:
    """One way of generating. `k` is 0 without a draft; `absent` says why there is no worker for it."""

    engine: str
    weights: str
    k: int
    recipe: Recipe | None
    absent: str = ""

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.engine} {self.weights}, {f'K = {self.k}' if self.k else 'plain'}"

    @property
    def plain(self) -> tuple[str, str]:
        """What it has in common with the arm that runs the same weights without a draft."""
        return self.engine, self.weights


def helix_arms(setup: Setup, weights: str) -> Iterator[Arm]:
    """Helix with one format for the target, and the draft as it chooses; one worker serves every depth."""
    fixed = [
        f"model.path={setup.target}", f"model.weights={weights}", f"backend.threads={setup.threads}",
        "backend.device=cpu", "sampling.temperature=0", "sampling.repetition_penalty=1", "sampling.ignore_eos=true",
        "cache.prefix_reuse=false",
    ]  # fmt: skip
    drafting = [
        f"draft.path={setup.draft}",
        f"draft.k={max(setup.helix_depths, default=0)}",
    ]

    def recipe(k: int) -> Recipe:
        overrides = fixed + (drafting if k else ["draft.kind=none"])
        return _recipe(sys.executable, "helix", setup, {"overrides": overrides})

    return _arms("Helix", weights, setup.helix_depths, recipe)


def transformers_arms(setup: Setup, dtype: str) -> Iterator[Arm]:
    """transformers, in Helix's own environment."""

    def recipe(k: int) -> Recipe:
        draft = str(setup.draft) if k else None
        settings = {"target": str(setup.target), "draft": draft, "dtype": dtype, "threads": setup.threads}
        return _recipe(sys.executable, "transformers", setup, settings)

    return _arms("transformers", dtype, setup.peer_depths, recipe)


def llamacpp_arms(setup: Setup, form: str) -> Iterator[Arm]:
    """llama.cpp; its server fixes the depth, so every arm has a worker of its own."""
    name = "llama.cpp"
    if setup.converter.llamacpp is None:
        return _absent(name, form, setup, "not installed: name its folder with --llama-cpp")
    try:
        target, draft = setup.converter.gguf("target", form), setup.converter.gguf("draft", form)
    except RuntimeError as error:
        return _absent(name, form, setup, f"failed: {error}")
    server = setup.converter.llamacpp / "build" / "bin" / "llama-server"

    def recipe(k: int) -> Recipe:
        settings = {
            "server": str(server), "target": str(target), "draft": str(draft) if k else None, "k": k,
            "threads": setup.threads, "context": setup.context,
        }  # fmt: skip
        return _recipe(sys.executable, "llamacpp", setup, settings)

    return _arms(name, form, setup.peer_depths, recipe)


def openvino_arms(setup: Setup, form: str) -> Iterator[Arm]:
    """OpenVINO GenAI, in the peers' environment."""
    name = "OpenVINO GenAI"
    python = setup.converter.python
    if python is None:
        return _absent(name, form, setup, "not installed: name the peers' interpreter with --peer-python")
    try:
        target, draft = setup.converter.openvino("target", form), setup.converter.openvino("draft", form)
    except RuntimeError as error:
        return _absent(name, form, setup, f"failed: {error}")

    def recipe(k: int) -> Recipe:
        settings = {"target": str(target), "draft": str(draft) if k else None, "threads": setup.threads}
        return _recipe(str(python), "openvino", setup, settings)

    return _arms(name, form, setup.peer_depths, recipe)


ENGINES: dict[str, tuple[Callable[[Setup, str], Iterator[Arm]], tuple[str, ...]]] = {
    "helix": (helix_arms, ("int8", "bfloat16", "float32")),
    "transformers": (transformers_arms, ("bfloat16", "float32")),
    "llamacpp": (llamacpp_arms, GGUF_FORMATS),
    "openvino": (openvino_arms, OPENVINO_FORMATS),
}
"""For each engine its arms for one format of the weights, and the formats that are measured unless others are named."""


def _arms(engine: str, weights: str, depths: tuple[int, ...], recipe: Callable[[int], Recipe]) -> Iterator[Arm]:
    return (Arm(engine, weights, k, recipe(k)) for k in (0, *depths))


def _absent(engine: str, weights: str, setup: Setup, reason: str) -> Iterator[Arm]:
    return (Arm(engine, weights, k, None, reason) for k in (0, *setup.peer_depths))


def _recipe(python: str, worker: str, setup: Setup, settings: dict[str, Any]) -> Recipe:
    return Recipe(python, f"scripts.peer_worker_{worker}", json.dumps(settings), setup.threads)
