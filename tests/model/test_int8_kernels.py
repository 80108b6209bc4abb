"""Which integer kernel runs: one whose sums are right, or none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helix_cli.model import int8_kernels, int8_native
from helix_cli.model.int8_fbgemm import Fbgemm, open_fbgemm
from helix_cli.model.int8_kernels import best_kernel, is_exact, open_kernel
from helix_cli.model.int8_native import open_native


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    open_kernel.cache_clear()
    best_kernel.cache_clear()
    yield
    open_kernel.cache_clear()
    best_kernel.cache_clear()


@dataclass
class Reference:
    """Right sums, in float64; off by `error`."""

    name: str = "reference"
    levels: int = 127
    error: float = 0.0

    def pack(self, values: Tensor, scales: Tensor) -> Any:
        return values.double() * scales[:, None]

    def multiply(self, x: Tensor, packed: Any, bias: Tensor | None, added: Tensor | None) -> Tensor:
        product: Tensor = (x.double() @ packed.t()).float() + self.error
        return product


def test_the_judge_tells_right_sums_from_wrong_ones() -> None:
    assert is_exact(Reference()) and not is_exact(Reference(error=1.0))


def test_saturation_is_found() -> None:
    """Whatever range FBGEMM is given here, its sums are right there; a wider one is refused where it saturates."""
    kernel = open_fbgemm()
    if kernel is None:
        pytest.skip("no FBGEMM")
    assert is_exact(kernel) and is_exact(Fbgemm(127)) == (kernel.levels == 127)


def test_a_kernel_with_wrong_sums_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8_kernels, "INT8_KERNELS", {"native": lambda: Reference(error=1.0), "fbgemm": Reference})
    found = best_kernel()
    assert open_kernel("native") is None and found is not None and found.name == "reference"


def test_without_a_compiler_torch_multiplies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HELIX_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda name: None)
    fbgemm = open_kernel("fbgemm")
    assert open_native() is None
    monkeypatch.setattr(int8_kernels, "INT8_KERNELS", {"native": open_native, "fbgemm": lambda: fbgemm})
    assert best_kernel() is fbgemm


def test_packing_keeps_every_weight_in_its_place() -> None:
    values = torch.arange(-110, 110).to(torch.int8).view(5, 44)
    packed = int8_native.Native(lambda *_: None, 63, 2).pack(values, torch.ones(5))
    assert packed.weights.shape == (3, 2, 2, 32)
    unpacked = packed.weights.transpose(1, 2).reshape(6, 64).int() - 128
    assert torch.equal(unpacked[:5, :44], values.int()) and not unpacked[5].any() and not unpacked[:, 44:].any()
