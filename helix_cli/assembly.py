"""From a config to a session: opens the device, loads the models, sizes the caches and wires the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from helix_cli import __version__
from helix_cli.backend import Backend, open_backend
from helix_cli.cache.kept import KeptPrompts
from helix_cli.config import Config
from helix_cli.core import SamplingParams
from helix_cli.draft import DRAFTERS, DraftSetup
from helix_cli.draft.depth import Depth, FixedDepth
from helix_cli.draft.profile import ProfileKey, depth_from, keep_profile, load_profile
from helix_cli.drafter_choice import DEMO, WITH_A_MODEL
from helix_cli.engine.engine import Engine, check_prompt
from helix_cli.engine.scheduler import Scheduler
from helix_cli.errors import ConfigError, HelixError, InputError, ModelError
from helix_cli.model.architecture import Architecture, read_architecture
from helix_cli.model.checkpoint import resolve
from helix_cli.model.decoder import Decoder
from helix_cli.model.exact import choose_exactness
from helix_cli.model.generation import GenerationDefaults, read_generation_defaults
from helix_cli.model.opening import ModelChoice, ModelOpener
from helix_cli.model.runner import ModelRunner
from helix_cli.model.weight_cache import fingerprint
from helix_cli.phases import Phases
from helix_cli.pools import choose_num_blocks, open_pool
from helix_cli.prompt import Prompt
from helix_cli.sections import DraftSection, ModelSection, SamplingSection
from helix_cli.session import Session, SessionInfo, StopFlag, prompt_tokens
from helix_cli.storage import Storage
from helix_cli.tokenizer import Tokenizer, first_difference
from helix_cli.verify.choose import choose_rule

ASSETS = Path(__file__).parent / "assets"
DEMO_PAIR = ASSETS / "demo"
# Ordinary text of several kinds, to see which input channels of a model are outliers.
CALIBRATION = ASSETS / "calibration.txt"
# One eighth of the layers, at least one, where early_exit is not told how many.
EARLY_EXIT_SHARE = 8


@dataclass(frozen=True)
class Source:
    """A checkpoint on disk, known by its config but not loaded yet."""

    path: Path
    architecture: Architecture


def assemble(config: Config, prompts: Sequence[Prompt], phases: Phases) -> Session:
    """Builds a session; every check that needs no weights, of `prompts` too, comes before they are read."""
    phases.end("import")
    target = find_source(config.model.path, "target")
    has_model = config.draft.kind in WITH_A_MODEL
    draft = find_source(config.draft.path, "draft") if has_model and config.draft.path else None
    defaults = read_generation_defaults(target.path)
    params = sampling_params(config, defaults)
    choose_rule(config.verify.rule, params)
    _check_early_exit(config, target.architecture)
    phases.end("checkpoint")
    tokenizer = Tokenizer(target.path)
    if draft is not None:
        require_same_tokenizer(tokenizer, draft.path)
    _check_prompts(tokenizer, target.architecture, prompts)
    phases.end("tokenizer")
    backend = open_backend(config.backend.device, config.backend.threads)
    phases.end("device")

    stop_flag = StopFlag()
    storage = Storage()
    opener = ModelOpener(backend, storage, lambda: tokenizer.encode(CALIBRATION.read_text(encoding="utf-8")))
    decoder, weights = _load(opener, target, config.model, is_draft=False)
    drafting, draft_weights = _draft_decoder(config, decoder, weights, draft, opener)
    # A draft's numbers change no text, so it is never exact, not even one that is part of the target.
    exactness = choose_exactness(config.model.exact, decoder, backend, storage)
    decoder = exactness.decoder
    phases.end("weights")
    runners = _runners(config, backend, [decoder] if drafting is None else [decoder, drafting], stop_flag)
    key = profile_key(config, backend.description, decoder, weights, draft_weights)
    depth = _depth(config, storage, key)
    engine = _engine(config, runners, frozenset(defaults.eos_ids), backend, depth)
    models = {"target": (target.path, weights), "draft": ((draft or target).path, draft_weights)}
    kept = _kept_prompts(config, models, runners, storage)
    if kept is not None:
        for prompt in prompts:
            kept.restore(prompt_tokens(tokenizer, prompt))
    phases.end("cache")
    info = SessionInfo(
        version=__version__,
        target=config.model.path,
        draft=config.draft.path if draft is not None else None,
        device=backend.description,
        threads=torch.get_num_threads(),
        dtype=str(decoder.dtype).removeprefix("torch."),
        weights=weights,
        draft_weights=draft_weights,
        exact=exactness.is_on,
        exact_reason=exactness.reason,
        drafter=config.draft.kind,
        k=0 if config.draft.kind == "none" else config.draft.k,
        rule=choose_rule(config.verify.rule, params).name,
        context=target.architecture.context,
        block_size=config.cache.block_size,
        num_blocks=runners[0].cache.num_blocks,
        notes=(*backend.notes, *opener.notes, *(kept.notes if kept else ())),
        load_s=phases.load_s,
        startup=phases.to_dict(),
        config=config.effective(),
    )
    return Session(
        engine,
        tokenizer,
        params,
        config.verify.rule,
        info,
        stop_flag,
        phases,
        kept,
        lambda: keep_profile(storage, key, depth),
    )


def profile_key(config: Config, device: str, target: Decoder, weights: str, draft_weights: str | None) -> ProfileKey:
    """What costs and acceptance depend on, as far as it is known before anything runs."""
    drafting = (config.draft.path or "", draft_weights or "", config.draft.dtype, str(config.draft.layers))
    return ProfileKey(
        device=device,
        models=(config.model.path, drafting[0]),
        formats=(str(target.dtype), weights, *drafting[1:]),
        drafter=config.draft.kind,
        threads=torch.get_num_threads(),
    )


def sampling_params(config: Config, defaults: GenerationDefaults) -> SamplingParams:
    """The config's sampling, with the model's own defaults where it is silent."""
    given = config.sampling
    plain = SamplingParams()

    def first(chosen: Any, default: Any, otherwise: Any) -> Any:
        return chosen if chosen is not None else default if default is not None else otherwise

    _check_defaults(defaults)
    return SamplingParams(
        temperature=first(given.temperature, defaults.temperature, plain.temperature),
        top_k=first(given.top_k, defaults.top_k, plain.top_k),
        top_p=first(given.top_p, defaults.top_p, plain.top_p),
        min_p=first(given.min_p, defaults.min_p, plain.min_p),
        repetition_penalty=first(given.repetition_penalty, defaults.repetition_penalty, plain.repetition_penalty),
        max_tokens=given.max_tokens,
        seed=given.seed,
        stop=given.stop,
        ignore_eos=given.ignore_eos,
    )


def _check_defaults(defaults: GenerationDefaults) -> None:
    """A checkpoint's own sampling keeps to the ranges that a user's must keep to."""
    values = {key: value for key, value in asdict(defaults).items() if key != "eos_ids" and value is not None}
    try:
        SamplingSection.model_validate(values, strict=False)
    except ValidationError as error:
        key = error.errors()[0]["loc"][0]
        raise ModelError(
            f"The model's generation_config.json asks for {key} {values[str(key)]}, which has no meaning.",
            f"Correct or remove {key} there.",
        ) from None


def checkpoint_path(name: str, role: str) -> Path:
    """The directory of the model that a config names; `role` says which one of the demo pair. Raises ModelError."""
    return DEMO_PAIR / role if name == DEMO else resolve(name)


def find_source(name: str, role: str) -> Source:
    """The checkpoint that a config names, with its architecture; `role` as for `checkpoint_path`. Raises ModelError."""
    path = checkpoint_path(name, role)
    return Source(path, read_architecture(path))


def require_same_tokenizer(tokenizer: Tokenizer, draft_path: Path) -> None:
    """Raises ModelError. Content decides, not size: checkpoints pad equal vocabularies differently."""
    difference = first_difference(tokenizer, Tokenizer(draft_path))
    if difference is not None:
        raise ModelError(
            f"The draft's tokenizer is not the target's: {difference}.",
            "Choose a draft of the same family, or --drafter ngram, which needs none.",
        )


def _check_early_exit(config: Config, target: Architecture) -> None:
    if config.draft.kind == "early_exit" and (config.draft.layers or 1) >= target.num_layers:
        raise ConfigError(
            f"Early exit after {config.draft.layers or 1} layers is no short cut for a target of {target.num_layers}.",
            "Set draft.layers to fewer than the target has, or choose --drafter ngram.",
        )


def _check_prompts(tokenizer: Tokenizer, target: Architecture, prompts: Sequence[Prompt]) -> None:
    for prompt in prompts:
        try:
            check_prompt(prompt_tokens(tokenizer, prompt), target.context, target.vocab_size)
        except HelixError as error:
            if len(prompts) == 1:
                raise
            raise InputError(f"Prompt {prompt.index + 1}: {error.message}", error.hint) from None


def _load(
    opener: ModelOpener, source: Source, section: ModelSection | DraftSection, is_draft: bool
) -> tuple[Decoder, str]:
    """The decoder and the name of its weight format."""
    return opener.open(source.path, source.architecture, ModelChoice(section.dtype, section.weights, is_draft))


def _draft_decoder(
    config: Config, target: Decoder, target_weights: str, draft: Source | None, opener: ModelOpener
) -> tuple[Decoder | None, str | None]:
    if draft is not None:
        return _load(opener, draft, config.draft, is_draft=True)
    if config.draft.kind != "early_exit":
        return None, None
    num_layers = config.draft.layers or max(1, target.architecture.num_layers // EARLY_EXIT_SHARE)
    return target.truncated(num_layers), target_weights


def _runners(config: Config, backend: Backend, decoders: list[Decoder], stop_flag: StopFlag) -> list[ModelRunner]:
    """A runner over a pool of its own for each model; all pools have equally many blocks."""
    num_blocks = choose_num_blocks(config, backend, decoders)
    return [ModelRunner(one, open_pool(one, num_blocks, config.cache), stop_flag) for one in decoders]


def _kept_prompts(
    config: Config, models: dict[str, tuple[Path, str | None]], runners: list[ModelRunner], storage: Storage
) -> KeptPrompts | None:
    """The prompts on disk that belong to these models, if the config asks for them; `models` by role, with weights."""
    if not (config.cache.persist or config.cache.prompt_cache):
        return None
    caches, names = {}, []
    for (role, (path, weights)), runner in zip(models.items(), runners, strict=False):
        decoder = runner.decoder
        caches[role] = runner.cache
        names.append(fingerprint(path, f"{decoder.dtype} {weights} {decoder.kernel} {len(decoder.layers)}"))
    return KeptPrompts(storage, caches, " ".join(names), config.cache.prompt_cache)


def _depth(config: Config, storage: Storage, key: ProfileKey) -> Depth:
    """Plain decoding where nothing drafts; what the user fixed, or what runs find out."""
    if config.draft.kind == "none":
        return FixedDepth(0)
    return FixedDepth(config.draft.k) if isinstance(config.draft.k, int) else depth_from(load_profile(storage, key))


def _engine(
    config: Config, runners: list[ModelRunner], eos_ids: frozenset[int], backend: Backend, depth: Depth
) -> Engine:
    target = runners[0].decoder.architecture
    setup = DraftSetup(
        eos_ids=eos_ids,
        target_vocab_size=target.vocab_size,
        max_step_tokens=config.engine.max_step_tokens,
        ngram_min=config.draft.ngram_min,
        ngram_max=config.draft.ngram_max,
        runner=runners[1] if len(runners) > 1 else None,
    )
    scheduler = Scheduler(
        runners[0].cache,
        depth,
        eos_ids=eos_ids,
        context=target.context,
        max_step_tokens=config.engine.max_step_tokens,
        max_sequences=config.engine.max_sequences,
    )
    return Engine(runners[0], scheduler, DRAFTERS[config.draft.kind](setup), backend.synchronize)
