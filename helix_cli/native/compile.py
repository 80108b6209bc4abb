"""C sources of this package, compiled on the user's machine for its own processor.

A source is compiled once with the system's C compiler, and kept. It runs on the threads of torch's own OpenMP, so that
there is one pool of them. Without a compiler, or without that library, there is no such kernel, and torch's own
products are used.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helix_cli.backend import host
from helix_cli.storage import Storage

KIND = "kernels"
SOURCES = Path(__file__).parent
# Nothing is fused but what the sources fuse: a sum must be the same wherever the compiler has put it.
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fopenmp", "-fPIC")
LIBRARY = "kernel.so"
COMPILE_S = 60.0

Function = Callable[..., None]


def open_function(source: str, name: str, arguments: Sequence[Any]) -> Function | None:
    """A C function of one of the sources of this folder, compiled now if it is not kept from an earlier run.

    None where that cannot be done.
    """
    if sys.platform != "linux" or not _share_openmp():
        return None
    try:
        library = _compiled(SOURCES / source, Storage())
        function: Any = None if library is None else getattr(ctypes.CDLL(str(library)), name)
    except (OSError, AttributeError, subprocess.SubprocessError):
        return None
    if function is not None:
        function.argtypes, function.restype = list(arguments), None
    found: Function | None = function
    return found


def pointer(tensor: Tensor | None) -> int | None:
    """Where a contiguous float32 tensor lies in memory."""
    if tensor is None:
        return None
    assert tensor.is_contiguous() and tensor.dtype == torch.float32
    return tensor.data_ptr()


@cache
def _share_openmp() -> bool:
    """Lets a kernel find the OpenMP library that torch has loaded; a second one would bring a second pool."""
    for path in (Path(torch.__file__).parent / "lib").glob("libgomp*"):
        try:
            ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
            return True
        except OSError:
            continue
    return False


def find_compiler() -> str | None:
    """The C compiler: $CC, or the system's."""
    return next((path for name in (os.environ.get("CC"), "cc", "gcc") if name and (path := shutil.which(name))), None)


def _compiled(source: Path, storage: Storage) -> Path | None:
    """The shared library, from the cache or from the compiler."""
    compiler = find_compiler()
    if compiler is None:
        return None
    processor = [host.processor_name() or "", *sorted(host.processor_flags())]
    texts = [path.read_text(encoding="utf-8") for path in (source, *sorted(SOURCES.glob("*.h")))]
    made_from = [*texts, *FLAGS, compiler, str(os.stat(compiler).st_mtime_ns), *processor]
    key = hashlib.blake2b("\n".join(made_from).encode(), digest_size=16).hexdigest()
    found = storage.find(KIND, key)
    if found is None:
        with storage.write(KIND, key, f"{source.name}, {compiler}") as folder:
            _compile(compiler, source, folder)
        found = storage.find(KIND, key)
    return None if found is None else found / LIBRARY


def _compile(compiler: str, source: Path, folder: Path) -> None:
    """Compiles in two steps: linked with -fopenmp, the library would bring the compiler's own OpenMP."""
    compiled = folder / "kernel.o"
    steps = ([*FLAGS, "-c", str(source), "-o", str(compiled)], ["-shared", "-o", str(folder / LIBRARY), str(compiled)])
    for arguments in steps:
        subprocess.run([compiler, *arguments], check=True, capture_output=True, timeout=COMPILE_S)
    compiled.unlink()
