"""Apple GPUs through Metal."""

from __future__ import annotations

import torch

from helix_cli.backend.backend import Backend, check_works
from helix_cli.errors import DeviceError, first_line


def is_present() -> bool:
    """Whether PyTorch sees an Apple GPU; it may still fail."""
    return torch.backends.mps.is_available()


def open_mps(index: int | None, threads: int | None) -> Backend:
    """The Apple GPU; `threads` is for what stays on the CPU.

    Raises:
        DeviceError: not a Mac, an old macOS, a PyTorch without Metal, an index other than 0, or the GPU fails.
    """
    if index:
        raise DeviceError(f"There is only one Apple GPU, so 'mps:{index}' does not exist.", "Use --device mps.")
    if not torch.backends.mps.is_built():
        raise DeviceError(
            "This PyTorch was built without Metal.", "Metal needs a Mac and its PyTorch build; or use --device cpu."
        )
    if not torch.backends.mps.is_available():
        raise DeviceError(
            "This PyTorch has Metal, but the system offers no Metal GPU.",
            "Metal needs Apple silicon (or an AMD GPU) and macOS 12.3 or later; or use --device cpu.",
        )
    device = torch.device("mps")
    try:
        check_works(device)
    except RuntimeError as error:
        raise DeviceError(f"The Apple GPU fails: {first_line(error)}.", "Use --device cpu.") from error
    most = _recommended_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    return Backend(
        name="mps",
        device=device,
        description="Apple GPU (Metal)" + ("" if most is None else f", {most / 2**30:.0f} GiB"),
        # bfloat16 depends on the versions of macOS and PyTorch, and float16 is faster on every Apple GPU.
        dtypes=(torch.float32, torch.float16),
        automatic={torch.float16: torch.float16, torch.bfloat16: torch.float16},
        packed_linear=False,
        fused_attention=True,
        free_memory=_free_memory,
        total_memory=_recommended_memory,
        synchronize=torch.mps.synchronize,
    )


def _recommended_memory() -> int | None:
    """The most that Metal advises to use; older versions of PyTorch do not pass it on."""
    ask = getattr(torch.mps, "recommended_max_memory", None)
    return int(ask()) if ask else None


def _free_memory() -> int | None:
    """What Metal recommends as the most, less what PyTorch has allocated."""
    most = _recommended_memory()
    return None if most is None else max(0, most - torch.mps.current_allocated_memory())
