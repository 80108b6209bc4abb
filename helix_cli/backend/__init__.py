"""Devices: `open_backend` finds one that works and says what it can do.

To add one, write a module with an opener and name it in `BACKENDS`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace

from helix_cli.backend import cpu, cuda, directml, mps
from helix_cli.backend.backend import NUMBER_TYPES, Backend
from helix_cli.backend.graphs import Capture
from helix_cli.errors import DeviceError

__all__ = ["BACKENDS", "NUMBER_TYPES", "Backend", "Capture", "is_present", "open_backend"]

Opener = Callable[[int | None, int | None], Backend]
"""(device index, CPU threads) -> Backend; raises DeviceError with the reason."""

BACKENDS: Mapping[str, Opener] = {
    "cpu": cpu.open_cpu,
    "cuda": cuda.open_cuda,
    "mps": mps.open_mps,
    "directml": directml.open_directml,
}

_AUTOMATIC: Mapping[str, Callable[[], bool]] = {
    "cuda": cuda.is_present,
    "mps": mps.is_present,
    "directml": directml.is_present,
}
"""What "auto" tries before the CPU, in this order, if it is there."""


def open_backend(name: str, threads: int | None = None) -> Backend:
    """Open the device called `name`: "auto", "cpu", "cuda", "cuda:1", "mps", "directml", "directml:1".

    `threads` is the number of CPU threads, None for the device's default. A device is returned only after it has
    allocated, added and copied back.

    Raises:
        DeviceError: there is no such device, or it does not work here; the message says why.
    """
    if threads is not None and threads < 1:
        raise DeviceError(f"{threads} is not a number of CPU threads.", "Give 1 or more, or leave it out.")
    if name == "auto":
        return _open_best(threads)
    kind, colon, number = name.partition(":")
    if kind not in BACKENDS or (colon and not number.isdecimal()):
        near = difflib.get_close_matches(kind, BACKENDS, n=1, cutoff=0.7)
        hint = f"Did you mean '{near[0]}'? " if near and near[0] != kind else ""
        raise DeviceError(f"There is no device '{name}'.", f"{hint}Use auto, {', '.join(BACKENDS)} or cuda:1.")
    return BACKENDS[kind](int(number) if colon else None, threads)


def is_present(kind: str) -> bool:
    """Whether "auto" would try this kind of device; it may still fail."""
    return kind not in _AUTOMATIC or _AUTOMATIC[kind]()


def _open_best(threads: int | None) -> Backend:
    """The first device that is there and works; one that is there and fails is mentioned, not hidden."""
    notes: list[str] = []
    for name, is_present in _AUTOMATIC.items():
        if not is_present():
            continue
        try:
            backend = BACKENDS[name](None, threads)
            break
        except DeviceError as error:
            notes.append(error.message)
    else:
        backend = BACKENDS["cpu"](None, threads)
    return replace(backend, notes=(*notes, *backend.notes))
