"""Eight-bit weights on a device, interpreted or on a GPU: every number type, odd sizes, biases, few rows and many."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from helix_cli.backend import open_backend
from helix_cli.model import formats, int8_device
from helix_cli.model.architecture import read_architecture
from helix_cli.model.int8_device import FEW_ROWS, Int8DeviceLinear, largest_error, why_not
from helix_cli.model.opening import ModelChoice, ModelOpener
from helix_cli.storage import Storage
from tests.attention.places import home
from tests.on_device import rerun
from tests.tiny import tiny_checkpoint

pytest.importorskip("triton")
DEVICE = home("triton")
TOLERANCE = int8_device.PROBE_TOLERANCE


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("rows", [1, 5, 17, FEW_ROWS, FEW_ROWS + 1])
def test_it_multiplies_by_the_rounded_matrix(rows: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(rows)
    weight = (torch.randn(70, 150, generator=generator) / 12).to(dtype).to(DEVICE)
    bias = torch.randn(70, generator=generator).to(dtype).to(DEVICE)
    x, residual = (torch.randn(rows, width, generator=generator).to(dtype).to(DEVICE) for width in (150, 70))
    product, bare = Int8DeviceLinear(weight, bias), Int8DeviceLinear(weight, None)
    rounded = product.values.double() * product.scales.double()[:, None]
    assert (rounded - weight.double()).abs().max() <= product.scales.max()  # half a step, and the type's own rounding
    wanted = x.double() @ rounded.t()

    def check(found: Tensor, expected: Tensor) -> None:
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), expected, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])

    check(bare(x), wanted)
    check(product(x), wanted + bias.double())
    check(product.add(x, residual), wanted + bias.double() + residual.double())
    check(bare.add(x[:, :], residual), wanted + residual.double())


def test_rows_that_lie_apart() -> None:
    wide = torch.randn(4, 60).to(DEVICE)
    product = Int8DeviceLinear(torch.randn(20, 30).to(DEVICE), None)
    apart, together = wide[:, 10:40], wide[:, 10:40].contiguous()
    assert torch.equal(product(apart), product(together))
    assert torch.equal(product.add(apart, wide[:, 40:]), product.add(together, wide[:, 40:].contiguous()))


def test_it_reads_half_of_what_sixteen_bits_are() -> None:
    product = Int8DeviceLinear(torch.randn(64, 512, dtype=torch.bfloat16).to(DEVICE), None)
    assert product.num_bytes == 64 * 512 + 4 * 64


def test_the_probe_sees_wrong_results(monkeypatch: pytest.MonkeyPatch) -> None:
    assert largest_error(torch.float32, DEVICE) < TOLERANCE[torch.float32]
    right = Int8DeviceLinear.add
    monkeypatch.setattr(Int8DeviceLinear, "add", lambda self, x, residual: right(self, x, 0.5 * residual))
    assert largest_error(torch.float32, DEVICE) > 0.1


def test_a_cpu_has_other_kernels() -> None:
    assert why_not(torch.float32, torch.device("cpu")) == "it runs on CUDA and ROCm only"


def test_a_model_in_eight_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What --weights int8 opens where a Triton kernel can be had; its logits are near the float model's."""
    path = tiny_checkpoint(tmp_path / "model", "qwen2", num_hidden_layers=1)
    backend = replace(open_backend("cpu", 1), mixed_products=False, packed_linear=False)
    monkeypatch.setattr(int8_device, "why_not", lambda dtype, device: None)
    assert formats.why_no_int8(backend, torch.float32) is None
    opener = ModelOpener(backend, Storage(tmp_path / "kept", 1 << 30), lambda path: [])
    rounded, name = opener.open(path, read_architecture(path), ModelChoice("float32", "int8", False))
    plain, _ = opener.open(path, read_architecture(path), ModelChoice("float32", "auto", False))
    assert name == "int8" and not opener.notes
    assert all(isinstance(product, Int8DeviceLinear) for product in rounded.products)
    x = torch.randn(3, 64)
    for one, other in zip(rounded.products, plain.products, strict=True):
        rows = torch.randn(3, one.values.shape[1]) if isinstance(one, Int8DeviceLinear) else x
        wanted = other(rows)
        assert (one(rows) - wanted).norm() < 0.02 * wanted.norm()


def test_a_gpu_without_its_kernel_is_told(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "model", num_hidden_layers=1)
    backend = replace(open_backend("cpu", 1), capture=rerun)
    opener = ModelOpener(backend, Storage(tmp_path / "kept", 1 << 30), lambda path: [])
    opener.open(path, read_architecture(path), ModelChoice("float32", "float32", False))
    opener.open(path, read_architecture(path), ModelChoice("float32", "float32", True))
    assert opener.notes == ["Attention runs in PyTorch, more slowly than in Triton: it runs on CUDA and ROCm only."]
