"""Where a kernel is tested."""

from __future__ import annotations

import torch


def home(kernel: str) -> torch.device:
    """The GPU for kernels that are made for one, where there is one; the CPU, with Triton interpreted, elsewhere."""
    return torch.device("cuda" if kernel.startswith("triton") and torch.cuda.is_available() else "cpu")
