"""Backends on another device than their own, by made-up runtimes: the choices are real, the hardware is not."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from helix_cli.backend import Backend, directml, mps, open_backend

GIB = 2**30
UNKNOWN = RuntimeError("Unknown error -198898192")
"""What torch-directml says of everything where there is no DirectX."""


class Package:
    """A torch_directml with `count` adapters, each of which is `adapter`; None where it fails to count them."""

    def __init__(self, adapter: torch.device, count: int | None = 1) -> None:
        self.adapter, self.count = adapter, count

    def device_count(self) -> int:
        """How many there are; the real one fails where there is no DirectX."""
        if self.count is None:
            raise UNKNOWN
        return self.count

    def device(self, index: int) -> torch.device:
        """Any of them."""
        assert self.count is not None and index < self.count
        return self.adapter

    def device_name(self, index: int) -> str:
        """Padded with zeros, as the real one."""
        return "Radeon\0\0"


def install_directml(monkeypatch: pytest.MonkeyPatch, loads: object) -> None:
    """Make torch_directml look installed; importing it gives or raises `loads`."""
    monkeypatch.setattr(directml, "is_present", lambda: True)

    def load(name: str) -> object:
        if isinstance(loads, Exception):
            raise loads
        return loads

    monkeypatch.setattr(directml, "importlib", SimpleNamespace(import_module=load, util=importlib.util))


def directml_backend(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> Backend:
    """DirectML's choices on `device`."""
    install_directml(monkeypatch, Package(device))
    return open_backend("directml")


def install_mps(monkeypatch: pytest.MonkeyPatch, built: bool = True, available: bool = True, error: str = "") -> None:
    """Make torch say that it has a Metal GPU, or not, or one that fails with `error`."""
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: built)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: available)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12 * GIB, raising=False)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 2 * GIB)

    def works(device: torch.device) -> None:
        if error:
            raise RuntimeError(error)

    monkeypatch.setattr(mps, "check_works", works)


def mps_backend(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> Backend:
    """Metal's choices on `device`."""
    install_mps(monkeypatch)
    return replace(open_backend("mps"), device=device, synchronize=lambda: None)
