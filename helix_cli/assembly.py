"""From a config to a session: opens the device, loads the models, sizes the caches and wires the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from helix_cli import __version__
from helix_cli.backend import Backend, open_backend
from helix_cli.cache.kept import KeptPrompts
from helix_cli.config import Config
from helix_cli.depth_choice import choose_depth, profile_key
from helix_cli.draft import DRAFTERS, DraftSetup
from helix_cli.draft.profile import keep_profile
from helix_cli.drafter_choice import DEMO, WITH_A_MODEL, early_exit_layers
from helix_cli.engine.engine import Engine, check_prompt
from helix_cli.engine.scheduler import Scheduler
from helix_cli.errors import ConfigError, HelixError, InputError
from helix_cli.model.architecture import Architecture
from helix_cli.model.checkpoint import FILES, resolve
from helix_cli.model.exact import choose_exactness
from helix_cli.model.generation import GenerationDefaults, read_generation_defaults
from helix_cli.model.hf.config import HFArchitecture
from helix_cli.model.implementation import read_shape
from helix_cli.model.language_model import LanguageModel, Shape
from helix_cli.model.opening import ModelChoice, ModelOpener
from helix_cli.model.runner import ModelRunner
from helix_cli.model.weight_cache import fingerprint
from helix_cli.phases import Phases
from helix_cli.planning.from_config import plan_memory, planned_models
from helix_cli.planning.refusal import check_room, explained_loading
from helix_cli.pools import choose_num_blocks, open_pool
from helix_cli.prompt import Prompt, read_text
from helix_cli.sampling_choice import sampling_params
from helix_cli.sections import DraftSection, ModelSection
from helix_cli.session import StopFlag, Wired, prompt_tokens
from helix_cli.session_info import SessionInfo
from helix_cli.storage import Storage
from helix_cli.tokenizer import Tokenizer
from helix_cli.verify.choose import choose_rule
from helix_cli.vocabulary_choice import VocabularyChoice, choose_vocabulary, side_of

ASSETS = Path(__file__).parent / "assets"
DEMO_PAIR = ASSETS / "demo"
# Ordinary text of several kinds, to see which input channels of a model are outliers.
CALIBRATION = ASSETS / "calibration.txt"


@dataclass(frozen=True)
class Source:
    """A checkpoint on disk, known by its config but not loaded yet."""

    path: Path
    architecture: Architecture | HFArchitecture


@dataclass(frozen=True)
class Loaded:
    """What stays of a session when its drafter or its sampling changes: the target, its cache and the device."""

    config: Config
    """As it was last wired."""
    source: Source
    """The target on disk."""
    tokenizer: Tokenizer
    defaults: GenerationDefaults
    backend: Backend
    storage: Storage
    opener: ModelOpener
    target: LanguageModel
    """Before exact mode, so that its first layers can draft."""
    weights: str
    runners: list[ModelRunner]
    """The target's, and that of the model that drafts, where there is one."""
    vocabulary: VocabularyChoice | None
    """How a second model talks of the text, where one drafts."""
    stop_flag: StopFlag


