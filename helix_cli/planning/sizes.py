"""Bytes of a model, and of what a step of it needs, from its shape alone: pure arithmetic, nothing is read or loaded.

What is said of weights and K/V is exact, to the byte, with two exceptions: eight-bit weights take a little more where
input channels are kept in float, which only the weights themselves can tell, and oneDNN's packed ones fill its tiles.
Buffers of a step are what the largest operation holds at one time, without what a kernel allocates inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch

from helix_cli.backend import NUMBER_TYPES
from helix_cli.cache.paged import bytes_per_block
from helix_cli.model import int8_native
from helix_cli.model.architecture import Architecture
from helix_cli.model.formats import INT8
from helix_cli.model.linear import SMALL
from helix_cli.model.loader import expected_tensors
from helix_cli.model.products import NATIVE, PACKED

FLOAT: Final = 4
"""Bytes of a float32: logits, scores, scales, and the biases of this package's own kernels."""
SCORES: Final = 3
"""Copies of one text's logits that the sampling chain and the verification rule hold at one time."""


class WeightSize(NamedTuple):
    """Bytes of a model's weights, and of what loading them holds at most beside them."""

    kept: int
    loading: int = 0


@dataclass(frozen=True)
class Matrix:
    """A weight matrix [outputs, inputs], as the decoder fuses them."""

    outputs: int
    inputs: int
    has_bias: bool

    @property
    def size(self) -> int:
        """Its elements."""
        return self.outputs * self.inputs


@dataclass(frozen=True)
class Stored:
    """How a model's weights lie in memory."""

    dtype: torch.dtype
    """Of the activations, the embedding, the norms and the K/V."""
    weights: str
    """The format of the matrices, a name of model/formats.py."""
    kernel: str
    """What multiplies them: a name of model/products.py, or of an integer kernel."""


@dataclass(frozen=True)
class Widths:
    """What the buffers of a step depend on."""

    vocab_size: int
    context: int
    widest: int
    """Numbers that the hidden states of one token hold at most, at one time."""
    num_heads: int
    head_dim: int


@dataclass(frozen=True)
class Step:
    """The largest step of an engine: `tokens` fed at once, of `texts` texts with `depth` drafted tokens each."""

    tokens: int
    texts: int
    depth: int

    @property
    def rows(self) -> int:
        """Rows that have logits."""
        return min(self.tokens, self.texts * (self.depth + 1))


def num_parameters(shape: Architecture) -> int:
    """Numbers in the checkpoint."""
    return sum(math.prod(size) for size in expected_tensors(shape).values())


def weight_bytes(shape: Architecture, stored: Stored) -> int:
    """Everything that a loaded model holds but its rotary table."""
    embedding = shape.vocab_size * shape.hidden * stored.dtype.itemsize
    norms = sum(norm_bytes(size, stored.dtype) for size in _norms(shape))
    layer = sum(matrix_bytes(one, stored) for one in layer_matrices(shape))
    return embedding + norms + shape.num_layers * layer + head_bytes(shape, stored)


