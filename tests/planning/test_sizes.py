"""The arithmetic against what loaded models, pools and steps really allocate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helix_cli.backend import Backend, open_backend
from helix_cli.cache.paged import PagedKVCache
from helix_cli.cache.table import BlockTable
from helix_cli.core import Row
from helix_cli.model import products
from helix_cli.model.architecture import read_architecture
from helix_cli.model.decoder import Decoder
from helix_cli.model.formats import why_no_int8
from helix_cli.model.int8 import Int8Linear
from helix_cli.model.opening import ModelChoice, ModelOpener
from helix_cli.model.runner import ModelRunner
from helix_cli.native.weight_memory import CHUNK
from helix_cli.planning.memory import stored_as
from helix_cli.planning.sizes import (
    Step,
    Stored,
    activation_bytes,
    attention_bytes,
    kv_values,
    loading_bytes,
    logits_bytes,
    num_parameters,
    weight_bytes,
    widths,
)
from helix_cli.storage import Storage
from tests.tiny import tiny_checkpoint, tiny_model

FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
    ("qwen2", {"hidden_size": 72, "num_attention_heads": 6, "num_key_value_heads": 3}),
    ("qwen3", {"head_dim": 24, "vocab_size": 333}),
    ("phi3", {"tie_word_embeddings": True}),
]


def held_tensors(thing: Any, seen: set[int]) -> Iterator[Tensor]:
    """Every tensor that an object of Helix refers to, but for the table of rotations."""
    if id(thing) in seen or type(thing).__name__ == "RotaryTable":
        return
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, list | tuple):
        for one in thing:
            yield from held_tensors(one, seen)
    elif type(thing).__module__.startswith("helix_cli"):
        for one in vars(thing).values():
            yield from held_tensors(one, seen)


def allocated(decoder: Decoder) -> int:
    """Bytes of the memory behind a model's tensors, each piece counted once."""
    pieces: dict[int, int] = {}
    for tensor in held_tensors(decoder, set()):
        if tensor.is_mkldnn:
            pieces[id(tensor)] = torch.ops.mkldnn._nbytes(tensor)
        else:
            num_bytes, whole = tensor.numel() * tensor.itemsize, tensor.untyped_storage().nbytes()
            assert whole == num_bytes or whole >= CHUNK, "a view keeps more memory than it shows"
            pieces[tensor.data_ptr()] = num_bytes
    return sum(pieces.values())


def load(path: Path, backend: Backend, dtype: str, weights: str) -> Decoder:
    """The model as a session would load it."""
    opener = ModelOpener(backend, Storage(path / "kept", 1 << 30), lambda path: list(range(3, 90)))
    return opener.open(path, read_architecture(path), ModelChoice(dtype, weights, is_draft=False))[0]


@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
@pytest.mark.parametrize(("family", "config"), FAMILIES)
def test_weights_take_what_was_said(tmp_path: Path, family: str, config: dict[str, Any], weights: str) -> None:
    path = tiny_checkpoint(tmp_path, family, **config)
    backend, shape = open_backend("cpu", 1), read_architecture(path)
    stored = stored_as(torch.float32, weights, backend)
    if stored.kernel == products.PACKED:
        pytest.skip("without a compiler oneDNN packs, and fills its tiles")
    said = weight_bytes(shape, stored)
    assert said == allocated(load(path, backend, "float32", weights))
    tied = shape.vocab_size * shape.hidden if shape.tied else 0
    assert num_parameters(shape) == sum(p.numel() for p in tiny_model(family, **config).parameters())
    assert num_parameters(shape) + tied >= shape.vocab_size * shape.hidden


@pytest.mark.parametrize("tied", [False, True])
def test_torchs_own_products_take_what_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tied: bool) -> None:
    monkeypatch.setattr(products, "open_float", lambda: None)
    path = tiny_checkpoint(tmp_path, tie_word_embeddings=tied, attention_bias=True)
    cpu, shape = open_backend("cpu", 1), read_architecture(path)
    plain = replace(cpu, packed_linear=False, mixed_products=False)
    said = weight_bytes(shape, stored_as(torch.float16, "float16", plain))
    assert said == allocated(load(path, plain, "float16", "auto"))
    if cpu.packed_linear:
        # oneDNN fills its tiles; nothing else may differ.
        packed = weight_bytes(shape, stored_as(torch.float32, "float32", cpu))
        assert packed <= allocated(load(path, cpu, "float32", "float32")) <= 1.1 * packed


