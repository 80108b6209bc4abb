"""The peers' own forms of a checkpoint pair, made by the peers' own tools and kept: GGUF files and OpenVINO folders.

    python -m scripts.peers_convert --target PAIR/target --draft PAIR/draft --converted PAIR/converted \\
        --peer-python ../peers/venv/bin/python --llama-cpp ../peers/llama.cpp

Each is written beside its place and moved there when complete, so an interrupted conversion is simply done again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.peer_protocol import thread_environment

ROOT = Path(__file__).parent.parent
GGUF_FORMATS = ("F16", "BF16", "Q8_0", "Q4_0")
OPENVINO_FORMATS = ("int8", "fp16")


@dataclass(frozen=True)
class Converter:
    """A pair, the folder of its conversions, and what makes them: llama.cpp's folder and the peers' interpreter.

    `checkpoints` are the folders of "target" and "draft". Raises RuntimeError when the folder holds another pair's.
    """

    checkpoints: dict[str, Path]
    folder: Path
    llamacpp: Path | None
    python: Path | None
    threads: int

    def __post_init__(self) -> None:
        """A folder belongs to one pair, which it names."""
        name = self.folder / "pair.json"
        pair = {role: str(path.resolve()) for role, path in self.checkpoints.items()}
        if name.exists() and json.loads(name.read_text()) != pair:
            raise RuntimeError(f"{self.folder} holds the conversions of another pair; name another folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        name.write_text(json.dumps(pair) + "\n")

    def gguf(self, role: str, form: str) -> Path:
        """A GGUF file, converted now if need be; raises RuntimeError that says why it cannot be."""
        assert self.llamacpp is not None
        wanted = self.folder / f"{role}-{form}.gguf"
        if form in ("F16", "BF16"):
            convert = [
                str(self.python or sys.executable), "-m", "scripts.peer_convert_gguf", str(self.llamacpp),
                str(self.checkpoints[role]), "--outtype", form.lower(), "--outfile",
            ]  # fmt: skip
            return self._made(role, wanted, lambda place: self._run([*convert, str(place)]))
        source = self.gguf(role, "F16")
        program = self.llamacpp / "build" / "bin" / "llama-quantize"
        count = str(self.threads)
        return self._made(role, wanted, lambda place: self._run([str(program), str(source), str(place), form, count]))

    def openvino(self, role: str, form: str) -> Path:
        """An OpenVINO folder, converted now if need be; raises RuntimeError that says why it cannot be."""
        convert = [
            str(self.python), "-m", "optimum.commands.optimum_cli", "export", "openvino", "--task",
            "text-generation-with-past", "--weight-format", form, "--model", str(self.checkpoints[role]),
        ]  # fmt: skip
        wanted = self.folder / f"{role}-openvino-{form}"
        return self._made(role, wanted, lambda place: self._run([*convert, str(place)]))

    def _made(self, role: str, wanted: Path, make: Callable[[Path], None]) -> Path:
        """`wanted`, made by `make` at a place beside it unless it exists and is newer than the checkpoint."""
        newest = max((file.stat().st_mtime for file in self.checkpoints[role].iterdir()), default=0.0)
        if wanted.exists() and wanted.stat().st_mtime >= newest:
            return wanted
        place = wanted.with_name(f"unfinished-{wanted.name}")
        for old in (place, wanted):
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        print(f"Converting to {wanted} ...", file=sys.stderr)
        make(place)
        place.rename(wanted)
        return wanted

    def _run(self, command: Sequence[str]) -> None:
        """Runs a converter; its last line is the reason when it fails."""
        try:
            environment = os.environ | thread_environment(self.threads)
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        except OSError as error:
            raise RuntimeError(f"{command[0]} cannot be started: {error.strerror}") from None
        if done.returncode != 0:
            lines = (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
            raise RuntimeError(f"conversion ended with code {done.returncode}: {lines[-1].strip()[:300]}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that a converter is made from."""
    parser.add_argument("--target", type=Path, required=True, help="the target's checkpoint folder")
    parser.add_argument("--draft", type=Path, required=True, help="the draft's checkpoint folder")
    parser.add_argument("--converted", type=Path, required=True, help="where the peers' forms of this pair are kept")
    parser.add_argument("--llama-cpp", type=Path, help="llama.cpp's folder, with its programs in build/bin")
    parser.add_argument("--peer-python", type=Path, help="the interpreter of the peers' environment")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of every engine")


def converter(arguments: argparse.Namespace) -> Converter:
    """What `add_arguments` asked for, with whole paths, since workers run elsewhere."""
    # An interpreter's path is not resolved: the link in an environment is what makes it the environment's.
    python = None if arguments.peer_python is None else Path(os.path.abspath(arguments.peer_python))
    llamacpp = None if arguments.llama_cpp is None else arguments.llama_cpp.resolve()
    checkpoints = {"target": arguments.target.resolve(), "draft": arguments.draft.resolve()}
    return Converter(checkpoints, arguments.converted.resolve(), llamacpp, python, arguments.threads)


def main() -> None:
    """Makes every form of both checkpoints that the installed peers need."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    work = converter(parser.parse_args())
    for role in work.checkpoints:
        for form in GGUF_FORMATS if work.llamacpp else ():
            work.gguf(role, form)
        for form in OPENVINO_FORMATS if work.python else ():
            work.openvino(role, form)


if __name__ == "__main__":
    main()