def loading_bytes(shape: Architecture, stored: Stored, threads: int) -> int:
    """What loading holds at most beside the finished weights.

    Each thread holds the parts of a matrix beside the whole, and one part as it was read. Eight bits are chosen matrix
    by matrix: as read, as it is multiplied by, without its outliers and divided by its scales, then rounded and packed.
    """
    matrices = [*layer_matrices(shape), Matrix(shape.vocab_size, shape.hidden, has_bias=False)]
    largest = max(matrix.size for matrix in matrices)
    if stored.weights == INT8:
        return (4 * stored.dtype.itemsize + 2) * largest
    fused = max(matrix.size for matrix in layer_matrices(shape))
    itemsize = NUMBER_TYPES[stored.weights].itemsize
    return max(largest, threads * 3 * fused // 2) * itemsize


def layer_matrices(shape: Architecture) -> list[Matrix]:
    """Query, key and value in one; output; gate and up in one; down."""
    queries, keys = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    return [
        Matrix(queries + 2 * keys, shape.hidden, shape.qkv_bias),
        Matrix(shape.hidden, queries, shape.output_bias),
        Matrix(2 * shape.intermediate, shape.hidden, shape.mlp_bias),
        Matrix(shape.hidden, shape.intermediate, shape.mlp_bias),
    ]


def matrix_bytes(matrix: Matrix, stored: Stored) -> int:
    """One matrix with its bias."""
    if stored.weights == INT8:
        return _int8_bytes(matrix, stored.kernel)
    itemsize = NUMBER_TYPES[stored.weights].itemsize
    bias = matrix.outputs * (FLOAT if stored.kernel == NATIVE else itemsize) if matrix.has_bias else 0
    copies = 2 if stored.kernel == PACKED and matrix.size < SMALL else 1
    return copies * matrix.size * itemsize + bias


def head_bytes(shape: Architecture, stored: Stored) -> int:
    """What the head adds: nothing where it is the embedding itself, in the same number type and not packed."""
    head = Matrix(shape.vocab_size, shape.hidden, has_bias=False)
    if not shape.tied or stored.weights == INT8 or NUMBER_TYPES[stored.weights] is not stored.dtype:
        return matrix_bytes(head, stored)
    return head.size * stored.dtype.itemsize if stored.kernel == PACKED else 0


def norm_bytes(size: int, dtype: torch.dtype) -> int:
    """A norm keeps its weight as it was and scaled, and one float32."""
    return 2 * size * dtype.itemsize + FLOAT


def kv_values(shape: Architecture) -> int:
    """Numbers that are kept of one position: keys and values of every layer."""
    return bytes_per_block(shape.kv_shapes, block_size=1, itemsize=1)


def widths(shape: Architecture) -> Widths:
    """The widths of a model of the Llama family."""
    queries = shape.num_heads * shape.head_dim
    keys_values = 2 * shape.num_kv_heads * shape.head_dim
    # The stream twice (a layer's input and its sum), and what the operation at hand reads and writes.
    attention = 3 * shape.hidden + 3 * queries + keys_values
    mlp = 3 * shape.hidden + 3 * shape.intermediate
    return Widths(shape.vocab_size, shape.context, max(attention, mlp), shape.num_heads, shape.head_dim)


def logits_bytes(model: Widths, dtype: torch.dtype, step: Step) -> int:
    """The logits of a step as they are computed and in float32, and the copies of one text's that a rule works on."""
    computed = step.rows * model.vocab_size * (FLOAT if dtype.itemsize == FLOAT else FLOAT + dtype.itemsize)
    return computed + SCORES * min(step.rows, step.depth + 1) * model.vocab_size * FLOAT


def draft_law_bytes(target: Widths, step: Step) -> int:
    """The distributions that a draft model's tokens were drawn from, until they are judged."""
    return step.texts * step.depth * target.vocab_size * FLOAT


def activation_bytes(model: Widths, dtype: torch.dtype, step: Step) -> int:
    """The most that the hidden states of a step hold at one time."""
    return step.tokens * model.widest * dtype.itemsize


def attention_bytes(model: Widths, dtype: torch.dtype, tokens: int, context: int, fused: bool) -> int:
    """What so many fed tokens need that see `context` positions: a mask, the table of rotations, and without a fused
    kernel the scores of every head, before and after the softmax."""
    scores = 0 if fused else 2 * tokens * context * model.num_heads * FLOAT
    positions = 1 << (max(1, context) - 1).bit_length()
    rotations = positions * model.head_dim * (1 if dtype.itemsize == FLOAT else 2) * dtype.itemsize
    return tokens * context * dtype.itemsize + scores + rotations


def _int8_bytes(matrix: Matrix, kernel: str) -> int:
    """Values, a scale for each output, the mask of kept inputs, and a bias."""
    outputs, inputs = matrix.outputs, matrix.inputs
    if kernel == int8_native.Native.name and (form := int8_native.form()) is not None:
        outputs = -(-outputs // form[1]) * form[1]
        inputs = -(-inputs // int8_native.WIDTH) * int8_native.WIDTH
    bias = matrix.outputs if matrix.has_bias else 0
    return outputs * inputs + FLOAT * (matrix.outputs + matrix.inputs + bias)


def _norms(shape: Architecture) -> Iterator[int]:
    """The sizes of every norm's weight."""
    yield shape.hidden
    for _ in range(shape.num_layers):
        yield shape.hidden
        yield shape.hidden
        if shape.qk_norm:
            yield (shape.num_heads + shape.num_kv_heads) * shape.head_dim
