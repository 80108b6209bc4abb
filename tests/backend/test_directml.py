"""The DirectML backend against a made-up package: every way in which it can be unusable has its own reason."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from helix_cli.backend import directml, open_backend
from helix_cli.errors import DeviceError


class Package(SimpleNamespace):
    """A torch_directml whose first adapter is the CPU."""

    def device(self, index: int) -> torch.device:
        """What the real one does without a GPU, for any other index."""
        if index:
            raise RuntimeError("Unknown error -198898192")
        return torch.device("cpu")

    def device_name(self, index: int) -> str:
        """Padded with zeros, as the real one."""
        return "Radeon\0\0"


def install(monkeypatch: pytest.MonkeyPatch, loads: object) -> None:
    """Make the package look installed; importing it gives or raises `loads`."""
    monkeypatch.setattr(directml, "is_present", lambda: True)

    def load(name: str) -> object:
        if isinstance(loads, Exception):
            raise loads
        return loads

    monkeypatch.setattr(directml, "importlib", SimpleNamespace(import_module=load))


def reason(name: str = "directml") -> DeviceError:
    """Why the device cannot be opened."""
    with pytest.raises(DeviceError) as caught:
        open_backend(name)
    return caught.value


@pytest.mark.parametrize(
    ("python", "system", "expected"),
    [
        ((3, 12), "win32", "pip install"),
        ((3, 13), "win32", "Python 3.11 or 3.12"),
        ((3, 11), "darwin", "no build for darwin"),
    ],
)
def test_not_installed(monkeypatch: pytest.MonkeyPatch, python: tuple[int, int], system: str, expected: str) -> None:
    monkeypatch.setattr(directml, "is_present", lambda: False)
    monkeypatch.setattr(sys, "version_info", (*python, 0))
    monkeypatch.setattr(sys, "platform", system)
    error = reason()
    assert error.message == "torch-directml is not installed."
    assert expected in error.hint


def test_beside_another_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ImportError("undefined symbol: _ZNK3c10"))
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
    assert reason().message == "torch-directml needs PyTorch 2.4.1, not 2.13.0."


def test_without_directx(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, OSError("libd3d12.so: cannot open shared object file"))
    monkeypatch.setattr(torch, "__version__", "2.4.1")
    error = reason()
    assert "libd3d12.so" in error.message
    assert "DirectX 12" in error.hint


def test_a_device_object_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Package())
    assert "adapter 1: Unknown error -198898192" in reason("directml:1").message

    def fails(device: torch.device) -> None:
        raise RuntimeError("Unknown error -1")

    monkeypatch.setattr(directml, "check_works", fails)
    assert "adapter 0: Unknown error -1" in reason().message


def test_bfloat16_never_reaches_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Package())
    backend = open_backend("directml")
    assert backend.description == "Radeon (DirectML)"
    assert backend.choose_dtype("auto", torch.bfloat16) == torch.float16
    with pytest.raises(DeviceError, match="bfloat16"):
        backend.choose_dtype("bfloat16", torch.bfloat16)
    assert backend.free_memory() is None
    backend.synchronize()
