"""Tiny models as a GPU runs them: on one, where there is one, and elsewhere interpreted, with recording simulated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from torch import Tensor

from helix_cli.backend import open_backend
from helix_cli.model.architecture import read_architecture
from helix_cli.model.decoder import Decoder
from helix_cli.model.loader import load_decoder
from tests.harness import SMALL, disturb
from tests.tiny import tiny_checkpoint


def rerun(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Recording where there are no graphs: the function runs again, into the same result."""
    result = run()
    return lambda: result.copy_(run())


@cache
def on_device(role: str = "target", dtype: torch.dtype = torch.float32, **config: Any) -> Decoder:
    """The tiny target of the harness, or its draft, with the Triton kernel and recorded passes."""
    has_gpu = torch.cuda.is_available()
    backend = open_backend("cuda" if has_gpu else "cpu", threads=1)
    backend = replace(backend, packed_linear=False, mixed_products=False)
    path = tiny_checkpoint(Path(mkdtemp()), dtype=dtype, **(SMALL | config))
    model = load_decoder(path, read_architecture(path), backend, dtype)
    if role == "draft":
        disturb(model)
    return model if has_gpu else replace(model, kernel="triton_paged", capture=rerun)


def plain(model: Decoder) -> Decoder:
    """The same model by torch alone, pass by pass."""
    return replace(model, kernel="torch_paged", capture=None)
