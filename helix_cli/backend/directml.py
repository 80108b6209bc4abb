"""Any DirectX 12 GPU through torch-directml: the package is no longer developed, so it is used only when it works.

Its device is called `privateuseone`. A device object proves nothing, and each condition that is not met shows itself
otherwise: an ImportError beside another PyTorch than its own, an OSError where the system has no DirectX, a
RuntimeError with a bare number where there is no adapter. The package collects data; see docs/reliability.md.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType

import torch

from helix_cli.backend.backend import Backend, check_works
from helix_cli.errors import DeviceError, first_line

_PACKAGE = "torch_directml"
_TORCH = "2.4.1"
_LAST_PYTHON = (3, 12)
_INSTALL = f"Run `pip install helix-cli[directml]` in an environment of its own; it brings PyTorch {_TORCH}."
_SYSTEMS = "It needs Windows 10 or later, or Linux inside WSL 2; or use --device cpu."


def is_present() -> bool:
    """Whether the package is installed; it may still fail."""
    return importlib.util.find_spec(_PACKAGE) is not None


def open_directml(index: int | None, threads: int | None) -> Backend:
    """DirectX adapter number `index` (0 when None); `threads` is for what stays on the CPU.

    Raises:
        DeviceError: the package is not installed or cannot be loaded, or no adapter works.
    """
    device, name = _open_adapter(_load(), index or 0)
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
        raise _absent()
    try:
        return importlib.import_module(_PACKAGE)
    except (ImportError, OSError, RuntimeError) as error:
        installed = torch.__version__.split("+")[0]
        # Beside another PyTorch it may fail in any way, so that is what to say first.
        if installed != _TORCH:
            raise DeviceError(f"torch-directml needs PyTorch {_TORCH}, not {installed}.", _INSTALL) from error
        if isinstance(error, OSError):
            raise DeviceError(f"This system has no DirectX 12: {first_line(error)}.", _SYSTEMS) from error
        if isinstance(error, ImportError):
            raise DeviceError(f"torch-directml is not installed whole: {first_line(error)}.", _INSTALL) from error
        raise DeviceError(
            f"DirectX 12 does not start: {first_line(error)}.", "Update the graphics driver, or use --device cpu."
        ) from error


def _absent() -> DeviceError:
    """Why the package is not there; the extra installs without it where it has no build."""
    if sys.version_info[:2] > _LAST_PYTHON:
        python = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return DeviceError(f"torch-directml has no build for Python {python}.", "Use Python 3.11 or 3.12.")
    if sys.platform not in {"win32", "linux"}:
        return DeviceError(f"torch-directml has no build for {sys.platform}.", "Use another --device.")
    return DeviceError("torch-directml is not installed.", _INSTALL)


def _open_adapter(module: ModuleType, index: int) -> tuple[torch.device, str]:
    """An adapter that has really computed something, and its name."""
    try:
        count = int(module.device_count())
    except RuntimeError as error:
        raise DeviceError(f"DirectML finds no DirectX 12 adapter: {first_line(error)}.", _SYSTEMS) from error
    if count == 0:
        raise DeviceError("DirectML finds no DirectX 12 adapter.", _SYSTEMS)
    if index >= count:
        raise DeviceError(
            f"There is no DirectX adapter number {index}: DirectML sees {count}, counted from 0.",
            f"Use --device directml:{count - 1} or lower.",
        )
    try:
        device: torch.device = module.device(index)
        check_works(device)
        return device, str(module.device_name(index)).rstrip("\0 ")
    except RuntimeError as error:
        raise DeviceError(
            f"DirectX adapter {index} fails: {first_line(error)}.",
            "Update its driver, choose another one with --device directml:1, or use --device cpu.",
        ) from error


def _unknown() -> None:
    """DirectML has no counter of free memory."""


def _wait_for(device: torch.device) -> Callable[[], None]:
    """There is no synchronise call; copying a number back waits for all that was queued before it."""

    def wait() -> None:
        torch.zeros(1, device=device).cpu()

    return wait
