"""The machine: what it is, how fast it reads memory now, and how busy it is. Without torch until that is measured."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PROBE_SIDE = 2**14
"""The probe reads a square float32 matrix of this side, 1 GiB, once a pass: far more than any cache holds."""
PASSES = 5
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd", "i8mm")
GIB = 2**30


def hardware() -> dict[str, Any]:
    """Processor, the instructions that decide, cores and memory, as far as the system says."""
    facts = _processor_facts()
    found = set(facts.get("flags", facts.get("Features", "")).split())
    return {
        "processor": facts.get("model name") or platform.processor() or platform.machine(),
        "instructions": [name for name in INSTRUCTIONS if name in found],
        "cores": os.cpu_count(),
        "memory_gib": None if (size := memory_field("MemTotal")) is None else round(size / GIB, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def memory_field(name: str) -> int | None:
    """A line of Linux's /proc/meminfo in bytes, None elsewhere."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def read_bandwidth(device: torch.device | str = "cpu", side: int = PROBE_SIDE) -> float:
    """Streaming read bandwidth in bytes a second: a matrix-vector product or a sum, the best of a few passes.

    With torch's own number of threads; reading one value back waits for devices that queue their work. On some
    processors the product reads a third more slowly than memory can be read, on others the sum does.
    """
    import torch  # the doctor names the machine even where torch cannot be imported

    matrix, vector = torch.ones(side, side, device=device), torch.ones(side, device=device)
    best = 0.0
    for turn in range(2 * PASSES):
        begun = time.perf_counter()
        (matrix.sum() if turn % 2 else torch.mv(matrix, vector)[0]).item()
        best = max(best, matrix.nbytes / (time.perf_counter() - begun))
    return best


def has_room_for_probe() -> bool:
    """Whether the probe's matrix fits twice into what is free; True where nobody says."""
    free = memory_field("MemAvailable")
    return free is None or free > 8 * PROBE_SIDE**2


def load_average() -> float | None:
    """How many processes wanted to run in the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _processor_facts() -> dict[str, str]:
    """The first processor of Linux's /proc/cpuinfo; nothing elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
