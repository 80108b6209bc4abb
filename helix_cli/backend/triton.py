"""Whether Triton's kernels can be used on a device: asked of the device itself, by results."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable

import torch


def why_no_triton(device: torch.device) -> str | None:
    """Why there can be no Triton kernel on a device, in a few words; None where one may be tried."""
    if not torch.empty(0, device=device).is_cuda:
        return "it runs on CUDA and ROCm only"
    return "Triton is not installed" if importlib.util.find_spec("triton") is None else None


def why_unusable(largest_error: Callable[[], float], tolerance: float) -> str | None:
    """Why a kernel must not be used whose error against a reference is `largest_error()`; None where it may be."""
    try:
        error = largest_error()
    # Old cards, missing compilers and tiles that do not fit fail each in a way of its own, at the first launch.
    except Exception as failure:
        lines = str(failure).strip().splitlines()
        return f"Triton fails here ({lines[0] if lines else type(failure).__name__})"
    return None if not math.isnan(error) and error <= tolerance else f"its results are off by {error:.1g} here"
