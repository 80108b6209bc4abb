"""Any DirectX 12 GPU through torch-directml: the package is no longer developed, so it is used only when it works.

Its device is called `privateuseone`. A device object, and even a device count, proves nothing; and the package fails to
import with an OSError where the system has no DirectX, with an ImportError beside another PyTorch than its own.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType

import torch

from helix_cli.backend.backend import Backend, check_works, first_line
from helix_cli.errors import DeviceError

_PACKAGE = "torch_directml"
_RELEASE = "torch-directml==0.2.5.dev240914"
_TORCH = "2.4.1"
_LAST_PYTHON = (3, 12)


def is_present() -> bool:
    """Whether the package is installed; it may still fail."""
    return importlib.util.find_spec(_PACKAGE) is not None


def open_directml(index: int | None, threads: int | None) -> Backend:
    """DirectX adapter number `index` (0 when None); `threads` is for what stays on the CPU.

    Raises:
        DeviceError: the package is not installed or cannot be loaded, or no adapter works.
    """
    module = _load()
    index = index or 0
    try:
        device: torch.device = module.device(index)
        check_works(device)
        name = str(module.device_name(index)).rstrip("\0 ")
    except (RuntimeError, IndexError, ValueError) as error:
        raise DeviceError(
            f"DirectML cannot use adapter {index}: {first_line(error)}.",
            "It needs a DirectX 12 GPU with a current driver, on Windows or WSL 2; or use --device cpu.",
        ) from error
    if threads is not None:
        torch.set_num_threads(threads)
    return Backend(
        name="directml",
        device=device,
        description=f"{name} (DirectML)",
        dtypes=(torch.float32, torch.float16),
        # bfloat16 must never reach the device: it aborts the process (microsoft/DirectML#688).
        automatic={torch.float16: torch.float16, torch.bfloat16: torch.float16},
        packed_linear=False,
        fused_attention=False,
        free_memory=_unknown,
        synchronize=_wait_for(device),
        notes=("DirectML is no longer developed; a ROCm or Intel build of PyTorch is faster where there is one.",),
    )


def _load() -> ModuleType:
    """Import the package, or say which of its conditions is not met."""
    if not is_present():
        raise DeviceError("torch-directml is not installed.", _how_to_install())
    try:
        return importlib.import_module(_PACKAGE)
    except (ImportError, OSError, RuntimeError) as error:
        installed = torch.__version__.split("+")[0]
        if installed != _TORCH:
            raise DeviceError(f"torch-directml needs PyTorch {_TORCH}, not {installed}.", _how_to_install()) from error
        raise DeviceError(
            f"torch-directml cannot be loaded: {first_line(error)}.",
            "It needs DirectX 12: Windows 10 or later, or Linux inside WSL 2; or use --device cpu.",
        ) from error


def _how_to_install() -> str:
    if sys.version_info[:2] > _LAST_PYTHON:
        return f"It has no build for Python {sys.version_info[0]}.{sys.version_info[1]}: use Python 3.11 or 3.12."
    if sys.platform not in {"win32", "linux"}:
        return f"It has no build for {sys.platform}: use another --device."
    return f"Run `pip install {_RELEASE}` in an environment of its own; it brings PyTorch {_TORCH}."


def _unknown() -> None:
    """DirectML has no counter of free memory."""


def _wait_for(device: torch.device) -> Callable[[], None]:
    """There is no synchronise call; copying a number back waits for all that was queued before it."""

    def wait() -> None:
        torch.zeros(1, device=device).cpu()

    return wait
