"""Eight-bit decoders: chosen by calibration, kept on disk, made anew when that is damaged."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helix_cli.backend import open_backend
from helix_cli.cache.table import BlockTable
from helix_cli.checks.workbench import cache_for
from helix_cli.core import Row
from helix_cli.model import calibrate, weight_cache
from helix_cli.model.architecture import read_architecture
from helix_cli.model.decoder import Decoder
from helix_cli.model.float_native import NativeLinear
from helix_cli.model.int8 import Int8Linear
from helix_cli.model.int8_kernels import best_kernel
from helix_cli.model.int8_loader import Int8Rounding, load_int8_decoder
from helix_cli.model.linear import Linear
from helix_cli.model.loader import Loader, load_decoder
from helix_cli.model.runner import ModelRunner
from helix_cli.model.weight_cache import WeightCache
from helix_cli.model.weights import Weights
from helix_cli.storage import Storage
from tests.tiny import tiny_checkpoint

pytestmark = pytest.mark.skipif(best_kernel() is None, reason="no exact integer products on this processor")

TEXT = list(range(3, 200, 3))
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 128, "intermediate_size": 256, "tie_word_embeddings": True},
    "qwen2": {"hidden_size": 128, "intermediate_size": 256},
    "phi3": {"hidden_size": 128, "intermediate_size": 256},
}


@pytest.fixture(params=FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A random model of one family, with biases and fused projections among them."""
    return tiny_checkpoint(tmp_path / "model", request.param, **FAMILIES[request.param])


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., tuple[Decoder, list[str]]]:
    """Loads with eight-bit weights over one cache directory; returns what was said too."""

    def load(path: Path) -> tuple[Decoder, list[str]]:
        shape, told = read_architecture(path), list[str]()
        loader = Loader(Weights(path), shape, open_backend("cpu", 1), torch.float32, torch.float32)
        cache = WeightCache(Storage(tmp_path / "kept", 1 << 30), path, "test")
        kernel = best_kernel()
        assert kernel is not None
        return load_int8_decoder(loader, shape, Int8Rounding(cache, kernel, lambda: TEXT), told.append), told

    return load


def logits(decoder: Decoder) -> torch.Tensor:
    cache = cache_for(decoder, 16, 4)
    table = BlockTable()
    cache.grow(table, 20)
    return ModelRunner(decoder, cache).forward([Row(table, TEXT[5:25], num_logits=20)])


def kept_file(tmp_path: Path, name: str = "part-0001.safetensors") -> Path:
    (folder,) = (tmp_path / "kept" / "weights").iterdir()
    return folder / name


def test_logits_are_near_the_float_models_and_the_same_from_the_cache(
    checkpoint: Path, load: Callable[..., tuple[Decoder, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tiny random models are rougher than trained ones; the products are good enough all the same.
    monkeypatch.setattr(calibrate, "TOLERANCE", 0.1)
    shape = read_architecture(checkpoint)
    wanted = logits(load_decoder(checkpoint, shape, open_backend("cpu", 1), torch.float32))
    first, told = load(checkpoint)
    assert told == [] and all(isinstance(one, Int8Linear) for one in first.products)
    found = logits(first)
    assert calibrate.row_error(found, wanted, wanted) < 0.15
    monkeypatch.setattr("helix_cli.model.int8_loader.fit", None)  # from now on everything comes from the disk
    again, told = load(checkpoint)
    assert told == [] and torch.equal(logits(again), found)


def test_a_matrix_that_eight_bits_do_not_do_for_stays_wide(
    tmp_path: Path, load: Callable[..., tuple[Decoder, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_checkpoint(tmp_path / "model")
    real = calibrate.fit
    monkeypatch.setattr(
        "helix_cli.model.int8_loader.fit", lambda w, *rest: None if w.shape[1] == 96 else real(w, *rest)
    )
    monkeypatch.setattr(calibrate, "TOLERANCE", 0.1)
    for decoder in (load(path)[0], load(path)[0]):
        assert all(isinstance(layer.down, (Linear, NativeLinear)) for layer in decoder.layers)
        assert all(isinstance(layer.qkv, Int8Linear) for layer in decoder.layers)


@pytest.mark.parametrize("damage", ["bit", "short", "missing", "checksums"])
def test_a_damaged_cache_is_made_anew_with_one_line(
    tmp_path: Path, load: Callable[..., tuple[Decoder, list[str]]], damage: str
) -> None:
    path = tiny_checkpoint(tmp_path / "model")
    wanted = logits(load(path)[0])
    file = kept_file(tmp_path)
    content = bytearray(file.read_bytes())
    if damage == "bit":
        content[-1] ^= 1
        file.write_bytes(content)
    elif damage == "short":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "missing":
        file.unlink()
    else:
        kept_file(tmp_path, weight_cache.CHECKSUMS).write_text("[]")
    decoder, told = load(path)
    assert len(told) == 1 and "made anew" in told[0] and torch.equal(logits(decoder), wanted)
    assert load(path)[1] == [], "the new one is sound"


def test_a_full_disk_costs_only_the_cache(
    tmp_path: Path, load: Callable[..., tuple[Decoder, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_checkpoint(tmp_path / "model")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(weight_cache, "checksum", full)
    decoder, told = load(path)
    assert len(told) == 1 and "No space left" in told[0]
    assert logits(decoder).isfinite().all() and list((tmp_path / "kept" / "weights").iterdir()) == []


def test_another_content_is_another_entry(tmp_path: Path) -> None:
    one = tiny_checkpoint(tmp_path / "one", seed=1)
    key = weight_cache.fingerprint(one, "a")
    assert key == weight_cache.fingerprint(one, "a") != weight_cache.fingerprint(one, "b")
    file = one / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert weight_cache.fingerprint(one, "a") != key
