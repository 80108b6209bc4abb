"""The DirectML backend against a made-up package: every way in which it can be unusable has its own reason."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from helix_cli.backend import directml, open_backend
from helix_cli.errors import DeviceError
from tests.backend.pretend import Package, directml_backend, install_directml

CPU = torch.device("cpu")


def reason(name: str = "directml") -> DeviceError:
    """Why the device cannot be opened."""
    with pytest.raises(DeviceError) as caught:
        open_backend(name)
    return caught.value


@pytest.mark.parametrize(
    ("python", "system", "message", "hint"),
    [
        ((3, 12), "win32", "torch-directml is not installed.", "pip install helix-cli[directml]"),
        ((3, 13), "win32", "torch-directml has no build for Python 3.13.", "Python 3.11 or 3.12"),
        ((3, 11), "darwin", "torch-directml has no build for darwin.", "another --device"),
    ],
)
def test_not_installed(
    monkeypatch: pytest.MonkeyPatch, python: tuple[int, int], system: str, message: str, hint: str
) -> None:
    monkeypatch.setattr(directml, "is_present", lambda: False)
    monkeypatch.setattr(sys, "version_info", (*python, 0))
    monkeypatch.setattr(sys, "platform", system)
    error = reason()
    assert error.message == message
    assert hint in error.hint


@pytest.mark.parametrize("loads", [ImportError("undefined symbol: _ZNK3c10"), OSError("WinError 127"), RuntimeError()])
def test_beside_another_torch(monkeypatch: pytest.MonkeyPatch, loads: Exception) -> None:
    install_directml(monkeypatch, loads)
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
    assert reason().message == "torch-directml needs PyTorch 2.4.1, not 2.13.0."


@pytest.mark.parametrize(
    ("loads", "message", "hint"),
    [
        (
            OSError("libd3d12.so: cannot open shared object file: No such file or directory"),
            "This system has no DirectX 12: libd3d12.so: cannot open shared object file",
            "WSL 2",
        ),
        (
            ImportError("cannot import name 'torch_directml_native'"),
            "torch-directml is not installed whole: cannot import name",
            "pip install helix-cli[directml]",
        ),
        (RuntimeError("Unknown error -1\nmore"), "DirectX 12 does not start: Unknown error -1.", "graphics driver"),
    ],
)
def test_each_failure_to_load_has_its_own_reason(
    monkeypatch: pytest.MonkeyPatch, loads: Exception, message: str, hint: str
) -> None:
    install_directml(monkeypatch, loads)
    monkeypatch.setattr(torch, "__version__", "2.4.1")
    error = reason()
    assert error.message.startswith(message)
    assert hint in error.hint


def test_no_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    install_directml(monkeypatch, Package(CPU, None))
    assert reason().message == "DirectML finds no DirectX 12 adapter: Unknown error -198898192."
    install_directml(monkeypatch, Package(CPU, 0))
    assert reason().message == "DirectML finds no DirectX 12 adapter."
    install_directml(monkeypatch, Package(CPU))
    error = reason("directml:1")
    assert error.message == "There is no DirectX adapter number 1: DirectML sees 1, counted from 0."
    assert "directml:0" in error.hint


def test_a_device_object_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    # Memory that does not exist can be had, and added to; only copying back shows it.
    install_directml(monkeypatch, Package(torch.device("meta")))
    assert reason().message.startswith("DirectX adapter 0 fails: ")


def test_bfloat16_never_reaches_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = directml_backend(monkeypatch, CPU)
    assert backend.description == "Radeon (DirectML)"
    assert backend.choose_dtype("auto", torch.bfloat16) == torch.float16
    with pytest.raises(DeviceError, match="bfloat16"):
        backend.choose_dtype("bfloat16", torch.bfloat16)
    assert backend.free_memory() is None
    backend.synchronize()


def test_autograd_is_switched_off_in_the_way_that_directml_allows() -> None:
    # microsoft/DirectML#602; the simulated device of test_dispatch.py would not notice.
    sources = Path(directml.__file__).parents[1].rglob("*.py")
    assert not [path for path in sources if "inference_mode(" in path.read_text(encoding="utf-8")]
