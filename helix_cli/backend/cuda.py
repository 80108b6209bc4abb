"""NVIDIA GPUs, and AMD GPUs through ROCm, which PyTorch presents as CUDA."""

from __future__ import annotations

from functools import partial

import torch

from helix_cli.backend.backend import Backend, check_works
from helix_cli.backend.graphs import GraphCapture
from helix_cli.errors import DeviceError, first_line

_BFLOAT16_CAPABILITY = (8, 0)
"""From Ampere on the tensor cores take bfloat16; before that it is emulated."""


def is_present() -> bool:
    """Whether PyTorch sees a GPU; it may still fail."""
    return torch.cuda.is_available()


def open_cuda(index: int | None, threads: int | None) -> Backend:
    """GPU number `index` (0 when None); `threads` is for what stays on the CPU.

    Raises:
        DeviceError: PyTorch was built without GPU support, sees no GPU, has no such index, or the GPU fails.
    """
    index = index or 0
    _require(index)
    device = torch.device("cuda", index)
    try:
        check_works(device)
    except RuntimeError as error:
        raise DeviceError(
            f"The GPU {torch.cuda.get_device_name(index)} cannot be used: {first_line(error)}.",
            "Install a PyTorch build for this GPU (pytorch.org/get-started), free it, or use --device cpu.",
        ) from error
    if threads is not None:
        torch.set_num_threads(threads)
    half = torch.bfloat16 if _has_fast_bfloat16(index) else torch.float16
    return Backend(
        name="cuda",
        device=device,
        description=_description(index),
        dtypes=(torch.float32, torch.float16, torch.bfloat16),
        automatic={torch.float16: torch.float16, torch.bfloat16: half},
        packed_linear=False,
        fused_attention=True,
        free_memory=partial(_free_memory, device),
        total_memory=partial(_total_memory, device),
        synchronize=partial(torch.cuda.synchronize, device),
        capture=GraphCapture(device),
    )


def _require(index: int) -> None:
    """Say exactly what is missing."""
    if torch.version.cuda is None and torch.version.hip is None:
        raise DeviceError(
            "This PyTorch was built without GPU support.",
            "Install a CUDA or ROCm build (pytorch.org/get-started), or use --device cpu.",
        )
    if not torch.cuda.is_available():
        tool = "rocminfo" if torch.version.hip else "nvidia-smi"
        raise DeviceError(
            "PyTorch finds no GPU or no working driver for one.",
            f"Check that `{tool}` lists the GPU and that CUDA_VISIBLE_DEVICES does not hide it, or use --device cpu.",
        )
    count = torch.cuda.device_count()
    if index >= count:
        raise DeviceError(
            f"There is no GPU number {index}: PyTorch sees {count}, counted from 0.",
            f"Use --device cuda:{count - 1} or lower.",
        )


def _has_fast_bfloat16(index: int) -> bool:
    return torch.version.hip is not None or torch.cuda.get_device_capability(index) >= _BFLOAT16_CAPABILITY


def _free_memory(device: torch.device) -> int:
    """What the driver has left, and what PyTorch keeps without using it."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _total_memory(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[1]


def _description(index: int) -> str:
    gib = torch.cuda.mem_get_info(index)[1] / 2**30
    runtime = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
    return f"{torch.cuda.get_device_name(index)}, {gib:.0f} GiB, {runtime}"
