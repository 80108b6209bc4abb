"""Loads a checkpoint with eight-bit matrices: from the cache on disk, or by running calibration text through it.

Calibration goes layer by layer with the float weights of one layer in memory at a time. What a layer is given is what
the float model would give it, so every matrix is judged by its real input and errors do not add up in the judgement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from helix_cli.attention import KERNELS, Attend, Span
from helix_cli.cache.paged import PagedKVCache, num_blocks_for
from helix_cli.cache.table import BlockTable
from helix_cli.model.architecture import Architecture
from helix_cli.model.calibrate import fit
from helix_cli.model.decoder import Decoder, Layer
from helix_cli.model.int8 import Int8Linear, Int8Weight
from helix_cli.model.int8_kernels import Int8Kernel
from helix_cli.model.linear import Linear, Product
from helix_cli.model.loader import Loader, Matrix, loading_threads
from helix_cli.model.weight_cache import DamagedCache, WeightCache

HEAD = "head"
BLOCK_SIZE = 16

Write = Callable[[str, dict[str, Tensor]], None]
"""(part, tensors) -> kept."""


@dataclass(frozen=True)
class Int8Rounding:
    """Where eight-bit weights are kept, what multiplies them, and the token ids of text to choose them by."""

    cache: WeightCache
    kernel: Int8Kernel
    calibration: Callable[[], Sequence[int]]


def load_int8_decoder(
    loader: Loader, architecture: Architecture, rounding: Int8Rounding, tell: Callable[[str], None]
) -> Decoder:
    """A decoder of eight-bit matrices. Raises ModelError.

    `tell` hears, in a sentence, of a cache that was damaged or could not be written.
    """
    cache = rounding.cache
    if cache.present:
        try:
            return _from_cache(loader, architecture, rounding)
        except DamagedCache as error:
            tell(f"The cached eight-bit weights are made anew: {error}.")
            cache.discard()
    calibration = _Calibration(loader, architecture, rounding)
    try:
        with cache.writing() as writer:
            return calibration.decoder(writer.write)
    except OSError as error:
        tell(f"The eight-bit weights could not be kept for the next start: {error.strerror or error}.")
        return calibration.decoder(lambda part, tensors: None)


def _from_cache(loader: Loader, shape: Architecture, rounding: Int8Rounding) -> Decoder:
    def part(index: int) -> Layer | Product:
        """A layer, or behind the last one the head."""
        tensors = rounding.cache.read(_part(index))

        def build(field: str, matrix: Matrix) -> Product:
            return unpack(tensors, field, matrix.bias, rounding.kernel) or loader.in_float(field, matrix)

        return loader.layer(index, build) if index < shape.num_layers else loader.head(build)

    with loading_threads() as pool:
        *layers, head = pool.map(part, range(shape.num_layers + 1))
    return loader.assemble(tuple(layers), head)  # type: ignore[arg-type]


def pack(field: str, weight: Int8Weight | None) -> dict[str, Tensor]:
    """The tensors that stand for one matrix in the cache: none for one that stays as wide as it was."""
    if weight is None:
        return {}
    names = ("values", "scales", "kept", "columns")
    return {f"{field}.{name}": getattr(weight, name) for name in names}


def unpack(
    tensors: dict[str, Tensor], field: str, bias: Callable[[], Tensor | None], kernel: Int8Kernel
) -> Product | None:
    """The product that `pack` stood for, None for a wide one. Raises DamagedCache for tensors that do not fit."""
    if f"{field}.values" not in tensors:
        return None
    try:
        # All but the values, which are packed into memory of their own, would hold on to the whole mapped file.
        scales, kept, columns = (tensors[f"{field}.{n}"].clone() for n in ("scales", "kept", "columns"))
        return Int8Linear(Int8Weight(tensors[f"{field}.values"], scales, kept, columns), bias(), kernel)
    except (KeyError, RuntimeError) as error:
        raise DamagedCache(f"{field} cannot be used") from error


class _Calibration:
    """A forward pass of the float model that leaves an eight-bit one behind."""

    def __init__(self, loader: Loader, shape: Architecture, rounding: Int8Rounding) -> None:
        tokens = [token for token in rounding.calibration() if token < shape.vocab_size][: shape.context]
        self._loader, self._shape, self._kernel = loader, shape, rounding.kernel
        self._tokens = torch.tensor(tokens or [0])

    @torch.no_grad()
    def decoder(self, write: Write) -> Decoder:
        """Reads, judges and rounds the layers in order; `write` gets each part's tensors."""
        loader, count = self._loader, len(self._tokens)
        x = functional.embedding(self._tokens, loader.embedding)
        rotation = loader.rotary().run(0, count)
        attend = self._attention(x.dtype)
        layers = []
        for index in range(self._shape.num_layers):
            trace = _Trace(loader, self._kernel)
            layer = loader.layer(index, trace.build)
            x = layer(x, rotation, attend)
            rounded = replace(
                layer,
                qkv=trace.rounded("qkv"),
                output=trace.rounded("output"),
                gate_up=trace.rounded("gate_up"),
                down=trace.rounded("down"),
            )
            write(_part(index), trace.tensors)
            layers.append(rounded)
        trace = _Trace(loader, self._kernel)
        head = loader.head(trace.build)
        head(loader.assemble((), head).norm(x))
        product = trace.rounded(HEAD)
        write(_part(self._shape.num_layers), trace.tensors)
        return loader.assemble(tuple(layers), product)

    def _attention(self, dtype: torch.dtype) -> Attend:
        """Causal attention over the calibration text, in a small pool of its own."""
        count = len(self._tokens)
        cache = PagedKVCache(
            self._shape.kv_shapes, num_blocks_for(count, BLOCK_SIZE), BLOCK_SIZE, dtype, "cpu", prefix_reuse=False
        )
        table = BlockTable()
        cache.grow(table, count)
        kernel = KERNELS["torch_paged"](cache.layers, BLOCK_SIZE, self._loader.heads, True)
        return kernel.plan([Span(table, 0, count, 0)])


class _Trace:
    """The matrices of one layer in float, what came into each, and what became of them."""

    def __init__(self, loader: Loader, kernel: Int8Kernel) -> None:
        self._loader, self._kernel = loader, kernel
        self._inputs: dict[str, Tensor] = {}
        self._weights: dict[str, tuple[Tensor, Tensor | None]] = {}
        self.tensors: dict[str, Tensor] = {}

    def build(self, field: str, matrix: Matrix) -> Product:
        """A float product that remembers its input."""
        self._weights[field] = matrix.weight(), matrix.bias()
        return _Recording(Linear(*self._weights[field]), lambda x: self._inputs.update({field: x}))

    def rounded(self, field: str) -> Product:
        """The eight-bit product, or the float one where eight bits do not do."""
        weight, bias = self._weights.pop(field)
        found = fit(weight, self._inputs.pop(field), self._kernel)
        self.tensors |= pack(field, found)
        return Int8Linear(found, bias, self._kernel) if found else self._loader.float_product(weight, bias)


class _Recording:
    """A product that shows its input to somebody."""

    def __init__(self, inner: Linear, show: Callable[[Tensor], None]) -> None:
        self._inner, self._show = inner, show
        self.num_bytes = inner.num_bytes

    def __call__(self, x: Tensor) -> Tensor:
        self._show(x)
        return self._inner(x)

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        self._show(x)
        return self._inner.add(x, residual)

    def uniform(self, least: int) -> Product:
        return self._inner.uniform(least)


def _part(index: int) -> str:
    return f"part-{index:04}"
