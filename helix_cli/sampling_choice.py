"""How a session samples: as the config says, and as the model's own defaults say where the config is silent."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from helix_cli.config import Config
from helix_cli.core import SamplingParams
from helix_cli.errors import ModelError
from helix_cli.model.generation import GenerationDefaults
from helix_cli.sections import SamplingSection


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
