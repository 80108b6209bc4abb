"""Compiles every Triton kernel for one GPU architecture, for which no GPU is needed:

    python -m tests.triton_compiling cuda 80 32

In a process of its own, because Triton decides at its import whether it compiles or interprets.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from helix_cli.attention import triton_kernels as attention
from helix_cli.model import triton_products as products

HALF, SINGLE, WHOLE, BYTE = "*bf16", "*fp32", "*i32", "*i8"
INNER = attention.inner_type(torch.bfloat16)
DIM = {"HEAD_DIM": 80, "PADDED_DIM": 128}
TILES = {"qkv": HALF, "pool": HALF, "tiles": WHOLE, "tables": WHOLE, "qkv_stride": "i32", "num_slots": "i32"}
PARTS = {"out": HALF, "parts": SINGLE, "marks": SINGLE, "marks_stride": "i32"}
NUMBERS = {"window": "i32", "scale": "fp32", "cap": "fp32"}
KERNELS: list[tuple[Any, dict[str, str], dict[str, Any]]] = [
    (
        attention.write_kernel,
        TILES,
        {"QUERY_WIDTH": 640, "KV_HEADS": 2, "BLOCK_SIZE": 16, "TOKENS": 4, **DIM},
    ),
    (
        attention.attend_kernel,
        TILES | PARTS | NUMBERS,
        {"NUM_HEADS": 8, "KV_HEADS": 2, "BLOCK_SIZE": 16, "ROWS": 16, "KEYS": 64, "SPLITS": 4, "CAPPED": True, **DIM}
        | {"INNER": INNER},
    ),
    (attention.join_kernel, PARTS, {"SPLITS": 4, **DIM}),
    (
        products.product_kernel,
        {"x": HALF, "values": BYTE, "scales": SINGLE, "bias": HALF, "added": HALF, "out": HALF}
        | dict.fromkeys(("num_rows", "num_outputs", "num_inputs", "x_stride", "added_stride"), "i32"),
        {"BIASED": True, "ADDS": True, "ROWS": 16, "OUTPUTS": 16, "INPUTS": 128, "INNER": INNER},
    ),
]


def compile_kernel(kernel: Any, types: dict[str, str], constants: dict[str, Any], target: GPUTarget) -> int:
    """Bytes of shared memory that the compiled kernel asks for."""
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else types[name] for name in names}
    values = {(names.index(name),): value for name, value in constants.items()}
    compiled = triton.compile(ASTSource(kernel, signature, values), target=target)
    return int(compiled.metadata.shared)


if __name__ == "__main__":
    backend, arch, warp = sys.argv[1:]
    card = GPUTarget(backend, int(arch) if arch.isdecimal() else arch, int(warp))
    for one, types, constants in KERNELS:
        print(one.__name__, compile_kernel(one, types, constants, card))
