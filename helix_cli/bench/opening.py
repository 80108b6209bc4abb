"""From a config to arms: one loaded session for Helix's own, the same checkpoints for transformers'."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import tokenizers
import torch
import transformers

from helix_cli import __version__
from helix_cli.assembly import checkpoint_path
from helix_cli.backend import open_backend
from helix_cli.bench.arms import Arm, HelixArm
from helix_cli.bench.plan import ASSISTED, PLAIN, SPECULATIVE
from helix_cli.bench.schema import ModelFacts, Setup
from helix_cli.bench.workloads import Builder, Job
from helix_cli.config import Config
from helix_cli.core import Request
from helix_cli.draft.auto import AutoDrafter
from helix_cli.draft.depth import FixedDepth
from helix_cli.draft.drafter import Drafter
from helix_cli.draft.model import ModelDrafter
from helix_cli.draft.none import NoDrafter
from helix_cli.errors import HelixError
from helix_cli.machine import hardware
from helix_cli.model.implementation import read_shape
from helix_cli.model.language_model import LanguageModel
from helix_cli.model.runner import ModelRunner
from helix_cli.session import Session

HASHED: Final = ("*.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer.model")


def open_arms(names: Sequence[str], config: Config, session: Session, stopped: Callable[[], bool]) -> list[Arm]:
    """The arms by name, in that order. transformers' models are loaded when the arm is opened."""
    engine = session.engine
    setup = helix_setup(config, session)
    peers = None

    def peer(name: str) -> Arm:
        from helix_cli.bench.transformers_arms import Checkpoints, TransformersArm

        nonlocal peers
        if peers is None:
            path = checkpoint_path(config.model.path, "target")
            draft = checkpoint_path(config.draft.path, "draft") if config.draft.path else None
            # Its activations have the type of its weights, so it gets the one that suits it on this device.
            dtype = open_backend(config.backend.device, config.backend.threads).choose_dtype(
                config.model.dtype, read_shape(path).dtype
            )
            peers = Checkpoints(path, draft, dtype, engine.runner.decoder.device)
        k = config.draft.k if name == ASSISTED else None
        facts = peer_setup(setup, name, config.draft.k)
        return TransformersArm(name, peers, session.params, k, stopped, facts, impossible=_impossible(name, session))

    def arm(name: str) -> Arm:
        if name == PLAIN:
            return HelixArm(
                name, session, NoDrafter(), FixedDepth(0), plain_setup(setup, engine.runner.cache.block_bytes)
            )
        if name == SPECULATIVE:
            return HelixArm(name, session, engine.drafter, engine.scheduler.depth, setup)
        return peer(name)

    return [arm(name) for name in names]


def _impossible(name: str, session: Session) -> str:
    """Why an arm of transformers cannot run this pair; empty where it can."""
    talk = session.info.vocabulary
    if name == ASSISTED and talk is not None and talk["way"] != "same":
        return "transformers' assisted generation is compared on pairs with one tokenizer"
    return ""


def builder(session: Session) -> Builder:
    """Makes workloads for the target; a job that the engine refuses is impossible, with the engine's reason."""
    decoder = session.engine.runner.decoder

    def refusal(job: Job) -> str:
        for prompt in job.prompts:
            params = session.params.__class__(max_tokens=job.max_tokens)
            try:
                session.engine.validate(Request(prompt, params))
            except HelixError as error:
                return error.message
        return ""

    return Builder(session.tokenizer, decoder.architecture.vocab_size, session.info.context, refusal)


def helix_setup(config: Config, session: Session) -> Setup:
    """The setup of the session as it was loaded."""
    info, runner = session.info, session.engine.runner
    drafting = draft_runner(session.engine.drafter)
    target = checkpoint_path(config.model.path, "target")
    return Setup(
        engine="helix",
        target=_model_facts(config.model.path, content_hash(target), info.weights, runner.decoder),
        draft=draft_facts(config, drafting, info.draft_weights),
        drafter=info.drafter,
        k=info.k,
        rule=info.rule,
        exact=info.exact,
        device=info.device,
        dtype=info.dtype,
        threads=info.threads,
        seed=session.params.seed,
        config=info.config,
        versions={
            "helix": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        hardware=hardware(),
        kv_block_bytes=runner.cache.block_bytes + (drafting.cache.block_bytes if drafting else 0),
        context=info.context,
    )


def draft_runner(drafter: Drafter) -> ModelRunner | None:
    """What runs a drafter's model; None for one that has none."""
    drafting = drafter.model if isinstance(drafter, AutoDrafter) else drafter
    return drafting.runner if isinstance(drafting, ModelDrafter) else None


def draft_facts(config: Config, runner: ModelRunner | None, weights: str | None) -> ModelFacts | None:
    """The model that drafts: another checkpoint, or the target's first layers, stored as `weights`."""
    if runner is None:
        return None
    name = config.draft.path or f"the first {runner.decoder.architecture.num_layers} layers of the target"
    path = (
        checkpoint_path(config.draft.path, "draft")
        if config.draft.path
        else checkpoint_path(config.model.path, "target")
    )
    assert weights is not None, "a model that drafts has a weight format"
    return _model_facts(name, content_hash(path), weights, runner.decoder)


def plain_setup(setup: Setup, kv_block_bytes: int) -> Setup:
    """The same session without its drafter."""
    none = {"draft": None, "drafter": "none", "k": 0, "kv_block_bytes": kv_block_bytes}
    return setup.model_copy(update=none)


def peer_setup(setup: Setup, name: str, k: int | str) -> Setup:
    """The same checkpoints in transformers; its arm fills in the weights when it has loaded them."""
    common: dict[str, Any] = {"engine": "transformers", "exact": False, "config": {}, "kv_block_bytes": None}
    if name == ASSISTED:
        drafted: dict[str, Any] = {"drafter": "model", "k": k}
    else:
        drafted = {"draft": None, "drafter": "none", "k": 0}
    return setup.model_copy(update={**common, **drafted, "rule": "transformers"})


@cache
def content_hash(checkpoint: Path) -> str:
    """SHA-256 over the names and contents of a checkpoint's weights, configs and tokenizer."""
    digest = hashlib.sha256()
    for file in sorted({file for pattern in HASHED for file in checkpoint.glob(pattern)}):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _model_facts(name: str, digest: str, weights: str, decoder: LanguageModel) -> ModelFacts:
    return ModelFacts(name=name, sha256=digest, weights=weights, weight_bytes=decoder.num_bytes)
