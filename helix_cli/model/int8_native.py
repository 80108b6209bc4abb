"""Integer products compiled on this machine, for processors on which torch's own are slow with several rows.

The source is `int8_native.c`; it is compiled once with the system's C compiler for the processor at hand, and kept. It
runs on the threads of torch's own OpenMP, so that there is one pool of them. Without a compiler, or without that
library, there is no such kernel, and torch's own products are used.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from helix_cli.backend import host
from helix_cli.storage import Storage

KIND = "kernels"
SOURCE = Path(__file__).parent / "int8_native.c"
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fopenmp", "-fPIC")
LIBRARY = "int8.so"
WIDTH, PAIR, OFFSET = 32, 2, 128
COMPILE_S = 60.0


@dataclass(frozen=True)
class _Packed:
    """Weights [out / 2, in / 32, 2, 32] as unsigned bytes, and the scales [out]."""

    weights: Tensor
    scales: Tensor


class Native:
    """See `Int8Kernel`."""

    name = "native"
    levels = 63

    def __init__(self, function: Callable[..., None]) -> None:
        self._function = function

    def pack(self, values: Tensor, scales: Tensor) -> _Packed:
        rows, columns = values.shape
        filled = functional.pad(values, (0, -columns % WIDTH, 0, -rows % PAIR))
        # As unsigned bytes, adding 128 is the same as turning the highest bit over.
        unsigned = filled.view(torch.uint8).bitwise_xor(OFFSET)
        tiles = unsigned.view(len(filled) // PAIR, PAIR, -1, WIDTH).transpose(1, 2).contiguous()
        return _Packed(tiles, scales.float().contiguous())

    def multiply(self, x: Tensor, packed: _Packed, bias: Tensor | None, added: Tensor | None) -> Tensor:
        x, added = x.contiguous(), None if added is None else added.contiguous()
        rows, columns = x.shape
        outputs, padded = len(packed.scales), packed.weights.shape[1] * WIDTH
        product = torch.empty(rows, outputs)
        room = torch.empty(rows * (padded + 8), dtype=torch.int8)
        place = room.data_ptr()
        self._function(
            x.data_ptr(),
            rows,
            columns,
            packed.weights.data_ptr(),
            packed.scales.data_ptr(),
            outputs,
            _pointer(bias),
            _pointer(added),
            product.data_ptr(),
            torch.get_num_threads(),
            place + 8 * rows,
            place,
            place + 4 * rows,
        )
        return product


def open_native() -> Native | None:
    """The kernel, compiled now if it is not kept from an earlier run; None where that cannot be done."""
    if sys.platform != "linux" or not _share_openmp():
        return None
    try:
        library = _compiled(Storage())
        return None if library is None else Native(_function(library))
    except (OSError, AttributeError, subprocess.SubprocessError):
        return None


def _pointer(tensor: Tensor | None) -> int | None:
    if tensor is None:
        return None
    assert tensor.is_contiguous() and tensor.dtype == torch.float32
    return tensor.data_ptr()


def _share_openmp() -> bool:
    """Lets the kernel find the OpenMP library that torch has loaded; a second one would bring a second pool."""
    for path in (Path(torch.__file__).parent / "lib").glob("libgomp*"):
        try:
            ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
            return True
        except OSError:
            continue
    return False


def _compiled(storage: Storage) -> Path | None:
    """The shared library, from the cache or from the compiler."""
    compiler = next(
        (path for name in (os.environ.get("CC"), "cc", "gcc") if name and (path := shutil.which(name))), None
    )
    if compiler is None:
        return None
    processor = [host.processor_name() or "", *sorted(host.processor_flags())]
    made_from = [SOURCE.read_text(encoding="utf-8"), *FLAGS, compiler, str(os.stat(compiler).st_mtime_ns), *processor]
    key = hashlib.blake2b("\n".join(made_from).encode(), digest_size=16).hexdigest()
    found = storage.find(KIND, key)
    if found is None:
        with storage.write(KIND, key, f"{SOURCE.name}, {compiler}") as folder:
            _compile(compiler, folder)
        found = storage.find(KIND, key)
    return None if found is None else found / LIBRARY


def _compile(compiler: str, folder: Path) -> None:
    """Compiles in two steps: linked with -fopenmp, the library would bring the compiler's own OpenMP."""
    compiled = folder / "int8.o"
    steps = ([*FLAGS, "-c", str(SOURCE), "-o", str(compiled)], ["-shared", "-o", str(folder / LIBRARY), str(compiled)])
    for arguments in steps:
        subprocess.run([compiler, *arguments], check=True, capture_output=True, timeout=COMPILE_S)
    compiled.unlink()


def _function(library: Path) -> Callable[..., None]:
    function: Any = ctypes.CDLL(str(library)).helix_int8
    pointer, size = ctypes.c_void_p, ctypes.c_long
    function.argtypes = [pointer, size, size, pointer, pointer, size, *[pointer] * 3, ctypes.c_int, *[pointer] * 3]
    function.restype = None
    called: Callable[..., None] = function
    return called