@pytest.mark.parametrize(("family", "config"), FAMILIES)
def test_eight_bits_take_what_was_said_and_their_kept_channels(
    tmp_path: Path, family: str, config: dict[str, Any]
) -> None:
    backend = open_backend("cpu", 1)
    if why_no_int8(backend, torch.float32):
        pytest.skip("no exact integer products on this processor")
    path = tiny_checkpoint(tmp_path, family, **config)
    stored = stored_as(torch.float32, "int8", backend)
    if stored.kernel != "native":
        pytest.skip("torch does not say how large its packed weights are")
    decoder = load(path, backend, "float32", "int8")
    matrices = decoder.products
    assert all(isinstance(one, Int8Linear) for one in matrices)
    kept = sum(one._kept.nbytes + one._columns.nbytes for one in matrices if isinstance(one, Int8Linear))
    assert weight_bytes(read_architecture(path), stored) + kept == allocated(decoder)


def test_loading_holds_the_largest_matrices_beside_the_model(tmp_path: Path) -> None:
    """Fused parts and one as it was read, for every thread; the head where that is more; eight bits one by one."""
    narrow = read_architecture(tiny_checkpoint(tmp_path / "narrow", vocab_size=64))
    fused, head = 2 * narrow.intermediate * narrow.hidden, 64 * narrow.hidden
    assert fused > head
    float32 = Stored(torch.float32, "float32", "native")
    assert loading_bytes(narrow, float32, threads=4) == 4 * (fused + fused // 2) * 4
    assert loading_bytes(narrow, replace(float32, weights="bfloat16"), threads=1) == (fused + fused // 2) * 2
    assert loading_bytes(narrow, replace(float32, weights="int8"), threads=4) == fused * (4 * 4 + 2)
    wide = read_architecture(tiny_checkpoint(tmp_path / "wide", vocab_size=4096))
    assert loading_bytes(wide, float32, threads=1) == 4096 * wide.hidden * 4


@pytest.mark.parametrize(("family", "config"), FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keys_and_values_take_what_was_said(
    tmp_path: Path, family: str, config: dict[str, Any], dtype: torch.dtype
) -> None:
    shape = read_architecture(tiny_checkpoint(tmp_path, family, **config))
    pool = PagedKVCache(shape.kv_shapes, 5, 16, dtype, "cpu")
    assert kv_values(shape) * dtype.itemsize * 5 * 16 == sum(layer.nbytes for layer in pool.layers)


@pytest.mark.parametrize("num_logits", [1, 256])
def test_a_step_allocates_no_more_than_was_said_and_not_far_less(tmp_path: Path, num_logits: int) -> None:
    path = tiny_checkpoint(tmp_path, hidden_size=128, intermediate_size=320, vocab_size=1000)
    shape, tokens = read_architecture(path), 256
    decoder = load(path, open_backend("cpu", 1), "float32", "float32")
    pool = PagedKVCache(shape.kv_shapes, 16, 16, torch.float32, "cpu")
    table = BlockTable()
    pool.grow(table, tokens)
    runner = ModelRunner(decoder, pool)
    row = Row(table, list(range(tokens)), num_logits=num_logits)
    with torch.no_grad():
        found = peak_of(lambda: runner.forward([row]))
    step = Step(tokens, texts=1, depth=num_logits - 1)
    model = widths(shape)
    logits = logits_bytes(model, torch.float32, step) - 3 * num_logits * 4 * 1000  # what the rule would add
    said = activation_bytes(model, torch.float32, step)
    said = max(said, 0) + attention_bytes(model, torch.float32, tokens, tokens, fused=True) + logits
    assert found <= said <= 2 * found, (found, said)


def peak_of(run: Any) -> int:
    """The most bytes that were allocated at one time while `run` ran, beside what was there before."""
    run()  # what is made once stays
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    assert events, "the profiler says nothing about memory"
    return peak
