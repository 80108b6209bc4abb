"""When exact mode is on, what refuses it, and that the machine is asked once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helix_cli.backend import Backend, open_backend
from helix_cli.errors import DeviceError
from helix_cli.model import exact
from helix_cli.model.architecture import read_architecture
from helix_cli.model.decoder import Decoder
from helix_cli.model.exact import choose_exactness, is_exact
from helix_cli.model.linear import Product
from helix_cli.model.loader import load_decoder
from helix_cli.storage import Storage
from tests.tiny import tiny_checkpoint


class Fickle:
    """A product that gives a row other last bits when fewer than `steady` rows run, or always when that is None."""

    num_bytes = 1 << 30

    def __init__(self, inner: Product, steady: int | None) -> None:
        self._inner, self._steady = inner, steady

    def __call__(self, x: Tensor) -> Tensor:
        product = self._inner(x)
        steady = self._steady is not None and x.shape[0] >= self._steady
        return product if steady else product * (1 + x.shape[0] * torch.finfo(product.dtype).eps)

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        return self(x) + residual

    def uniform(self, least: int) -> Product:
        return Fickle(self._inner, None if self._steady is None or least < self._steady else 1)


class Steady:
    """A product in which every row is computed alone."""

    num_bytes = 1 << 30

    def __init__(self, inner: Product) -> None:
        self._inner = inner

    def __call__(self, x: Tensor) -> Tensor:
        return torch.cat([self._inner(x[place : place + 1]) for place in range(len(x))])

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        return self(x) + residual

    def uniform(self, least: int) -> Product:
        return self


@pytest.fixture
def cpu() -> Backend:
    """The processor with one thread."""
    return open_backend("cpu", 1)


@pytest.fixture
def small(tmp_path: Path, cpu: Backend) -> Decoder:
    """A tiny model with a context longer than the probe."""
    return steady(tmp_path / "model", cpu, max_position_embeddings=512)


def steady(directory: Path, cpu: Backend, **config: Any) -> Decoder:
    """A tiny model whose products keep a row's bits, because they compute it alone."""
    path = tiny_checkpoint(directory, **config)
    decoder = load_decoder(path, read_architecture(path), cpu, torch.float32)
    layers = tuple(
        replace(
            layer,
            qkv=Steady(layer.qkv),
            output=Steady(layer.output),
            gate_up=Steady(layer.gate_up),
            down=Steady(layer.down),
        )
        for layer in decoder.layers
    )
    return replace(decoder, layers=layers, head=Steady(decoder.head))


def fickle(decoder: Decoder, steady: int | None) -> Decoder:
    """The same with one product in the second layer that is not."""
    first, second, *others = decoder.layers
    return replace(decoder, layers=(first, replace(second, down=Fickle(second.down, steady)), *others))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "cache")


def test_a_model_whose_products_keep_a_rows_bits_is_exact(small: Decoder) -> None:
    assert is_exact(small.tokenwise(1))
    assert not is_exact(small), "attention over several tokens at once keeps nothing"
    assert not is_exact(fickle(small, None).tokenwise(1))
    assert not is_exact(fickle(small, 2).tokenwise(1))
    assert is_exact(fickle(small, 2).tokenwise(2))


def test_on_and_off_are_obeyed(small: Decoder, cpu: Backend, storage: Storage) -> None:
    on, off = (choose_exactness(word, small, cpu, storage) for word in ("on", "off"))
    assert on.is_on and on.model.kernel.endswith("_exact")
    assert not off.is_on and off.model is small and "switched off" in off.reason


def test_auto_is_on_for_large_layers_only(
    small: Decoder, cpu: Backend, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose_exactness("auto", small, cpu, storage).is_on
    monkeypatch.setattr(Steady, "num_bytes", exact.CHEAP_LAYER_BYTES // 4 - 1)
    smaller = choose_exactness("auto", small, cpu, storage)
    assert not smaller.is_on and "may cost more" in smaller.reason
    assert choose_exactness("on", small, cpu, storage).is_on


def test_auto_is_off_where_the_exact_kernels_are_others(small: Decoder, cpu: Backend, storage: Storage) -> None:
    layers = tuple(
        replace(layer, output=Fickle(layer.output, 1), gate_up=Fickle(layer.gate_up, 1), down=Fickle(layer.down, 1))
        for layer in small.layers
    )
    other = replace(small, layers=layers)
    assert choose_exactness("on", other, cpu, storage).is_on
    auto = choose_exactness("auto", other, cpu, storage)
    assert not auto.is_on and "long prompts" in auto.reason


def test_where_one_row_has_a_kernel_of_its_own_it_gets_company(small: Decoder, cpu: Backend, storage: Storage) -> None:
    one = fickle(small, 4)
    assert choose_exactness("on", one, cpu, storage).is_on
    assert not choose_exactness("auto", one, cpu, storage).is_on


def test_products_that_keep_no_bits_are_named(small: Decoder, cpu: Backend, storage: Storage) -> None:
    with pytest.raises(DeviceError, match="Exact mode cannot be had: the matrix products of this machine"):
        choose_exactness("on", fickle(small, None), cpu, storage)
    auto = choose_exactness("auto", fickle(small, None), cpu, storage)
    assert not auto.is_on and "matrix products" in auto.reason


def test_a_device_without_such_kernels_is_not_asked(
    small: Decoder, cpu: Backend, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "is_exact", None)
    card = replace(cpu, description="A card", rowwise_kernels=False)
    with pytest.raises(DeviceError, match="on A card a token's last bits depend"):
        choose_exactness("on", small, card, storage)
    assert not choose_exactness("auto", small, card, storage).is_on


def test_the_machine_is_asked_once(
    small: Decoder, cpu: Backend, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for decoder, is_on in ((small, True), (fickle(small, None), False)):
        assert choose_exactness("auto", decoder, cpu, storage).is_on == is_on
        with monkeypatch.context() as patched:
            patched.setattr(exact, "is_exact", None)
            assert choose_exactness("auto", decoder, cpu, storage).is_on == is_on
    with monkeypatch.context() as patched, pytest.raises(TypeError):
        patched.setattr(exact, "is_exact", None)
        choose_exactness("on", small, replace(cpu, description="A chip, 2 threads"), storage)


def test_a_draft_from_the_targets_layers_is_not_exact(small: Decoder) -> None:
    assert small.tokenwise(1).truncated(1).kernel.endswith("_exact")
    assert small.truncated(1).kernel == small.kernel


def test_a_context_shorter_than_the_probe(tmp_path: Path, cpu: Backend) -> None:
    decoder = steady(tmp_path / "model", cpu, max_position_embeddings=20, num_hidden_layers=1)
    assert is_exact(decoder.tokenwise(1))
    changed = replace(decoder, head=Fickle(decoder.head, None))
    assert not is_exact(changed.tokenwise(1))


def test_the_answer_is_kept_for_these_kernels_only(
    small: Decoder, cpu: Backend, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose_exactness("on", small, cpu, storage).is_on
    monkeypatch.setattr(exact, "is_exact", lambda decoder: False)
    assert choose_exactness("on", small, cpu, storage).is_on, "known from before"
    monkeypatch.setattr(exact, "kernel_version", lambda: "other")
    with pytest.raises(DeviceError, match="matrix products"):
        choose_exactness("on", small, cpu, storage)
