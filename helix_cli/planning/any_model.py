"""The sizes of a model of either kind: exact for the native decoder, from transformers' own modules for the others.

What is said of the others leaves out buffers and what a replaced module keeps beside its matrix, and counts experts in
the number type of the computation, in which they stay.
"""

from __future__ import annotations

import torch

from helix_cli.backend import NUMBER_TYPES
from helix_cli.model.architecture import Architecture
from helix_cli.model.formats import INT8
from helix_cli.model.implementation import AnyShape
from helix_cli.planning import sizes
from helix_cli.planning.sizes import Stored, WeightSize, Widths


def weight_size(shape: AnyShape, stored: Stored) -> WeightSize:
    """Bytes of the weights, and of what loading holds beside them."""
    if isinstance(shape, Architecture):
        return WeightSize(
            sizes.weight_bytes(shape, stored), sizes.loading_bytes(shape, stored, torch.get_num_threads())
        )
    own, computed = shape.sizes, stored.dtype.itemsize
    matrix = 1 if stored.weights == INT8 else NUMBER_TYPES[stored.weights].itemsize
    others = max(0, own.parameters - own.matrices)
    kept = others * computed + own.matrices * matrix
    # transformers loads the whole model in the type of the computation; matrices are then replaced one by one.
    return WeightSize(kept, max(0, own.parameters * computed - kept) + own.largest * computed)


def num_parameters(shape: AnyShape) -> int:
    """Numbers in the checkpoint."""
    return sizes.num_parameters(shape) if isinstance(shape, Architecture) else shape.sizes.parameters


def kv_values(shape: AnyShape) -> int:
    """Numbers that are kept of one position."""
    return sizes.kv_values(shape) if isinstance(shape, Architecture) else shape.sizes.kv_values


def widths(shape: AnyShape) -> Widths:
    """What the buffers of a step depend on."""
    if isinstance(shape, Architecture):
        return sizes.widths(shape)
    own = shape.sizes
    widest = 3 * shape.hidden + 3 * max(shape.intermediate, 2 * own.num_heads * own.head_dim)
    return Widths(shape.vocab_size, shape.context, widest, own.num_heads, own.head_dim)


def first_layers(shape: AnyShape, num_layers: int) -> tuple[Widths, int]:
    """Widths and kept numbers of a position of a model cut to its first layers."""
    if isinstance(shape, Architecture):
        cut = shape.truncated(num_layers)
        return sizes.widths(cut), sizes.kv_values(cut)
    return widths(shape), shape.sizes.kv_values * num_layers // shape.num_layers
