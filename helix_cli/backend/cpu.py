"""The processor: always there, and with prepacked weights fast enough to speculate on."""

from __future__ import annotations

import os
import platform

import torch

from helix_cli.backend import host
from helix_cli.backend.backend import Backend, check_works
from helix_cli.errors import DeviceError, first_line


def open_cpu(index: int | None, threads: int | None) -> Backend:
    """The CPU with `threads` threads (one per usable physical core when None).

    Raises:
        DeviceError: an index was given, or PyTorch does not work at all.
    """
    if index is not None:
        raise DeviceError(f"There is only one CPU device, so 'cpu:{index}' does not exist.", "Use --device cpu.")
    torch.set_num_threads(threads or default_threads())
    device = torch.device("cpu")
    try:
        check_works(device)
    except RuntimeError as error:
        raise DeviceError(f"PyTorch fails on the CPU: {first_line(error)}.", "Install PyTorch again.") from error
    bfloat16 = has_fast_bfloat16()
    return Backend(
        name="cpu",
        device=device,
        description=_description(bfloat16),
        dtypes=(torch.float32, torch.bfloat16, torch.float16),
        automatic={torch.bfloat16: torch.bfloat16} if bfloat16 else {},
        packed_linear=has_packed_linear(),
        fused_attention=True,
        mixed_products=True,
        rowwise_kernels=True,
        free_memory=host.available_memory,
        total_memory=host.total_memory,
        synchronize=_nothing_to_wait_for,
    )


def default_threads() -> int:
    """One thread per physical core: the matrix kernels gain nothing from hyper-threads and lose to oversubscription.

    The usual OMP_NUM_THREADS is obeyed, and PyTorch decides where the cores cannot be counted.
    """
    if os.environ.get("OMP_NUM_THREADS"):
        return torch.get_num_threads()
    return host.usable_cores() or torch.get_num_threads()


def has_packed_linear() -> bool:
    """Whether oneDNN's prepacked products exist: an x86 build of PyTorch with oneDNN."""
    x86 = platform.machine().lower() in {"x86_64", "amd64"}
    return x86 and _has_onednn() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


def has_fast_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; emulation would be slower than float32."""
    if host.processor_flags() & {"avx512_bf16", "amx_bf16", "bf16"}:
        return _has_onednn()
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # absent from older versions of PyTorch
    return bool(probe and probe())


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _description(bfloat16: bool) -> str:
    name = host.processor_name() or platform.processor() or platform.machine() or "CPU"
    count = torch.get_num_threads()
    threads = f"{count} thread{'s' if count > 1 else ''}"
    return f"{name}, {threads}{', bfloat16' if bfloat16 else ''}"


def _nothing_to_wait_for() -> None:
    """A CPU operation is done when it returns."""
