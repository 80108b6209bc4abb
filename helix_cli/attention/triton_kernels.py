"""Paged attention as Triton kernels: writing K/V, attending by tiles, and joining what a split context gave.

A tile is a few tokens of one sequence, described by four int32: the row of the batch where it begins, how many tokens
it has, the position of the first, and where in `tables` the sequence's blocks begin. A decode step, a verification and
a prefill chunk differ in nothing but these numbers. A tile of no tokens writes nothing and reads nothing.

The query heads that share K/V are rows of one product, token by token, so K/V are read once a tile. Softmax is taken
online in float32 and base 2 (Milakov and Gimelshein, arXiv 1805.02867; Dao et al., arXiv 2205.14135). A long context is
cut into splits that are attended to side by side and joined by their largest scores and sums (flash-decoding).

Only `triton_paged.py` imports this file, and only where Triton is installed.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
NONE = tl.constexpr(float("-inf"))


@triton.jit
def _slots(tables, table, positions, wanted, BLOCK_SIZE: tl.constexpr):
    """Slots (int64) of a sequence's positions; pools may hold more than 2^31 numbers."""
    block = tl.load(tables + table + positions // BLOCK_SIZE, mask=wanted, other=0)
    return block.to(tl.int64) * BLOCK_SIZE + positions % BLOCK_SIZE


@triton.jit(do_not_specialize=["num_slots"])
def write_kernel(
    qkv,  # [T, ...] rows of `qkv_stride` elements: queries, keys, values
    pool,  # [2, KV_HEADS, num_slots, HEAD_DIM]
    tiles,
    tables,
    qkv_stride,
    num_slots,
    QUERY_WIDTH: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """Copies the keys and values of a tile's tokens into their slots: one program a tile and K/V head."""
    tile, head = tl.program_id(0), tl.program_id(1)
    row, count = tl.load(tiles + tile * 4), tl.load(tiles + tile * 4 + 1)
    first, table = tl.load(tiles + tile * 4 + 2), tl.load(tiles + tile * 4 + 3)
    token, dim = tl.arange(0, TOKENS), tl.arange(0, PADDED_DIM)
    slots = _slots(tables, table, first + token, token < count, BLOCK_SIZE)
    source = (row + token).to(tl.int64)[:, None] * qkv_stride + QUERY_WIDTH + head * HEAD_DIM + dim[None, :]
    target = (tl.cast(num_slots, tl.int64) * head + slots)[:, None] * HEAD_DIM + dim[None, :]
    mask = (token < count)[:, None] & (dim < HEAD_DIM)[None, :]
    values = pool + tl.cast(num_slots, tl.int64) * (KV_HEADS * HEAD_DIM)
    tl.store(pool + target, tl.load(qkv + source, mask=mask), mask=mask)
    tl.store(values + target, tl.load(qkv + source + KV_HEADS * HEAD_DIM, mask=mask), mask=mask)


@triton.jit(do_not_specialize=["num_slots", "window", "marks_stride"])
def attend_kernel(
    qkv,
    pool,
    tiles,
    tables,
    out,  # [T, NUM_HEADS * HEAD_DIM]; written where SPLITS is 1, and else:
    parts,  # float32 [T, NUM_HEADS, SPLITS, HEAD_DIM], sums of values not divided yet
    marks,  # float32 [2, T, NUM_HEADS, SPLITS], largest score (base 2) and sum of weights
    marks_stride,  # elements of one half of `marks`
    qkv_stride,
    num_slots,
    window,  # a token sees so many positions, its own included
    scale,
    cap,  # scores are bent to cap * tanh(score / cap), if CAPPED
    NUM_HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    ROWS: tl.constexpr,  # of queries: tokens times heads of a group, rounded up
    KEYS: tl.constexpr,  # looked at in one turn
    INNER: tl.constexpr,  # number type of what is multiplied
    SPLITS: tl.constexpr,
    CAPPED: tl.constexpr,
):
    """Attention of one tile's tokens, in one group of heads, over one split of what they see."""
    tile, head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row, count = tl.load(tiles + tile * 4), tl.load(tiles + tile * 4 + 1)
    first, table = tl.load(tiles + tile * 4 + 2), tl.load(tiles + tile * 4 + 3)
    GROUP: tl.constexpr = NUM_HEADS // KV_HEADS
    token, member = tl.arange(0, ROWS) // GROUP, tl.arange(0, ROWS) % GROUP
    dim = tl.arange(0, PADDED_DIM)
    is_token, is_dim = token < count, dim < HEAD_DIM
    position = first + token
    query_head = head * GROUP + member
    batch_row = (row + token).to(tl.int64)
    queries = tl.load(
        qkv + batch_row[:, None] * qkv_stride + query_head[:, None] * HEAD_DIM + dim[None, :],
        mask=is_token[:, None] & is_dim[None, :],
        other=0.0,
    ).to(INNER)

    low = tl.maximum(first - window + 1, 0)
    stop = tl.where(count > 0, first + count, low)
    share = tl.cdiv(tl.cdiv(stop - low, SPLITS), KEYS) * KEYS
    begin = low + split * share
    end = tl.minimum(begin + share, stop)
    head_keys = pool + tl.cast(num_slots, tl.int64) * head * HEAD_DIM
    head_values = head_keys + tl.cast(num_slots, tl.int64) * (KV_HEADS * HEAD_DIM)

    top = tl.full([ROWS], NONE, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, PADDED_DIM], tl.float32)
    for start in range(begin, end, KEYS):
        key = start + tl.arange(0, KEYS)
        is_key = key < end
        places = _slots(tables, table, key, is_key, BLOCK_SIZE)[:, None] * HEAD_DIM + dim[None, :]
        mask = is_key[:, None] & is_dim[None, :]
        keys = tl.load(head_keys + places, mask=mask, other=0.0).to(INNER)
        values = tl.load(head_values + places, mask=mask, other=0.0).to(INNER)
        # "ieee": float32 is multiplied as float32, not as TF32.
        scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * scale
        if CAPPED:
            scores = cap * (2.0 * tl.sigmoid(2.0 * scores / cap) - 1.0)
        behind = position[:, None] - key[None, :]
        seen = is_token[:, None] & is_key[None, :] & (behind >= 0) & (behind < window)
        scores = tl.where(seen, scores * LOG2_E, NONE)
        new_top = tl.maximum(top, tl.max(scores, 1))
        # A row that has seen nothing yet has no largest score, and -inf - -inf is no number.
        base = tl.where(new_top == NONE, 0.0, new_top)
        weights = tl.exp2(scores - base[:, None])
        kept = tl.exp2(top - base)
        total = total * kept + tl.sum(weights, 1)
        mixed = mixed * kept[:, None] + tl.dot(weights.to(INNER), values, input_precision="ieee")
        top = new_top

    place = batch_row * NUM_HEADS + query_head
    mask = is_token[:, None] & is_dim[None, :]
    if SPLITS == 1:
        answer = mixed / tl.where(total > 0.0, total, 1.0)[:, None]
        tl.store(out + place[:, None] * HEAD_DIM + dim[None, :], answer.to(out.dtype.element_ty), mask=mask)
    else:
        mark = place * SPLITS + split
        tl.store(marks + mark, top, mask=is_token)
        tl.store(marks + marks_stride + mark, total, mask=is_token)
        tl.store(parts + mark[:, None] * HEAD_DIM + dim[None, :], mixed, mask=mask)


@triton.jit(do_not_specialize=["marks_stride"])
def join_kernel(
    parts,
    marks,
    out,
    marks_stride,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """Joins the splits of one query head of one token: one program each."""
    place = tl.program_id(0).to(tl.int64)
    split, dim = tl.arange(0, SPLITS), tl.arange(0, PADDED_DIM)
    tops = tl.load(marks + place * SPLITS + split)
    sums = tl.load(marks + marks_stride + place * SPLITS + split)
    # A split in which the token sees nothing has the largest score -inf, and weighs nothing.
    weights = tl.exp2(tops - tl.max(tops, 0))
    places = (place * SPLITS + split)[:, None] * HEAD_DIM + dim[None, :]
    mixed = tl.load(parts + places, mask=(dim < HEAD_DIM)[None, :], other=0.0)
    answer = tl.sum(mixed * weights[:, None], 0) / tl.sum(sums * weights, 0)
    tl.store(out + place * HEAD_DIM + dim, answer.to(out.dtype.element_ty), mask=dim < HEAD_DIM)


def inner_type(dtype: torch.dtype) -> tl.dtype:
    """What numbers of a type are multiplied in: themselves, but the interpreter has no product of bfloat16."""
    if dtype == torch.bfloat16 and not isinstance(attend_kernel, triton.JITFunction):
        return tl.float32
    return {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}[dtype]