def assemble(config: Config, prompts: Sequence[Prompt], phases: Phases) -> tuple[Loaded, Wired]:
    """The parts of a session; every check that needs no weights, of `prompts` too, comes before they are read."""
    phases.end("import")
    target = find_source(config.model.path, "target", config.model.implementation)
    draft = draft_source(config)
    defaults = read_generation_defaults(target.path)
    params = sampling_params(config, defaults)
    choose_rule(config.verify.rule, params)
    check_early_exit(config, target.architecture)
    phases.end("checkpoint")
    tokenizer = Tokenizer(target.path, _template(config.model.template))
    vocabulary = None if draft is None else vocabulary_of_pair(config, tokenizer, target, draft)
    _check_prompts(tokenizer, target.architecture, prompts)
    phases.end("tokenizer")
    backend = open_backend(config.backend.device, config.backend.threads)
    phases.end("device")

    stop_flag = StopFlag()
    storage = Storage()
    opener = ModelOpener(backend, storage, calibration_ids)
    models = planned_models(config, backend, opener, target.architecture, draft.architecture if draft else None)
    room = plan_memory(config, backend, models)
    check_room(room, backend.description)
    with explained_loading(room):
        decoder, weights = _load(opener, target, config.model, is_draft=False)
        drafting, draft_weights = draft_decoder(config, decoder, weights, draft, opener)
    # A draft's numbers change no text, so it is never exact, not even one that is part of the target.
    exactness = choose_exactness(config.model.exact, decoder, backend, storage)
    plain, decoder = decoder, exactness.model
    phases.end("weights")
    runners = _runners(config, backend, [decoder] if drafting is None else [decoder, drafting], stop_flag)
    formats = weights, draft_weights
    engine, keep_profile = build_engine(config, runners, defaults, backend, storage, formats, vocabulary)
    paths = {"target": (target.path, weights), "draft": ((draft or target).path, draft_weights)}
    kept_prompts = keep_prompts(config, paths, runners, storage, vocabulary)
    if kept_prompts is not None:
        for prompt in prompts:
            kept_prompts.restore(prompt_tokens(tokenizer, prompt))
    phases.end("cache")
    info = SessionInfo(
        version=__version__,
        target=config.model.path,
        draft=config.draft.path if draft is not None else None,
        device=backend.description,
        threads=torch.get_num_threads(),
        dtype=str(decoder.dtype).removeprefix("torch."),
        weights=weights,
        implementation="native" if isinstance(target.architecture, Architecture) else "transformers",
        draft_weights=draft_weights,
        vocabulary=None if vocabulary is None else vocabulary.facts(params.temperature),
        exact=exactness.is_on,
        exact_reason=exactness.reason,
        drafter=config.draft.kind,
        k=0 if config.draft.kind == "none" else config.draft.k,
        rule=choose_rule(config.verify.rule, params).name,
        context=target.architecture.context,
        block_size=config.cache.block_size,
        num_blocks=runners[0].cache.num_blocks,
        notes=(*backend.notes, *opener.notes, *(kept_prompts.notes if kept_prompts else ())),
        load_s=phases.load_s,
        startup=phases.to_dict(),
        config=config.effective(),
    )
    loaded = Loaded(
        config, target, tokenizer, defaults, backend, storage, opener, plain, weights, runners, vocabulary, stop_flag
    )
    return loaded, Wired(engine, params, config.verify.rule, info, kept_prompts, keep_profile)


def calibration_ids(path: Path) -> list[int]:
    """Ordinary text in the tokens of the checkpoint in `path`, which need not be the target's."""
    return Tokenizer(path).encode(CALIBRATION.read_text(encoding="utf-8"))


def _template(file: str | None) -> str | None:
    return None if file is None else read_text(Path(file))


def checkpoint_path(name: str, role: str, files: Sequence[str] = FILES) -> Path:
    """The directory of the model that a config names; `role` says which one of the demo pair. Raises ModelError."""
    return DEMO_PAIR / role if name == DEMO else resolve(name, files=files)


def find_source(name: str, role: str, implementation: str = "auto") -> Source:
    """The checkpoint that a config names, with its architecture; `role` as for `checkpoint_path`. Raises ModelError."""
    path = checkpoint_path(name, role)
    return Source(path, read_shape(path, implementation))


def draft_source(config: Config) -> Source | None:
    """The draft model's checkpoint, where one drafts. Raises ModelError."""
    draft = config.draft
    return find_source(draft.path, "draft") if draft.kind in WITH_A_MODEL and draft.path else None


def vocabulary_of_pair(config: Config, tokenizer: Tokenizer, target: Source, draft: Source) -> VocabularyChoice:
    """How the draft talks of the target's text; `tokenizer` is the target's. Raises ModelError where it cannot."""
    sides = (
        side_of(source.path, known, source.architecture.vocab_size)
        for source, known in ((target, tokenizer), (draft, Tokenizer(draft.path)))
    )
    return choose_vocabulary(config.draft.vocabulary, *sides)


def check_early_exit(config: Config, target: Shape) -> None:
    """Raises ConfigError where early exit would run the whole target."""
    if config.draft.kind == "early_exit" and (config.draft.layers or 1) >= target.num_layers:
        raise ConfigError(
            f"Early exit after layer {config.draft.layers or 1} is no short cut for a target of {target.num_layers}.",
            "Set draft.layers to fewer than the target has, or choose --drafter ngram.",
        )


