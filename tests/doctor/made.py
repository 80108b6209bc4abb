"""Made-up findings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from helix_cli.doctor.devices import Device
from helix_cli.doctor.diagnosis import Findings

CPU = Device(
    "cpu",
    True,
    "Chip 9, 2 threads",
    present=True,
    number_types={"float32": None, "bfloat16": None, "float16": None},
    free=8 * 2**30,
    total=16 * 2**30,
)
CARD = Device("cuda", True, "Card", present=True, has_driver=True, number_types={"float16": None}, free=4 * 2**30)
ABSENT = Device("cuda", False, "This PyTorch was built without GPU support.", "Install a CUDA build.")


def findings(**changes: Any) -> Findings:
    """A machine with nothing wrong but no card."""
    sound = Findings(
        hardware={
            "processor": "Chip 9",
            "instructions": ["avx2"],
            "cores": 4,
            "memory_gib": 16.0,
            "system": "Linux",
            "python": "3.11.7",
        },
        python=("3.11.7", ">=3.11", True),
        versions={"torch": "2.13.0+cpu", "transformers": "5.23.0"},
        wrong_packages=[],
        mismatches=[],
        devices=[ABSENT, CPU],
        asked_for=None,
        threads=2,
        cores=2,
        compiler="/usr/bin/cc",
        kernels={"attention": True},
        int8="native",
        bandwidth={"cpu": 2e10},
        measuring_failed=None,
        caches={"weights": (1, 2**20)},
        cache_folder="/cache",
    )
    return replace(sound, **changes)
