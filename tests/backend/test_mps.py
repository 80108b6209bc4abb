"""The Apple backend against a made-up runtime."""

from __future__ import annotations

import pytest
import torch

from helix_cli.backend import open_backend
from helix_cli.errors import DeviceError
from tests.backend.pretend import GIB, install_mps


def reason(name: str = "mps") -> str:
    """Why the device cannot be opened."""
    with pytest.raises(DeviceError) as caught:
        open_backend(name)
    return caught.value.message


def test_each_thing_that_can_be_missing_has_its_own_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    install_mps(monkeypatch, built=False, available=False)
    assert "built without Metal" in reason()
    install_mps(monkeypatch, available=False)
    assert "no Metal GPU" in reason()
    install_mps(monkeypatch, error="out of memory")
    assert reason() == "The Apple GPU fails: out of memory."
    install_mps(monkeypatch)
    assert "mps:1" in reason("mps:1")


def test_sixteen_bit_checkpoints_run_in_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    install_mps(monkeypatch)
    backend = open_backend("mps")
    assert backend.choose_dtype("auto", torch.bfloat16) == torch.float16
    assert backend.choose_dtype("auto", torch.float32) == torch.float32
    assert backend.free_memory() == 10 * GIB
    assert backend.description == "Apple GPU (Metal), 12 GiB"
    with pytest.raises(DeviceError, match="does not support bfloat16"):
        backend.choose_dtype("bfloat16", torch.bfloat16)


def test_an_older_pytorch_does_not_know_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    install_mps(monkeypatch)
    monkeypatch.delattr(torch.mps, "recommended_max_memory")
    backend = open_backend("mps")
    assert (backend.description, backend.free_memory()) == ("Apple GPU (Metal)", None)
