"""Kernels that write and read the pool."""

from collections.abc import Mapping

from helix_cli.attention.kernel import Attend, AttentionKernel, Heads, Span
from helix_cli.attention.torch_exact import TorchExact
from helix_cli.attention.torch_paged import TorchPaged

__all__ = ["KERNELS", "Attend", "AttentionKernel", "Heads", "Span", "TorchExact", "TorchPaged"]

KERNELS: Mapping[str, type[AttentionKernel]] = {"torch_paged": TorchPaged, "torch_exact": TorchExact}
