"""EOS tokens and sampling defaults, from whichever file names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helix_cli.errors import ModelError
from helix_cli.model.generation import GenerationDefaults, read_generation_defaults


def read(tmp_path: Path, config: dict[str, Any], generation: dict[str, Any] | None = None) -> GenerationDefaults:
    (tmp_path / "config.json").write_text(json.dumps(config))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    return read_generation_defaults(tmp_path)


@pytest.mark.parametrize(
    ("config", "generation", "eos_ids"),
    [
        ({"eos_token_id": 2}, None, (2,)),
        ({"eos_token_id": [2, 3]}, {}, (2, 3)),
        ({"eos_token_id": 2}, {"eos_token_id": [7, 8]}, (7, 8)),
        ({"eos_token_id": 2}, {"eos_token_id": 0}, (0,)),
        ({}, {}, ()),
        ({"eos_token_id": None}, None, ()),
    ],
)
def test_eos(
    tmp_path: Path, config: dict[str, Any], generation: dict[str, Any] | None, eos_ids: tuple[int, ...]
) -> None:
    assert read(tmp_path, config, generation).eos_ids == eos_ids


def test_a_model_that_asks_to_be_sampled(tmp_path: Path) -> None:
    given = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0, "repetition_penalty": 1.05}
    assert read(tmp_path, {}, given) == GenerationDefaults((), 0.6, 20, 0.95, 0.0, 1.05)


def test_sampling_without_a_temperature_is_at_one(tmp_path: Path) -> None:
    assert read(tmp_path, {}, {"do_sample": True}).temperature == 1.0


def test_numbers_of_a_model_that_does_not_sample_have_no_effect(tmp_path: Path) -> None:
    given = {"temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.1}
    assert read(tmp_path, {}, given) == GenerationDefaults(repetition_penalty=1.1)


@pytest.mark.parametrize(
    "given",
    [
        {"eos_token_id": "</s>"},
        {"eos_token_id": [2, True]},
        {"eos_token_id": -1},
        {"do_sample": True, "temperature": "hot"},
        {"do_sample": "yes"},
        {"do_sample": True, "top_k": [4]},
    ],
)
def test_a_value_of_another_kind(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=list(given)[-1]):
        read(tmp_path, {}, given)


def test_no_config(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        read_generation_defaults(tmp_path)
