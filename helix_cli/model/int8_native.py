"""Integer products compiled on this machine, for processors on which torch's own are slow with several rows."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from helix_cli.native.compile import Function, open_function, pointer
from helix_cli.native.weight_memory import empty_weights

SOURCE = "int8_product.c"
WIDTH, OFFSET = 32, 128
_P, _N = ctypes.c_void_p, ctypes.c_long
ARGUMENTS = (_P, _N, _N, _P, _P, _N, _P, _P, _P, ctypes.c_int, _P, _P, _P)


@dataclass(frozen=True)
class _Packed:
    """Weights [out / outs, in / 32, outs, 32] as unsigned bytes, and the scales [out]."""

    weights: Tensor
    scales: Tensor


class Native:
    """See `Int8Kernel`."""

    name = "native"

    def __init__(self, function: Function, levels: int, outs: int) -> None:
        self._function, self.levels, self._outs = function, levels, outs

    def pack(self, values: Tensor, scales: Tensor) -> _Packed:
        rows, columns = values.shape
        filled = functional.pad(values, (0, -columns % WIDTH, 0, -rows % self._outs))
        # As unsigned bytes, adding 128 is the same as turning the highest bit over.
        unsigned = filled.view(torch.uint8).bitwise_xor(OFFSET)
        tiles = unsigned.view(-1, self._outs, filled.shape[1] // WIDTH, WIDTH).transpose(1, 2)
        weights = empty_weights(tuple(tiles.shape), tiles.dtype).copy_(tiles)
        return _Packed(weights, scales.float().contiguous())

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
            pointer(bias),
            pointer(added),
            product.data_ptr(),
            torch.get_num_threads(),
            place + 8 * rows,
            place,
            place + 4 * rows,
        )
        return product


def open_native() -> Native | None:
    """The kernel; None where it cannot be had."""
    function = open_function(SOURCE, "helix_int8", ARGUMENTS)
    known = None if function is None else form()
    return None if function is None or known is None else Native(function, *known)


@cache
def form() -> tuple[int, int] | None:
    """The largest value of a rounded input, and the outputs that lie side by side, as compiled for this processor."""
    tell = open_function(SOURCE, "helix_int8_form", (_P, _P))
    if tell is None:
        return None
    levels, outs = ctypes.c_int(), ctypes.c_int()
    tell(ctypes.addressof(levels), ctypes.addressof(outs))
    return levels.value, outs.value
