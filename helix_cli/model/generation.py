"""What a checkpoint asks for when it generates: where to stop, and how to sample."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from helix_cli.model.fields import Fields, read_json


@dataclass(frozen=True)
class GenerationDefaults:
    """The model's own defaults; None where it has none.

    `temperature`, `top_k`, `top_p` and `min_p` are those of a model that asks to be sampled (`do_sample`). Without that
    they are None: many checkpoints carry numbers that take effect only once sampling is switched on.
    """

    eos_ids: tuple[int, ...] = ()
    """Tokens that end a text."""
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None


def read_generation_defaults(directory: Path) -> GenerationDefaults:
    """Reads generation_config.json, and config.json for EOS where that is silent; raises ModelError."""
    path = directory / "generation_config.json"
    given = Fields(read_json(path) if path.exists() else {}, str(path))
    eos_ids = _eos_ids(given)
    if not eos_ids:
        path = directory / "config.json"
        eos_ids = _eos_ids(Fields(read_json(path), str(path)))
    penalty = _number(given, "repetition_penalty")
    if not given.flag("do_sample"):
        return GenerationDefaults(eos_ids, repetition_penalty=penalty)
    return GenerationDefaults(
        eos_ids=eos_ids,
        temperature=given.number("temperature", 1.0),
        top_k=int(given.number("top_k")) if "top_k" in given else None,
        top_p=_number(given, "top_p"),
        min_p=_number(given, "min_p"),
        repetition_penalty=penalty,
    )


def _eos_ids(fields: Fields) -> tuple[int, ...]:
    value = fields.values.get("eos_token_id")
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in ids):
        raise fields.wrong("eos_token_id", "a token id or a list of them")
    return tuple(ids)


def _number(fields: Fields, name: str) -> float | None:
    return fields.number(name) if name in fields else None
