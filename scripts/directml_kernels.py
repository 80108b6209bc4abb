"""Writes which operations torch-directml has kernels for, read from the installed wheel; no GPU is needed.

Usage: directml_kernels.py [FILE], with tests/backend/directml_kernels.txt as the file. Everywhere but in WSL the wheel
loads only with its own stubs of DirectX: set LD_LIBRARY_PATH to the folder of the package.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import torch

FILE = Path(__file__).parent.parent / "tests" / "backend" / "directml_kernels.txt"


def kernels() -> list[str]:
    """The names of all of torch's own operations with a kernel of the plugin, such as "aten::add.out"."""
    importlib.import_module("torch_directml")
    registered: list[str] = torch._C._dispatch_get_registrations_for_dispatch_key("PrivateUse1")
    return sorted(name for name in registered if name.startswith("aten::"))


if __name__ == "__main__":
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    file.write_text("".join(f"{name}\n" for name in kernels()), encoding="utf-8")
