"""The probe, and what a machine says of itself."""

from __future__ import annotations

from helix_cli.machine import hardware, read_bandwidth


def test_the_probe_reads_at_some_speed() -> None:
    assert 1e6 < read_bandwidth(side=512) < 1e14


def test_hardware_names_what_matters() -> None:
    assert {"processor", "instructions", "cores", "memory_gib", "system", "python"} == hardware().keys()
