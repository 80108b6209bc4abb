"""Whatever is thrown at what reads foreign input: a value or a HelixError, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import struct
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from helix_cli.commands.prompts import read_prompts
from helix_cli.config import SECTIONS, Config, load_config
from helix_cli.errors import HelixError
from helix_cli.model.architecture import read_architecture
from helix_cli.model.weights import Weights
from helix_cli.text import TextStream
from helix_cli.tokenizer import Tokenizer
from tests.tiny import tiny_checkpoint, tiny_tokenizer

EXAMPLES = int(os.environ.get("HELIX_FUZZ_EXAMPLES", "25"))
"""More of them for a longer search: HELIX_FUZZ_EXAMPLES=20000."""
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
KEYS = [f"{name}.{key}" for name, section in SECTIONS.items() for key in section.model_fields]


def written(content: bytes, read: Any) -> None:
    """Reads a file with this content; only a HelixError may come of it."""
    with TemporaryDirectory() as folder, contextlib.suppress(HelixError):
        file = Path(folder) / "input"
        file.write_bytes(content)
        read(file)


@fuzz
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"a: &a [*a]")
@example(b"? {a: b}\n: c")
@example(b"model: !!python/object:os.system x")
@example(b"[" * 5000)
@example(b"draft: {k: 2001-99-99}")
@example(b"draft: {k: !!bool maybe}")
@example(b"draft: {k: !!timestamp x}")
def test_any_bytes_as_a_config(content: bytes) -> None:
    written(content, load_config)


@fuzz
@given(st.dictionaries(st.sampled_from(list(SECTIONS)), st.dictionaries(st.text(max_size=8), JSON, max_size=3) | JSON))
def test_any_values_in_a_config(content: dict[str, Any]) -> None:
    written(json.dumps(content).encode(), load_config)


@fuzz
@given(st.lists(st.tuples(st.sampled_from(KEYS) | st.text(max_size=12), st.text(max_size=20)), max_size=3))
@example([("draft.k", "1e999")])
@example([("sampling.stop", "[" * 2000)])
@example([("sampling.seed", "9" * 5000)])
def test_any_override(overrides: list[tuple[str, str]]) -> None:
    with contextlib.suppress(HelixError):
        config = load_config(None, [f"{key}={value}" for key, value in overrides])
        assert Config.model_validate(config.effective()) == config


@fuzz
@given(
    st.lists(
        st.binary(max_size=60)
        | JSON.map(lambda value: json.dumps(value).encode())
        | st.fixed_dictionaries(
            {}, optional={key: JSON for key in ("prompt", "messages", "id", "max_tokens", "priority")}
        ).map(lambda value: json.dumps(value).encode()),
        max_size=4,
    )
)
@example([b'{"prompt": "a", "id": 1e999}'])
@example([b'{"prompt": "a", "priority": ' + b"9" * 5000 + b"}"])
@example([b"[" * 100000])
def test_any_lines_of_prompts(lines: list[bytes]) -> None:
    written(b"\n".join(lines), lambda file: read_prompts(file, chat=False))


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer(tiny_tokenizer(Path(mkdtemp())))


@fuzz
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
@example("e\u0301\u200d\u202e🇩🇪👩‍👩‍👧‍👦\x00\ufffd")
@example("<|im_end|><|endoftext|")
def test_any_text_comes_back_and_streams(text: str) -> None:
    ids = tokenizer().encode(text)
    stream = TextStream(tokenizer())
    for token in ids:
        stream.push(token)
    stream.finish()
    assert stream.text == tokenizer().decode(ids)
    if not any(token in tokenizer().special_ids for token in ids):
        assert stream.text == text


@fuzz
@given(st.text("ab🙂é", max_size=40), st.lists(st.text("ab🙂é", min_size=1, max_size=4), min_size=1, max_size=3))
def test_any_stop_strings_end_a_text_where_the_first_is_complete(text: str, stops: list[str]) -> None:
    stream = TextStream(tokenizer(), stops)
    released = ""
    for token in tokenizer().encode(text):
        stopped = stream.push(token)
        released += stream.take()
        if stopped:
            break
    released += stream.finish()
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    assert released == (text[: min(ends)[1]] if ends else text)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model"))


def read_all(file: Path) -> None:
    """Opens the folder of a weights file and reads every tensor."""
    weights = Weights(file.parent)
    for name in weights._files:
        weights.read(name, torch.float32)


@fuzz
@given(st.data())
def test_any_damage_to_a_safetensors_file(checkpoint: Path, data: st.DataObject) -> None:
    content = bytearray((checkpoint / "model.safetensors").read_bytes())
    header = struct.unpack("<Q", content[:8])[0]
    for _ in range(data.draw(st.integers(1, 4))):
        # Most of the damage is to the header: the rest is numbers, all of which but a few are legal.
        place = data.draw(st.integers(0, 8 + header - 1))
        content[place] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.sampled_from([len(content), header, 8, 4, len(content) - 3]))]
    with TemporaryDirectory() as folder, contextlib.suppress(HelixError):
        file = Path(folder) / "model.safetensors"
        file.write_bytes(content)
        read_all(file)


@fuzz
@given(JSON | st.dictionaries(st.text(max_size=8), JSON))
def test_any_safetensors_header(header: Any) -> None:
    text = json.dumps(header).encode()
    with TemporaryDirectory() as folder, contextlib.suppress(HelixError):
        file = Path(folder) / "model.safetensors"
        file.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 64)
        read_all(file)


@fuzz
@given(st.data())
def test_any_value_in_a_model_config(checkpoint: Path, data: st.DataObject) -> None:
    content = json.loads((checkpoint / "config.json").read_text())
    key = data.draw(st.sampled_from(sorted(content)))
    content[key] = data.draw(JSON)
    with TemporaryDirectory() as folder, contextlib.suppress(HelixError):
        (Path(folder) / "config.json").write_text(json.dumps(content))
        read_architecture(Path(folder))
