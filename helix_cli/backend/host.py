"""What the operating system says about this process: its cores, its memory, the processor's features.

Linux only; elsewhere the answer is None or empty, and the caller falls back. Every function takes the root of the file
system, so that tests can show it a machine that is not theirs.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Iterator
from pathlib import Path

_UNLIMITED = 1 << 60
"""cgroup v1 writes "no limit" as a huge number of bytes."""


def usable_cores(root: Path = Path("/")) -> int | None:
    """Physical cores that this process may use: affinity, hyper-threads and a container's quota taken into account."""
    cores = {core for processor, core in _core_of_processor(root) if processor in _affinity()}
    if not cores:
        return None
    quota = _cpu_quota(root)
    return len(cores) if quota is None else max(1, min(len(cores), math.ceil(quota)))


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that can be taken without swapping, at most what the control group still allows."""
    limits = [room for room in (_memory_field(root, "MemAvailable"), *_memory_left_in_groups(root)) if room is not None]
    return max(0, min(limits)) if limits else None


def total_memory(root: Path = Path("/")) -> int | None:
    """Bytes of memory that this process could ever have: the machine's, or its control group's if that is less."""
    limits = [size for size in (_memory_field(root, "MemTotal"), *_memory_limits(root)) if size is not None]
    return min(limits, default=None)


def give_back_freed_memory() -> None:
    """Returns memory that was freed, but that the C library has kept for later, to the system.

    Loading frees as much again as a model weighs, tensor by tensor and on several threads, each with a store of its
    own: 600 MB stayed with the process after a model of 1 GB in eight bits.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return  # another C library than GNU's


def processor_name(root: Path = Path("/")) -> str | None:
    """The model name of the processor."""
    return next((entry["model name"] for entry in _processors(root) if "model name" in entry), None)


def processor_flags(root: Path = Path("/")) -> frozenset[str]:
    """Instruction-set extensions, as the kernel names them ("avx512_bf16", "bf16")."""
    entry = next(iter(_processors(root)), {})
    return frozenset((entry.get("flags") or entry.get("Features") or "").split())


def _affinity() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _core_of_processor(root: Path) -> Iterator[tuple[int, tuple[str, str]]]:
    """Pairs of a logical processor and its core; where no core is named (ARM), each processor is one."""
    for entry in _processors(root):
        number = entry.get("processor", "")
        if number.isdigit():
            yield int(number), (entry.get("physical id", ""), entry.get("core id", number))


def _processors(root: Path) -> Iterator[dict[str, str]]:
    for paragraph in _read(root / "proc/cpuinfo").split("\n\n"):
        fields = (line.partition(":") for line in paragraph.splitlines())
        entry = {name.strip(): value.strip() for name, colon, value in fields if colon}
        if entry:
            yield entry


def _memory_field(root: Path, name: str) -> int | None:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _memory_limits(root: Path) -> Iterator[int]:
    for group in _groups(root, "memory"):
        limit = _group_limit(group)
        if limit is not None:
            yield limit


def _group_limit(group: Path) -> int | None:
    limit = _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")
    return limit if limit is not None and limit < _UNLIMITED else None


def _memory_left_in_groups(root: Path) -> Iterator[int]:
    for group in _groups(root, "memory"):
        limit = _group_limit(group)
        used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes")
        if limit is not None and used is not None:
            yield limit - used + _reclaimable(group)


def _reclaimable(group: Path) -> int:
    """File pages that the group is charged for and the kernel would drop first."""
    counts = dict(line.split() for line in _read(group / "memory.stat").splitlines())
    return int(counts.get("total_inactive_file", counts.get("inactive_file", 0)))


def _cpu_quota(root: Path) -> float | None:
    """Processors' worth of time per period that the tightest control group grants."""
    quotas = []
    for group in _groups(root, "cpu"):
        quota, _, period = _read(group / "cpu.max").strip().partition(" ")
        quota = quota or _read(group / "cpu.cfs_quota_us").strip()
        period = period or _read(group / "cpu.cfs_period_us").strip()
        if quota.isdigit() and period.isdigit():
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The control groups of this process that `controller` acts on, from its own up to the root (versions 1 and 2)."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = mount / controllers if controllers else mount
        own = top / path.lstrip("/")
        yield own
        yield from (parent for parent in own.parents if parent.is_relative_to(top))


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
