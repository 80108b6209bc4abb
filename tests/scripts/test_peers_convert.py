"""Conversions for the other engines: made once, made again when the checkpoint is newer, never half."""

import os
from pathlib import Path

import pytest

from scripts.peers_convert import Converter

TOOL = """#!/bin/sh
for last; do :; done

echo made >> "{log}"
{action}
"""


def converter(root: Path, action: str = 'echo weights > "$last"', pair: str = "pair") -> Converter:
    """A converter whose interpreter is a shell script that writes its last argument, or does something else."""
    checkpoints = {role: root / pair / role for role in ("target", "draft")}
    for folder in checkpoints.values():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").touch()
    python = root / "python"
    python.write_text(TOOL.format(log=root / "log", action=action))
    python.chmod(0o755)
    return Converter(checkpoints, root / "converted", root / "llama.cpp", python, threads=1)


def times_made(root: Path) -> int:
    """How often the script ran."""
    return len((root / "log").read_text().splitlines()) if (root / "log").exists() else 0


def test_a_conversion_is_kept_until_the_checkpoint_is_newer(tmp_path: Path) -> None:
    work = converter(tmp_path)
    made = work.openvino("draft", "int8")
    assert made.read_text() == "weights\n"
    assert work.openvino("draft", "int8") == made
    assert times_made(tmp_path) == 1
    later = made.stat().st_mtime + 10
    os.utime(tmp_path / "pair" / "draft" / "model.safetensors", (later, later))
    work.openvino("draft", "int8")
    assert times_made(tmp_path) == 2


def test_formats_and_models_do_not_share_a_place(tmp_path: Path) -> None:
    work = converter(tmp_path)
    places = {work.openvino("target", "int8"), work.openvino("target", "fp16"), work.openvino("draft", "int8")}
    places |= {work.gguf("target", "F16"), work.gguf("target", "BF16"), work.gguf("draft", "F16")}
    assert len(places) == 6


def test_a_conversion_that_fails_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    work = converter(tmp_path, action='echo half > "$last"; echo disk full >&2; exit 7')
    with pytest.raises(RuntimeError, match="ended with code 7: disk full"):
        work.gguf("target", "F16")
    assert not (tmp_path / "converted" / "target-F16.gguf").exists()


def test_a_tool_that_is_not_there_is_named(tmp_path: Path) -> None:
    work = converter(tmp_path)
    work.gguf("target", "F16")
    with pytest.raises(RuntimeError, match="llama-quantize cannot be started"):
        work.gguf("target", "Q8_0")


def test_a_folder_belongs_to_one_pair(tmp_path: Path) -> None:
    """Figures of one pair under another's name would be worse than none."""
    converter(tmp_path)
    converter(tmp_path)
    with pytest.raises(RuntimeError, match="holds the conversions of another pair"):
        converter(tmp_path, pair="another")
