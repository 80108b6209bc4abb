"""Kernels that write and read the pool."""

from collections.abc import Mapping

import torch

from helix_cli.attention.compiled import Compiled, CompiledExact, can_run
from helix_cli.attention.kernel import Attend, AttentionKernel, Heads, Span
from helix_cli.attention.torch_exact import TorchExact
from helix_cli.attention.torch_paged import TorchPaged
from helix_cli.attention.triton_paged import TritonPaged, why_not

__all__ = [
    "KERNELS",
    "Attend",
    "AttentionKernel",
    "Heads",
    "Span",
    "TorchExact",
    "TorchPaged",
    "TritonPaged",
    "kernel_for",
]

KERNELS: Mapping[str, type[AttentionKernel]] = {
    "torch_paged": TorchPaged,
    "torch_exact": TorchExact,
    "compiled": Compiled,
    "compiled_exact": CompiledExact,
    "triton_paged": TritonPaged,
}


def kernel_for(heads: Heads, dtype: torch.dtype, device: torch.device, exact: bool) -> str:
    """The name of the kernel for a model; an exact one gives a token the same bits in any company."""
    if not exact and why_not(heads, dtype, device) is None:
        return "triton_paged"
    family = "compiled" if can_run(heads, dtype, device) else "torch"
    return f"{family}_exact" if exact else "compiled" if family == "compiled" else "torch_paged"
