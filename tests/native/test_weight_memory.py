"""Memory for weights: aligned, apart, and given back."""

from __future__ import annotations

import gc
import mmap
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from helix_cli.native.weight_memory import CHUNK, HUGE, LINE, WeightMemory

MAPS = Path("/proc/self/smaps")


def test_tensors_of_many_threads_lie_apart_and_on_cache_lines() -> None:
    memory = WeightMemory()
    shapes = [(number, 33) for number in range(1, 200)]
    with ThreadPoolExecutor(4) as pool:
        tensors = list(pool.map(lambda shape: memory.empty(shape, torch.bfloat16), shapes))
    for number, (tensor, shape) in enumerate(zip(tensors, shapes, strict=True)):
        assert tensor.shape == shape and tensor.dtype == torch.bfloat16 and tensor.is_contiguous()
        assert tensor.data_ptr() % LINE == 0
        tensor.fill_(number)
    assert all(bool((tensor == number).all()) for number, tensor in enumerate(tensors))


def test_a_matrix_larger_than_a_chunk_gets_one_of_its_own() -> None:
    memory = WeightMemory()
    small = memory.empty((3,), torch.float32)
    large = memory.empty((CHUNK + 5,), torch.uint8)
    assert large.data_ptr() % HUGE == 0
    small.zero_()
    large[-1] = 7
    assert large[-1] == 7 and not small.any()


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE") or not MAPS.exists(), reason="no huge pages to ask for")
def test_huge_pages_are_asked_for_from_a_boundary_on() -> None:
    first = WeightMemory().empty((HUGE,), torch.uint8)
    assert first.data_ptr() % HUGE == 0
    region = next(one for one in _regions() if one[0] <= first.data_ptr() < one[1])
    assert re.search(r"^VmFlags:.* hg\b", region[2], re.MULTILINE), "the kernel was not asked"


@pytest.mark.skipif(not MAPS.exists(), reason="the system does not say what is mapped")
def test_a_chunk_goes_with_its_last_tensor() -> None:
    memory = WeightMemory()
    place = memory.empty((HUGE,), torch.uint8).data_ptr()
    assert any(start <= place < end for start, end, _ in _regions())
    del memory
    gc.collect()
    assert not any(start <= place < end for start, end, _ in _regions())


def _regions() -> list[tuple[int, int, str]]:
    """What is mapped: start, end, and the kernel's description."""
    parts = re.split(r"^([0-9a-f]+)-([0-9a-f]+) ", MAPS.read_text(), flags=re.MULTILINE)[1:]
    return [(int(parts[i], 16), int(parts[i + 1], 16), parts[i + 2]) for i in range(0, len(parts), 3)]
