"""`helix cache` lists what is kept and clears it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helix_cli.app import app
from helix_cli.storage import Storage


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Storage:
    """A cache directory with one folder of each kind."""
    monkeypatch.setenv("HELIX_CACHE_DIR", str(tmp_path))
    storage = Storage()
    for kind, source in (("weights", "org/model\x1b[31m"), ("measurements", "int8 products")):
        with storage.write(kind, "key", source) as folder:
            (folder / "data").write_bytes(bytes(3 << 20))
    return storage


def test_list(storage: Storage) -> None:
    result = CliRunner().invoke(app, ["cache"])
    assert result.exit_code == 0
    assert "weights" in result.stdout and "int8 products" in result.stdout and "3.0" in result.stdout
    assert "6.0 MiB" in result.stdout and "\x1b" not in result.stdout


def test_list_as_json_by_kind(storage: Storage) -> None:
    result = CliRunner().invoke(app, ["cache", "--json", "--kind", "measurements"])
    (line,) = result.stdout.splitlines()
    row = json.loads(line)
    assert (row["kind"], row["source"]) == ("measurements", "int8 products")
    assert row["num_bytes"] > 3 << 20 and row["used"] > 0


def test_clear(storage: Storage) -> None:
    result = CliRunner().invoke(app, ["cache", "--clear", "--kind", "weights"])
    assert result.exit_code == 0 and result.stdout == "" and "3.0 MiB" in result.stderr
    assert [entry.kind for entry in storage.entries()] == ["measurements"]
    CliRunner().invoke(app, ["cache", "--clear"])
    assert "Nothing is kept" in CliRunner().invoke(app, ["cache"]).stdout


@pytest.mark.parametrize("arguments", [["--kind", "weight"], ["--clear", "--json"]])
def test_refusals(storage: Storage, arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["cache", *arguments])
    assert result.exit_code == 2 and "Hint" in result.stderr and len(storage.entries()) == 2
