"""Kernels that write and read the pool."""

from helix_cli.attention.torch_paged import Heads, TorchPaged

KERNELS = {"torch_paged": TorchPaged}

__all__ = ["KERNELS", "Heads", "TorchPaged"]
