"""`python -m helix_cli.doctor.measures DEVICE ...`: compiled kernels, threads and memory bandwidth, as JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch

from helix_cli.attention.compiled import open_attention
from helix_cli.backend import host, open_backend
from helix_cli.errors import DeviceError
from helix_cli.machine import has_room_for_probe, read_bandwidth
from helix_cli.model.float_native import open_float
from helix_cli.model.int8_kernels import best_kernel, open_kernel
from helix_cli.native.compile import find_compiler
from helix_cli.native.pointwise import open_pointwise

KERNELS: Final[Mapping[str, Callable[[], object]]] = {
    "float products": open_float,
    "eight-bit products": lambda: open_kernel("native"),
    "attention": open_attention,
    "norm, gate and rotation": open_pointwise,
}
"""What is compiled on the user's machine."""


def measure(devices: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What can be said of the CPU, then the read bandwidth of each device."""
    open_backend("cpu")
    yield {"threads": torch.get_num_threads(), "cores": host.usable_cores(), "compiler": find_compiler()}
    yield {"trying": "the compiled kernels"}
    yield {"kernels": {name: find() is not None for name, find in KERNELS.items()}}
    eight = best_kernel()
    yield {"int8": None if eight is None else eight.name}
    bandwidth: dict[str, float] = {}
    for name in devices:
        yield {"trying": f"the memory of {name}"}
        try:
            if has_room_for_probe():
                bandwidth[name] = read_bandwidth(open_backend(name).device)
        except (DeviceError, RuntimeError, MemoryError):
            continue  # No room, or a device that has gone: then its bandwidth is not known.
    yield {"bandwidth": bandwidth}


def main() -> None:
    """Writes what is found as it is found."""
    for line in measure(sys.argv[1:]):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
