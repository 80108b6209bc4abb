"""An arm for each setting, all over one loaded target: the drafters differ, and how far they go."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from helix_cli.assembly import calibration_ids, find_source, vocabulary_of_pair
from helix_cli.backend import open_backend
from helix_cli.bench.arms import Arm, HelixArm
from helix_cli.bench.opening import draft_facts, draft_runner, helix_setup, plain_setup
from helix_cli.bench.schema import Setup
from helix_cli.bench.sweep.plan import Setting
from helix_cli.cache.paged import num_blocks_for
from helix_cli.config import Config
from helix_cli.core import Sequence
from helix_cli.draft import DRAFTERS, DraftSetup
from helix_cli.draft.depth import FixedDepth
from helix_cli.draft.drafter import Drafter
from helix_cli.draft.none import NoDrafter
from helix_cli.draft.vocabulary import Vocabulary
from helix_cli.model.opening import ModelChoice, ModelOpener
from helix_cli.model.runner import ModelRunner
from helix_cli.pools import open_pool
from helix_cli.session import Session
from helix_cli.storage import Storage

LOADED_FIRST = ("early_exit", "model", "auto", "ngram")
"""Which of several drafters the session is opened with: only assembly has the target as it is before exact mode."""


def first_config(configs: Mapping[Setting, Config]) -> Config:
    """The configuration to open the session with."""
    by_drafter = {setting.drafter: config for setting, config in configs.items()}
    return next(by_drafter[name] for name in LOADED_FIRST if name in by_drafter)


def open_settings(configs: Mapping[Setting, Config], session: Session) -> list[Arm]:
    """The arms in the order of `configs`. Raises a HelixError where a draft model does not suit the target."""
    drafters = Drafters(session)
    setup = helix_setup(first_config(configs), session)
    block_bytes = session.engine.runner.cache.block_bytes
    arms: list[Arm] = []
    for setting, config in configs.items():
        if setting.k == 0:
            plain = plain_setup(setup, block_bytes)
            arms.append(HelixArm(setting.name, session, NoDrafter(), FixedDepth(0), plain))
            continue
        drafter = drafters.get(config)
        about = _setting_setup(setup, setting, config, drafter, drafters.draft_weights, block_bytes)
        arms.append(HelixArm(setting.name, session, drafter, FixedDepth(setting.k), about))
    return arms


class Drafters:
    """The drafters of one target by name: the session's own, and others that are made when they are asked for."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[str, Drafter] = {session.info.drafter: session.engine.drafter}
        self._runner = draft_runner(session.engine.drafter) if session.info.draft else None
        self.draft_weights = session.info.draft_weights if session.info.draft else None
        """How the matrices of the draft model are stored; None while none is loaded."""

    def get(self, config: Config) -> Drafter:
        """The drafter that `config` names. Raises a HelixError where its model cannot be loaded."""
        kind = config.draft.kind
        if kind not in self._known:
            scheduler = self._session.engine.scheduler
            vocabulary_of = self._vocabulary_of(config)  # before the draft's weights are read
            setup = DraftSetup(
                eos_ids=scheduler.eos_ids,
                target_vocab_size=self._session.engine.runner.decoder.architecture.vocab_size,
                max_step_tokens=scheduler.max_step_tokens,
                ngram_min=config.draft.ngram_min,
                ngram_max=config.draft.ngram_max,
                runner=self._second_model(config) if config.draft.path is not None else None,
                vocabulary_of=vocabulary_of,
            )
            self._known[kind] = DRAFTERS[kind](setup)
        return self._known[kind]

    def _vocabulary_of(self, config: Config) -> Callable[[Sequence], Vocabulary] | None:
        """How the draft model of `config` talks of a text. Raises ModelError where it cannot."""
        if config.draft.path is None:
            return None
        sources = find_source(config.model.path, "target"), find_source(config.draft.path, "draft")
        return vocabulary_of_pair(config, self._session.tokenizer, *sources).of

    def _second_model(self, config: Config) -> ModelRunner:
        """The draft model, which all drafters that have one share, over a pool for the one text that runs at a time."""
        assert config.draft.path is not None
        if self._runner is not None:
            return self._runner
        session = self._session
        source = find_source(config.draft.path, "draft")
        backend = open_backend(config.backend.device, config.backend.threads)
        opener = ModelOpener(backend, Storage(), calibration_ids)
        choice = ModelChoice(config.draft.dtype, config.draft.weights, is_draft=True)
        decoder, self.draft_weights = opener.open(source.path, source.architecture, choice)
        cache = open_pool(decoder, num_blocks_for(session.info.context, config.cache.block_size), config.cache)
        self._runner = ModelRunner(decoder, cache, session.engine.runner.interrupted)
        return self._runner


def _setting_setup(
    setup: Setup, setting: Setting, config: Config, drafter: Drafter, weights: str | None, block_bytes: int
) -> Setup:
    runner = draft_runner(drafter)
    own = {
        "draft": draft_facts(config, runner, weights if config.draft.path else setup.target.weights),
        "drafter": setting.drafter,
        "k": setting.k,
        "config": config.effective(),
        "kv_block_bytes": block_bytes + (runner.cache.block_bytes if runner else 0),
    }
    return setup.model_copy(update=own)
