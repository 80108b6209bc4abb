"""Which packages go together: the pairs that were tried, and those between them."""

from __future__ import annotations

import pytest

from helix_cli.packages import dependencies, mismatches, python_range

DIRECTML = {"torch-directml": "0.2.5.dev240914"}


@pytest.mark.parametrize(
    ("torch", "transformers"),
    [
        ("2.4.1", "5.13.1"),
        ("2.4.1+cu121", "5.13.0"),
        ("2.5.0", "5.19.0"),
        ("2.6.0", "5.23.0"),
        ("2.13.0+cpu", "5.23.0"),
    ],
)
def test_pairs_that_work(torch: str, transformers: str) -> None:
    assert mismatches({"torch": torch, "transformers": transformers}) == []


@pytest.mark.parametrize(
    ("torch", "transformers", "message", "hint"),
    [
        ("2.4.1", "5.14.1", "cannot be imported beside PyTorch 2.4.1: it needs 2.5 or newer.", "before 5.14."),
        ("2.4.1+cu121", "5.15.1", "takes PyTorch for absent beside PyTorch 2.4.1: it needs 2.5", "before 5.14."),
        ("2.4.1", "5.23.0", "it needs 2.6 or newer.", "before 5.14."),
        ("2.5.1", "5.20.2", "it needs 2.6 or newer.", "before 5.20."),
    ],
)
def test_pairs_that_do_not(torch: str, transformers: str, message: str, hint: str) -> None:
    (found,) = mismatches({"torch": torch, "transformers": transformers})
    assert found.message.startswith(f"transformers {transformers} ") and message in found.message and hint in found.hint


def test_directml_wants_its_own_torch_python_and_system() -> None:
    right = {"torch": "2.4.1", "transformers": "5.13.1", **DIRECTML}
    assert mismatches(right, "3.11.7", "win32") == [] and mismatches(right, "3.12.1", "linux") == []
    (found,) = mismatches({"torch": "2.13.0+cpu", **DIRECTML}, "3.11.7", "win32")
    assert found.message == "torch-directml needs PyTorch 2.4.1, not 2.13.0." and "2.4.1" in found.hint
    (found,) = mismatches(right, "3.13.0", "win32")
    assert "no build for Python 3.13.0" in found.message and "3.12" in found.hint
    (found,) = mismatches(right, "3.11.7", "darwin")
    assert "darwin" in found.message
    assert len(mismatches({"torch": "2.13.0", **DIRECTML}, "3.14.0", "linux")) == 2


def test_what_is_installed_here_is_sound() -> None:
    found = dependencies()
    assert found is not None and found[1] == [] and "torch" in found[0] and mismatches(found[0]) == []
    version = python_range()
    assert version is not None and version[2]


def test_what_is_missing_or_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helix_cli.packages.version_of", lambda name: None if name == "tokenizers" else "0.0.1")
    found = dependencies()
    assert found is not None and "tokenizers is not installed" in found[1]
    assert any(clause.startswith("torch 0.0.1 is outside") for clause in found[1])
