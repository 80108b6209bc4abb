"""How much memory this process has had resident. Standard library only."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

PROCESS = Path("/proc/self")
RESET_PEAK = "5"
"""Written to clear_refs it makes the peak start again from what is resident now; see proc(5)."""


def restart_peak(process: Path = PROCESS) -> None:
    """Forgets the peak so far, where the system can."""
    with suppress(OSError):
        (process / "clear_refs").write_text(RESET_PEAK)


def peak_since_restart(process: Path = PROCESS) -> int | None:
    """The most bytes resident since `restart_peak`; None where the system does not tell or could not forget."""
    try:
        lines = (process / "status").read_text().splitlines()
        if not (process / "clear_refs").exists():
            return None
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def peak_memory() -> int | None:
    """The most bytes resident since the process began or `restart_peak`; None where there is no `getrusage`."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
