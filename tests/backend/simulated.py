"""A device in host memory that has exactly the operations of another one; see simulated_device.cpp.

torch names it `privateuseone`, as it does DirectML's. Anything else is refused where it is called, so that a program
that runs through needs nothing else.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Collection
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch

DEVICE = torch.device("privateuseone", 0)
NUMBER_TYPES = (torch.float32, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool)
"""What every GPU has that Helix runs on; float64 and bfloat16 are not among them."""
INDEXING = {
    "_index_put_impl_",
    "_local_scalar_dense",
    "arange.start_out",
    "argmax.out",
    "cat.out",
    "clamp.out",
    "embedding",
    "fill_.Scalar",
    "gather.out",
    "index.Tensor_out",
    "index_select",
    "index_select.out",
    "scatter.src_out",
    "scatter.value_out",
    "sort.values_stable",
    "topk.values",
    "zero_",
}
"""Operations that may meet int64: they carry indices, and do not compute with them."""
_SOURCE = Path(__file__).with_name("simulated_device.cpp")
_COMPILE_S = 300.0


class Recorder:
    """The operations that the device was asked for since `start`."""

    def start(self, kernels: Collection[str], number_types: Collection[torch.dtype] = NUMBER_TYPES) -> None:
        """From now on the device has these operations ("aten::add.out") and these number types."""
        torch.ops.simulated.start(list(kernels), list(number_types))
        torch.ops.simulated.take()

    def operations(self) -> dict[str, set[str]]:
        """Name, without "aten::", to the number types of its tensors, such as "Float,Float,Long". Forgets them."""
        found: dict[str, set[str]] = {}
        for line in torch.ops.simulated.take():
            name, _, types = line.partition(" ")
            found.setdefault(name.removeprefix("aten::"), set()).add(types)
        return found


def integer_arithmetic(operations: dict[str, set[str]]) -> set[str]:
    """Operations that computed with int64, which is slow or missing on GPUs of every maker."""
    return {name for name, types in operations.items() if name not in INDEXING and "Long" in ",".join(types).split(",")}


def mixed_floats(operations: dict[str, set[str]]) -> set[str]:
    """Operations that were given float16 and float32 at once; copying, which converts, is not recorded."""
    return {name for name, types in operations.items() if any({"Float", "Half"} <= {*one.split(",")} for one in types)}


def open_simulated(folder: Path) -> Recorder:
    """The device, compiled into `folder` if it is not there yet; skips the test where there is no compiler for it."""
    _load(folder)
    return Recorder()


@cache
def _load(folder: Path) -> None:
    compiler = shutil.which("g++")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and g++")
    made_from = f"{_SOURCE.read_text(encoding='utf-8')} {torch.__version__} {compiler}"
    library = folder / f"{hashlib.blake2b(made_from.encode(), digest_size=8).hexdigest()}.so"
    if not library.exists():
        _compile(compiler, library)
    torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
    torch._register_device_module(DEVICE.type, _device_module())  # type: ignore[no-untyped-call]


def _compile(compiler: str, library: Path) -> None:
    """Unoptimised: it takes ten seconds instead of thirty."""
    root = Path(torch.__file__).parent
    unfinished = library.with_suffix(".part")
    command = [compiler, "-std=c++17", "-O0", "-fPIC", "-shared", "-w", str(_SOURCE), "-o", str(unfinished)]
    command += [f"-I{root / 'include'}", f"-L{root / 'lib'}", "-ltorch_cpu", "-lc10"]
    command += [f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"]
    subprocess.run(command, check=True, timeout=_COMPILE_S)
    unfinished.rename(library)


def _device_module() -> ModuleType:
    """What torch asks a device's module for."""
    module = ModuleType(DEVICE.type)
    module.is_available = lambda: True  # type: ignore[attr-defined]
    module.device_count = lambda: 1  # type: ignore[attr-defined]
    module.current_device = lambda: 0  # type: ignore[attr-defined]
    module._is_in_bad_fork = lambda: False  # type: ignore[attr-defined]
    return module
