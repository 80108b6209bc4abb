"""The operations that devices have kernels for, as torch names them ("aten::add.out")."""

from __future__ import annotations

import re
from pathlib import Path

import torch

DIRECTML = Path(__file__).with_name("directml_kernels.txt")
_FUNCTIONS = Path(torch.__file__).parents[1] / "torchgen" / "packaged" / "ATen" / "native" / "native_functions.yaml"


def directml_kernels() -> list[str]:
    """Those that the torch-directml wheel registers; scripts/directml_kernels.py reads them from it."""
    return DIRECTML.read_text(encoding="utf-8").split()


def mps_kernels() -> list[str]:
    """Those that the installed torch declares for Metal, in the file that its own sources are generated from."""
    found: list[str] = []
    name = ""
    for line in _FUNCTIONS.read_text(encoding="utf-8").splitlines():
        if line.startswith("- func: "):
            name = "aten::" + line.removeprefix("- func: ").partition("(")[0]
        elif re.match(r"\s+[\w, ]*\bMPS\b[\w, ]*:", line):
            found.append(name)
    return found
