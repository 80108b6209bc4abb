"""`python -m helix_cli.backend.probe NAME`: tries one device, for a parent that must survive whatever the device does.

It writes a JSON object a line: {"trying": what} before anything that may end the process, then what came of it. A
number type that a device does not have may abort the process, so only those that the backend names are tried.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor

from helix_cli.backend import BACKENDS, is_present, open_backend
from helix_cli.backend.backend import Backend
from helix_cli.errors import DeviceError, first_line

TOLERANCE: Final = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 0.1}
"""Largest difference from the same operations in float32 on the CPU, for values around 1."""
SIDE: Final = 24


def look_at(name: str) -> Iterator[dict[str, Any]]:
    """What there is to say of one device."""
    yield {"trying": "the device"}
    yield {"present": is_present(name.partition(":")[0])}
    try:
        backend = open_backend(name)
    except DeviceError as error:
        yield {"refused": error.message, "hint": error.hint}
        return
    yield {"trying": "a matrix product"}
    wrong = wrong_sums(backend.device)
    if wrong:
        yield {"refused": f"{backend.description} adds wrongly: {wrong} of {SIDE**2} sums.", "hint": "Do not use it."}
        return
    yield {"opened": backend.description, "free": backend.free_memory(), "total": backend.total_memory()}
    for dtype in backend.dtypes:
        name = str(dtype).removeprefix("torch.")
        yield {"trying": name}
        yield {"dtype": name, "problem": type_problem(backend, dtype)}


def wrong_sums(device: torch.device, seed: int = 0) -> int:
    """How many sums of a product of whole numbers are wrong: every device computes them exactly, or wrongly."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randint(-8, 9, (SIDE, SIDE), generator=generator).float() for _ in range(2))
    found = torch.mm(left.to(device), right.to(device)).cpu()
    wanted = (left.long().unsqueeze(2) * right.long().unsqueeze(0)).sum(1).float()
    return int((found != wanted).sum())


def type_problem(backend: Backend, dtype: torch.dtype) -> str | None:
    """What goes wrong in a number type with the operations that a step is made of; None where nothing does."""
    generator = torch.Generator().manual_seed(1)
    x, weight = torch.randn(5, SIDE, generator=generator), torch.randn(SIDE, SIDE, generator=generator) / SIDE**0.5
    try:
        found = _operations(x.to(dtype).to(backend.device), weight.to(dtype).to(backend.device)).float().cpu()
    except (RuntimeError, TypeError) as error:
        return first_line(error)
    wanted = _operations(x.to(dtype).float(), weight.to(dtype).float())
    difference = float((found - wanted).abs().max())
    return None if difference <= TOLERANCE[dtype] else f"results differ by {difference:.2g}"


@torch.no_grad()
def _operations(x: Tensor, weight: Tensor) -> Tensor:
    """Product, softmax, selection, mask and concatenation, as in a layer."""
    scores = torch.softmax(x @ weight, -1)
    picked = scores.index_select(0, torch.tensor([4, 0, 2], device=x.device))
    masked = torch.where(picked > picked.mean(), picked, torch.zeros_like(picked))
    return torch.cat([scores, masked, torch.nn.functional.silu(x)])


def main() -> None:
    """Writes what is found as it is found."""
    for line in look_at(sys.argv[1]):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    assert sys.argv[1].partition(":")[0] in BACKENDS
    main()
