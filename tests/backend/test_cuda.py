"""The CUDA and ROCm backend against a made-up runtime: the reasons it gives, and the types it chooses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from helix_cli.backend import cuda, open_backend
from helix_cli.errors import DeviceError

GIB = 2**30


def pretend(monkeypatch: pytest.MonkeyPatch, **facts: Any) -> None:
    """Make PyTorch say that it has one working GPU, but for `facts`."""
    facts = {"cuda": "12.6", "hip": None, "available": True, "count": 1, "capability": (9, 0), "error": None} | facts
    monkeypatch.setattr(torch.version, "cuda", facts["cuda"])
    monkeypatch.setattr(torch.version, "hip", facts["hip"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: facts["available"])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: facts["count"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: facts["capability"])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 * GIB, 8 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: GIB)

    def works(device: torch.device) -> None:
        if facts["error"]:
            raise RuntimeError(facts["error"])

    monkeypatch.setattr(cuda, "check_works", works)


def reason(name: str = "cuda") -> DeviceError:
    """Why the device cannot be opened."""
    with pytest.raises(DeviceError) as caught:
        open_backend(name)
    return caught.value


def test_a_build_without_gpu_support(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=None, available=False)
    assert "built without GPU support" in reason().message


def test_no_gpu_or_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, available=False)
    error = reason()
    assert "no GPU or no working driver" in error.message
    assert "nvidia-smi" in error.hint
    pretend(monkeypatch, available=False, cuda=None, hip="6.4")
    assert "rocminfo" in reason().hint


def test_an_index_out_of_range(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, count=2)
    error = reason("cuda:2")
    assert "no GPU number 2: PyTorch sees 2" in error.message
    assert "cuda:1" in error.hint


def test_a_gpu_that_fails_is_quoted_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, error="CUDA error: no kernel image is available\nCompile with TORCH_USE_CUDA_DSA")
    assert reason().message == "The GPU Card cannot be used: CUDA error: no kernel image is available."


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"capability": (8, 0)}, torch.bfloat16),
        ({"capability": (7, 5)}, torch.float16),
        ({"cuda": None, "hip": "6.4", "capability": (7, 5)}, torch.bfloat16),
    ],
)
def test_automatic_types(monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any], expected: torch.dtype) -> None:
    pretend(monkeypatch, **facts)
    backend = open_backend("cuda")
    assert backend.choose_dtype("auto", torch.bfloat16) == expected
    assert backend.choose_dtype("auto", torch.float16) == torch.float16
    assert backend.choose_dtype("auto", torch.float32) == torch.float32


def test_the_description_names_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    assert open_backend("cuda").description == "Card, 8 GiB, CUDA 12.6"
    pretend(monkeypatch, cuda=None, hip="6.4")
    assert open_backend("cuda:0").description == "Card, 8 GiB, ROCm 6.4"


def test_memory_that_pytorch_holds_unused_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    assert open_backend("cuda").free_memory() == 6 * GIB
