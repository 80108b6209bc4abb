"""What a checkpoint's generation_config.json asks for: its EOS tokens and its sampling."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helix_cli.errors import ModelError
from helix_cli.model.architecture import read_json


@dataclass(frozen=True)
class GenerationDefaults:
    """The model's own defaults; None where it has none."""

    eos_ids: tuple[int, ...] = ()
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None


def read_generation_defaults(directory: Path) -> GenerationDefaults:
    """Reads generation_config.json, and config.json for EOS where that is silent; raises ModelError."""
    path = directory / "generation_config.json"
    given = read_json(path) if path.is_file() else {}
    eos = given.get("eos_token_id")
    if eos is None:
        eos = read_json(directory / "config.json").get("eos_token_id")
    sampling: dict[str, Any] = {}
    if given.get("do_sample"):
        # Sampling settings of a model that does not sample by default would turn sampling on.
        sampling = {key: given.get(key) for key in ("temperature", "top_k", "top_p", "min_p")}
        sampling["temperature"] = 1.0 if sampling["temperature"] is None else sampling["temperature"]
    eos_ids = tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,)
    if not all(isinstance(token, int) for token in eos_ids):
        raise ModelError(f"{path} names an EOS that is not a token id.", "Download the checkpoint again.")
    return GenerationDefaults(eos_ids, repetition_penalty=given.get("repetition_penalty"), **sampling)
