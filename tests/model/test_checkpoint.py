"""Finding a checkpoint: local directories first, then the hub, and each of its refusals in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from helix_cli.errors import ModelError
from helix_cli.model.checkpoint import resolve


def test_a_directory_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(str(tmp_path)) == tmp_path
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name") == Path("org/name")  # a local directory wins over the hub


@pytest.mark.parametrize("name", ["nowhere", "./org/name", "../x", "/a/b", "a/b/c", "~/none", "org/na me"])
def test_what_is_neither_a_directory_nor_a_hub_id(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ModelError, match="There is no model directory"):
        resolve(name)


def test_a_file_is_not_a_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(ModelError, match="is a file"):
        resolve(str(file))


@pytest.mark.parametrize(
    ("name", "revision", "asked"),
    [("org/name", None, None), ("org/name@v1.0", None, "v1.0"), ("org/name", "main", "main")],
)
def test_a_hub_id_is_downloaded(
    name: str, revision: str | None, asked: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    def download(repository: str, **options: Any) -> str:
        calls.append((repository, options))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve(name, revision) == tmp_path
    [(repository, options)] = calls
    assert repository == "org/name" and options["revision"] == asked
    assert "*.safetensors" in options["allow_patterns"] and not any("bin" in one for one in options["allow_patterns"])


def failing(kind: type[Exception]) -> Exception:
    """An error of the hub without the response that its constructor wants."""
    error = kind.__new__(kind)
    Exception.__init__(error, "no")
    return error


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (errors.RepositoryNotFoundError, "neither a directory here nor a model"),
        (errors.GatedRepoError, "only to those who accepted its terms"),
        (errors.RevisionNotFoundError, "has no revision v1"),
        (errors.LocalEntryNotFoundError, "not in the local cache, and the hub cannot be reached"),
        (errors.HFValidationError, "not a valid hub id"),
        (errors.HfHubHTTPError, "Downloading org/name@v1 failed: no"),
        (OSError, "Downloading org/name@v1 failed: no"),
    ],
)
def test_refusals_of_the_hub(kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repository: str, **options: Any) -> str:
        raise failing(kind)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ModelError, match=message) as error:
        resolve("org/name@v1")
    assert error.value.hint


def test_offline_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="not in the local cache") as error:
        resolve("org-that-is-not-there/name")
    assert "HF_HUB_OFFLINE" in error.value.hint
