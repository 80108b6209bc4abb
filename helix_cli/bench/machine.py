"""The machine while a benchmark ran: its memory's speed, how busy it was, and the most memory that was taken."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import torch

from helix_cli.bench.memory import peak_memory
from helix_cli.bench.schema import Condition
from helix_cli.machine import has_room_for_probe, load_average, read_bandwidth


def condition(threads: int) -> dict[str, Any]:
    """How the machine is doing at this moment: its read bandwidth with so many threads, and how busy it has been."""
    torch.set_num_threads(threads)
    return {"load_average": load_average(), "read_bandwidth_gb_s": read_bandwidth() / 1e9}


def bench_condition(device: torch.device, probe: bool, peaks: Iterable[int | None]) -> Condition:
    """The machine at the end of a benchmark, whose runs had these peaks; the probe's own matrix is no part of them."""
    peak = max((one for one in (peak_memory(), *peaks) if one is not None), default=None)
    bandwidth = None
    if probe and has_room_for_probe():
        with suppress(
            RuntimeError, MemoryError
        ):  # No room on the device: then it is not known, and what was measured is.
            bandwidth = read_bandwidth(device)
    return Condition(load_average=load_average(), read_bandwidth=bandwidth, peak_memory=peak)