def _check_prompts(tokenizer: Tokenizer, target: Shape, prompts: Sequence[Prompt]) -> None:
    for prompt in prompts:
        try:
            check_prompt(prompt_tokens(tokenizer, prompt), target.context, target.vocab_size)
        except HelixError as error:
            if len(prompts) == 1:
                raise
            raise InputError(f"Prompt {prompt.index + 1}: {error.message}", error.hint) from None


def _load(
    opener: ModelOpener, source: Source, section: ModelSection | DraftSection, is_draft: bool
) -> tuple[LanguageModel, str]:
    """The model and the name of its weight format."""
    return opener.open(source.path, source.architecture, ModelChoice(section.dtype, section.weights, is_draft))


def draft_decoder(
    config: Config, target: LanguageModel, target_weights: str, draft: Source | None, opener: ModelOpener
) -> tuple[LanguageModel | None, str | None]:
    """The model that drafts, if one does, and the name of its weight format."""
    if draft is not None:
        return _load(opener, draft, config.draft, is_draft=True)
    if config.draft.kind != "early_exit":
        return None, None
    num_layers = early_exit_layers(config.draft.layers, target.architecture.num_layers)
    return target.truncated(num_layers), target_weights


def _runners(config: Config, backend: Backend, decoders: list[LanguageModel], stop_flag: StopFlag) -> list[ModelRunner]:
    """A runner over a pool of its own for each model; all pools have equally many blocks."""
    num_blocks = choose_num_blocks(config, backend, decoders)
    return [build_runner(config, decoder, num_blocks, stop_flag) for decoder in decoders]


def build_runner(config: Config, decoder: LanguageModel, num_blocks: int, stop_flag: StopFlag) -> ModelRunner:
    """A runner over a new pool."""
    return ModelRunner(decoder, open_pool(decoder, num_blocks, config.cache), stop_flag)


def keep_prompts(
    config: Config,
    models: dict[str, tuple[Path, str | None]],
    runners: list[ModelRunner],
    storage: Storage,
    vocabulary: VocabularyChoice | None,
) -> KeptPrompts | None:
    """The prompts on disk that belong to these models, if the config asks for them; `models` by role, with weights.

    Of a draft with other ids nothing is kept: a prompt's K/V are found again by the target's.
    """
    if not (config.cache.persist or config.cache.prompt_cache):
        return None
    if vocabulary is not None and vocabulary.of is not None:
        runners = runners[:1]
    caches, names = {}, []
    for (role, (path, weights)), runner in zip(models.items(), runners, strict=False):
        decoder = runner.decoder
        caches[role] = runner.cache
        names.append(fingerprint(path, f"{decoder.dtype} {weights} {decoder.kernel} {decoder.architecture.num_layers}"))
    return KeptPrompts(storage, caches, " ".join(names), config.cache.prompt_cache)


def build_engine(
    config: Config,
    runners: list[ModelRunner],
    defaults: GenerationDefaults,
    backend: Backend,
    storage: Storage,
    weights: tuple[str, str | None],
    vocabulary: VocabularyChoice | None,
) -> tuple[Engine, Callable[[], None]]:
    """A scheduler, a drafter and an engine over the runners, which keep what their caches hold.

    `weights` are the formats of target and draft. Also returns what keeps the depth's profile for the next start.
    """
    key = profile_key(config, backend.description, runners[0].decoder, *weights)
    depth = choose_depth(config, storage, key)
    target = runners[0].decoder.architecture
    setup = DraftSetup(
        eos_ids=frozenset(defaults.eos_ids),
        target_vocab_size=target.vocab_size,
        max_step_tokens=config.engine.max_step_tokens,
        ngram_min=config.draft.ngram_min,
        ngram_max=config.draft.ngram_max,
        runner=runners[1] if len(runners) > 1 else None,
        vocabulary_of=None if vocabulary is None else vocabulary.of,
    )
    scheduler = Scheduler(
        runners[0].cache,
        depth,
        eos_ids=setup.eos_ids,
        context=target.context,
        max_step_tokens=config.engine.max_step_tokens,
        max_sequences=config.engine.max_sequences,
    )
    engine = Engine(runners[0], scheduler, DRAFTERS[config.draft.kind](setup), backend.synchronize)
    return engine, lambda: keep_profile(storage, key, depth)
