"""What a probe's answer says of a device, for every way in which one can fail."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from helix_cli.backend import open_backend, probe
from helix_cli.doctor.children import Answer, ask
from helix_cli.doctor.devices import DEVICES, device_from, try_devices
from helix_cli.errors import DeviceError


def answer(*lines: dict[str, Any], failure: str | None = None) -> Answer:
    return Answer(lines, failure)


def test_a_device_that_works() -> None:
    found = device_from(
        "cuda",
        answer(
            {"present": True},
            {"opened": "Card", "free": 5, "total": 9},
            {"dtype": "float32", "problem": None},
            {"dtype": "float16", "problem": "results differ by 2"},
        ),
        has_driver=True,
    )
    assert found.usable and found.present and (found.text, found.free, found.total) == ("Card", 5, 9)
    assert found.number_types == {"float32": None, "float16": "results differ by 2"}


def test_a_device_that_refuses_says_why() -> None:
    refused = answer({"present": False}, {"refused": "torch-directml is not installed.", "hint": "Install it."})
    found = device_from("directml", refused, has_driver=False)
    assert (found.usable, found.present, found.text, found.hint) == (
        False,
        False,
        "torch-directml is not installed.",
        "Install it.",
    )


def test_a_device_that_ends_the_process() -> None:
    failure = "the process was aborted (code -6) while it tried bfloat16"
    found = device_from("directml", answer({"present": True}, {"opened": "Card"}, failure=failure), has_driver=True)
    assert not found.usable and found.text == f"Card fails: {failure}." and found.hint
    assert (
        device_from("cpu", answer(failure="ImportError: no torch"), False).text == "cpu fails: ImportError: no torch."
    )


def test_a_device_that_is_wrong_in_every_type_is_not_usable() -> None:
    found = device_from("cuda", answer({"opened": "Card"}, {"dtype": "float32", "problem": "off"}), True)
    assert not found.usable and "every number type" in found.text


def test_all_are_asked_at_the_same_time() -> None:
    asked: list[dict[str, tuple[str, ...]]] = []

    def asking(questions: dict[str, tuple[str, ...]]) -> dict[str, Answer]:
        asked.append(questions)
        return {name: answer({"opened": name}, {"dtype": "float32", "problem": None}) for name in questions}

    assert [one.name for one in try_devices(asking=asking)] == list(DEVICES)
    assert len(asked) == 1 and asked[0]["mps"] == ("helix_cli.backend.probe", "mps")


def test_the_probe_finds_this_processor_sound() -> None:
    lines = list(probe.look_at("cpu"))
    merged = Answer(tuple(lines), None)
    assert merged.get("present") is True and merged.get("opened") and merged.get("refused") is None
    types = {line["dtype"]: line["problem"] for line in lines if "dtype" in line}
    assert types == {"float32": None, "bfloat16": None, "float16": None}


def test_the_probe_finds_wrong_results(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = open_backend("cpu")
    softmax = torch.softmax
    monkeypatch.setattr(torch, "softmax", lambda x, dim: softmax(x, dim) + (0.5 if x.dtype == torch.float16 else 0.0))
    assert probe.type_problem(backend, torch.float32) is None
    assert "differ by" in str(probe.type_problem(backend, torch.float16))

    def unsupported(*_: object) -> None:
        raise RuntimeError("not implemented for 'Half'\nand more")

    monkeypatch.setattr(torch, "softmax", unsupported)
    assert probe.type_problem(backend, torch.float16) == "not implemented for 'Half'"


def test_the_probe_says_when_sums_are_wrong_and_when_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "mm", lambda left, right: left @ right + 1)
    assert "adds wrongly: 576 of 576 sums" in Answer(tuple(probe.look_at("cpu")), None).get("refused")

    def refuse(name: str) -> None:
        raise DeviceError("No.", "Do.")

    monkeypatch.setattr(probe, "open_backend", refuse)
    assert list(probe.look_at("cuda"))[-1] == {"refused": "No.", "hint": "Do."}


PATIENT_S = 300.0
"""Machines that run tests may be busy."""
ABORTS = """
import os

def __getattr__(name):
    if name.startswith("_"):
        raise AttributeError(name)
    return lambda *_: os.abort()
"""
UNFIT = "raise ImportError('undefined symbol: TensorImpl20is_contiguous_custom')\n"


@pytest.mark.parametrize(
    ("package", "words"),
    [(ABORTS, "was aborted (code -6) while it tried the device"), (UNFIT, "torch-directml needs PyTorch 2.4.1, not ")],
)
def test_a_package_that_aborts_or_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, words: str
) -> None:
    (tmp_path / "torch_directml.py").write_text(package)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    (found,) = try_devices(("directml",), partial(ask, timeout_s=PATIENT_S))
    assert not found.usable and words in found.text and found.hint and found.present
