"""The machine at the end of a benchmark."""

from __future__ import annotations

import pytest
import torch

from helix_cli.bench.machine import bench_condition


def test_without_a_probe_there_is_no_bandwidth() -> None:
    found = bench_condition(torch.device("cpu"), probe=False, peaks=[None, 2**50])
    assert found.read_bandwidth is None and found.peak_memory == 2**50


def test_a_device_without_room_for_the_probe_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(device: torch.device) -> float:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("helix_cli.bench.machine.read_bandwidth", full)
    assert bench_condition(torch.device("cpu"), probe=True, peaks=[]).read_bandwidth is None
