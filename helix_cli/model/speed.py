"""How fast each weight format multiplies on this machine: measured once for a shape, and kept.

What is timed is the model's largest product, over copies that together are as large as the model (or large enough not
to fit a processor's cache), because weights that come from memory are what decoding waits for.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from functools import cache

import torch

from helix_cli.backend import NUMBER_TYPES, Backend
from helix_cli.model import float_native
from helix_cli.model.formats import INT8
from helix_cli.model.int8 import Int8Linear, quantise
from helix_cli.model.int8_kernels import best_kernel
from helix_cli.model.language_model import Shape
from helix_cli.model.linear import Product
from helix_cli.model.products import float_product
from helix_cli.native.compile import SOURCES
from helix_cli.storage import Storage, read_record, write_record

KIND = "measurements"
LARGEST_ELEMENTS = 1 << 22
COPIED_BYTES = 96 << 20
REPETITIONS, SAMPLES = 3, 60
ROWS = (1, 5)
SLOWEST_BYTES_S, OVERHEAD_S = 1e9, 200e-6
"""No machine that is free to compute reads weights more slowly than this, or takes longer to begin."""


class ProductSpeed:
    """Times of one row and of a verification's rows, for the products of one model."""

    def __init__(self, shape: Shape, dtype: torch.dtype, backend: Backend, storage: Storage) -> None:
        self._dtype, self._backend, self._storage = dtype, backend, storage
        self._columns = shape.hidden
        self._rows = max(1, min(2 * shape.intermediate, LARGEST_ELEMENTS // shape.hidden))
        self._model_elements = 2 * shape.num_layers * shape.intermediate * shape.hidden
        self._known: dict[str, list[float] | None] = {}

    def one_row(self, name: str) -> float | None:
        """Seconds of one product with one row: what a plain step or a draft's step waits for. None: not to be had."""
        times = self._times(name)
        return None if times is None else times[0]

    def decoding(self, name: str) -> float | None:
        """Mean of one row and of five: what a target does with and without a draft. None: not to be had."""
        times = self._times(name)
        return None if times is None else sum(times) / len(times)

    def _times(self, name: str) -> list[float] | None:
        if name not in self._known:
            self._known[name] = self._kept(name) or self._measure(name)
        return self._known[name]

    def _key(self, name: str) -> str:
        words = [self._backend.description, torch.__version__, str(self._dtype), name, kernel_version()]
        sizes = [self._rows, self._columns, self._model_elements]
        return "".join(c if c.isalnum() else "-" for c in "-".join(map(str, [*words, *sizes])))

    def _kept(self, name: str) -> list[float] | None:
        found = read_record(self._storage, KIND, self._key(name))
        sound = isinstance(found, list) and len(found) == 2 and all(isinstance(t, float) and t > 0 for t in found)
        return found if sound else None

    def _measure(self, name: str) -> list[float] | None:
        """None on a machine so busy that the times say nothing about it: what was chosen by them would be chance."""
        products = self._products(name)
        longest = OVERHEAD_S + products[0].num_bytes / SLOWEST_BYTES_S
        times = [_time(products, torch.randn(rows, self._columns).to(self._dtype)) for rows in ROWS]
        if any(time > rows * longest for time, rows in zip(times, ROWS, strict=True)):
            return None
        write_record(self._storage, KIND, self._key(name), f"{name} products of {self._rows} x {self._columns}", times)
        return times

    def _products(self, name: str) -> list[Product]:
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(self._rows, self._columns, generator=generator)
        make: Callable[[], Product]
        if name == INT8:
            rounded = quantise(weight, torch.empty(0, dtype=torch.int64))
            kernel = best_kernel()
            assert kernel is not None, "asked for only where there is one"
            make = lambda: Int8Linear(rounded, None, kernel)  # noqa: E731
        else:
            make = lambda: float_product(weight.to(NUMBER_TYPES[name], copy=True), None, self._backend)  # noqa: E731
        first = make()
        most = min(self._model_elements, COPIED_BYTES * weight.numel() // first.num_bytes)
        return [first, *(make() for _ in range(most // weight.numel() - 1))]


@cache
def kernel_version() -> str:
    """A name for this package's kernels: what was found out about others, or about none, says nothing of them."""
    sources = b"".join(path.read_bytes() for path in sorted(SOURCES.glob("*.[ch]")))
    return hashlib.blake2b(sources, digest_size=4).hexdigest() if float_native.open_float() else "none"


@torch.no_grad()
def _time(products: list[Product], x: torch.Tensor) -> float:
    """Seconds of one product: the shortest of many, which other programs on the machine have disturbed least."""
    shortest = float("inf")
    for _ in range(max(REPETITIONS, SAMPLES // len(products))):
        for product in products:
            started = time.perf_counter()
            product(x)
            shortest = min(shortest, time.perf_counter() - started)
    return shortest
