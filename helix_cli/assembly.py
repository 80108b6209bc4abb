"""From a config to a session: opens the device, loads the models, sizes the cache and wires the engine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from helix_cli import __version__
from helix_cli.backend import open_backend
from helix_cli.backend.backend import Backend
from helix_cli.cache.paged import PagedKVCache, bytes_per_block
from helix_cli.config import Config
from helix_cli.core import SamplingParams
from helix_cli.draft import DRAFTERS, DraftSetup
from helix_cli.draft.depth import FixedDepth
from helix_cli.engine.engine import Engine
from helix_cli.engine.scheduler import Scheduler
from helix_cli.errors import ConfigError, MemoryLimitError, ModelError
from helix_cli.model.architecture import Architecture, read_architecture
from helix_cli.model.checkpoint import resolve
from helix_cli.model.decoder import Decoder
from helix_cli.model.generation import GenerationDefaults, read_generation_defaults
from helix_cli.model.loader import load_decoder
from helix_cli.model.runner import ModelRunner
from helix_cli.session import Session, SessionInfo, StopFlag
from helix_cli.tokenizer import Tokenizer, first_difference

DEMO = Path(__file__).parent / "assets" / "demo"
# Free memory is unknown on some devices; this much is safe to assume of one that runs a language model.
ASSUMED_FREE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Loaded:
    """One model, ready to run."""

    path: Path
    architecture: Architecture
    tokenizer: Tokenizer
    decoder: Decoder


def assemble(config: Config) -> Session:
    """Builds a session; every check that needs no weights comes before the weights are read."""
    started = time.perf_counter()
    target_path = _locate(config.model.path, "target")
    draft_path = _locate(config.draft.path, "draft") if config.draft.kind == "model" and config.draft.path else None
    target_architecture = read_architecture(target_path)
    defaults = read_generation_defaults(target_path)
    params = _sampling(config, defaults)
    backend = open_backend(config.backend.device, config.backend.threads)
    tokenizer = Tokenizer(target_path)
    draft_architecture = _draft_architecture(config, target_architecture, draft_path)
    if draft_path is not None:
        _require_same_tokenizer(tokenizer, Tokenizer(draft_path), draft_path)

    target = load_decoder(target_path, target_architecture, backend, config.model.dtype)
    draft = _draft_decoder(config, target, draft_path, draft_architecture, backend)
    stop_flag = StopFlag()
    runners = _runners(config, backend, target, draft, stop_flag)
    eos_ids = frozenset(defaults.eos_ids)
    scheduler = Scheduler(
        runners[0].cache,
        FixedDepth(config.draft.k),
        eos_ids=eos_ids,
        context=target_architecture.context,
        max_step_tokens=config.engine.max_step_tokens,
        max_sequences=config.engine.max_sequences,
    )
    setup = DraftSetup(
        eos_ids=eos_ids,
        target_vocab_size=target_architecture.vocab_size,
        max_step_tokens=config.engine.max_step_tokens,
        ngram_min=config.draft.ngram_min,
        ngram_max=config.draft.ngram_max,
        runner=runners[1] if len(runners) > 1 else None,
    )
    engine = Engine(runners[0], scheduler, DRAFTERS[config.draft.kind](setup), backend.synchronize)
    info = SessionInfo(
        version=__version__,
        target=config.model.path,
        draft=config.draft.path if draft_path is not None else None,
        device=backend.description,
        threads=torch.get_num_threads(),
        dtype=str(target.dtype).removeprefix("torch."),
        drafter=config.draft.kind,
        k=0 if config.draft.kind == "none" else config.draft.k,
        rule=config.verify.rule,
        context=target_architecture.context,
        block_size=config.cache.block_size,
        num_blocks=runners[0].cache.num_blocks,
        load_s=time.perf_counter() - started,
        config=config.model_dump(mode="json"),
    )
    return Session(engine, tokenizer, params, config.verify.rule, info, stop_flag)


def _locate(name: str, role: str) -> Path:
    return DEMO / role if name == "demo" else resolve(name)
