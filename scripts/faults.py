"""What happens to files and messages when the world fails: kills, a full disk, little memory, Ctrl-C at any time.

    python -m scripts.faults [--times N] [--seed N] [NAME ...]

Every fault runs the real program on the embedded pair, with a cache directory of its own, and looks at what is left: a
line of results is whole or absent, a folder of the cache is whole or absent, a run after the fault works, and what the
user reads is a sentence. Full and read-only disks need the right to mount a tmpfs; without it they are left out, and
that is said. The exit code is 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

PROMPTS, TOKENS = 6, 24
LONGEST_S = 300.0
INTERRUPTED = 128 + signal.SIGINT
FINE = (0, 2, INTERRUPTED)
"""Exit codes that a fault may end in."""


@dataclass(frozen=True)
class Ended:
    """How a run ended; a negative code is the signal that killed it."""

    code: int
    out: bytes
    err: str
    seconds: float


class Missing(Exception):
    """This machine cannot show the fault."""


@dataclass
class World:
    """A folder for one fault, with the program's cache in it."""

    folder: Path
    dice: random.Random
    times: int

    def start(self, *arguments: str, cache: Path | None = None, memory: int | None = None) -> subprocess.Popen[bytes]:
        """Starts `helix`, with at most `memory` bytes of address space."""

        def limit() -> None:
            if memory is not None:
                resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

        environment = os.environ | {"HELIX_CACHE_DIR": str(cache or self.folder / "cache"), "OMP_NUM_THREADS": "1"}
        environment.pop("HELIX_DEBUG", None)
        return subprocess.Popen(
            [sys.executable, "-m", "helix_cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            preexec_fn=limit,
        )

    def run(self, *arguments: str, cache: Path | None = None, memory: int | None = None) -> Ended:
        """Runs it to its end."""
        return finished(self.start(*arguments, cache=cache, memory=memory))

    def disturbed(self, number: int, seconds: float, *arguments: str) -> Ended:
        """Sends a signal at a random moment of the first `seconds`."""
        process = self.start(*arguments)
        time.sleep(self.dice.uniform(0.0, seconds))
        process.send_signal(number)
        return finished(process)

    def prompts(self) -> Path:
        """A file of prompts."""
        file = self.folder / "prompts.jsonl"
        file.write_text("".join(json.dumps({"prompt": f"def number_{i}("}) + "\n" for i in range(PROMPTS)))
        return file

    def batch(self, output: Path) -> list[str]:
        """The arguments of a batch."""
        return ["generate", "--input", str(self.prompts()), "--output", str(output), "--max-tokens", str(TOKENS)]


def finished(process: subprocess.Popen[bytes]) -> Ended:
    """Waits for a process; one that hangs is killed and said to hang."""
    started = time.perf_counter()
    try:
        out, err = process.communicate(timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise AssertionError(f"it hung for {LONGEST_S:.0f} s") from None
    return Ended(process.returncode, out, err.decode("utf-8", "replace"), time.perf_counter() - started)


def polite(ended: Ended, codes: Sequence[int] = FINE) -> None:
    """No traceback, and an exit code that says what it was."""
    assert "Traceback" not in ended.err, ended.err[-1500:]
    assert ended.code in codes, f"exit code {ended.code}: {ended.err[-500:]}"


def before_helix(ended: Ended) -> bool:
    """Whether Python was interrupted while it started: as any program then, by the signal or with its own traceback."""
    return ended.code == -signal.SIGINT or ("KeyboardInterrupt" in ended.err and f"helix_cli{os.sep}" not in ended.err)


def results(file: Path) -> dict[int, list[int]]:
    """The whole lines of a file of results; a torn line may stand at its end only."""
    content = file.read_bytes() if file.exists() else b""
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    return {one["index"]: one["token_ids"] for one in map(json.loads, lines)}


def killed_while_writing_results(world: World) -> str:
    """kill -9 during a batch, then --resume."""
    calm = world.folder / "calm.jsonl"
    whole = world.run(*world.batch(calm))
    polite(whole, (0,))
    # The first run measured and compiled; the second tells how long one takes.
    whole = world.run(*world.batch(world.folder / "warm.jsonl"))
    wanted, kept = results(calm), 0
    for number in range(world.times):
        output = world.folder / f"{number}.jsonl"
        world.disturbed(signal.SIGKILL, whole.seconds, *world.batch(output))
        before = results(output)
        kept += len(before)
        polite(world.run(*world.batch(output), "--resume"), (0,))
        after = results(output)
        assert after.keys() == wanted.keys(), f"{len(after)} results of {PROMPTS}"
        assert all(after[index] == tokens for index, tokens in before.items()), "a written result changed"
        assert len(output.read_bytes().splitlines()) == PROMPTS
    return f"{kept} results survived {world.times} kills, and all were completed"


def _killed_while_keeping(world: World, *arguments: str) -> str:
    first = world.run(*arguments)
    polite(first, (0,))
    for _ in range(world.times):
        world.run("cache", "--clear")
        world.disturbed(signal.SIGKILL, first.seconds, *arguments)
        listed = world.run("cache", "--json")
        polite(listed, (0,))
        again = world.run(*arguments)
        polite(again, (0,))
        assert again.out == first.out, f"another text after the kill: {again.out!r}, not {first.out!r}"
    return f"{world.times} kills, the same text after each"


def killed_while_writing_weights(world: World) -> str:
    """kill -9 while eight-bit weights are chosen and written."""
    arguments = ("generate", "def f(", "--weights", "int8", "--max-tokens", "8", "--no-stats", "--temperature", "0")
    return _killed_while_keeping(world, *arguments)


def killed_while_writing_a_prompt(world: World) -> str:
    """kill -9 while a prompt's K/V are kept."""
    question = "def f(x):\n" * 60
    arguments = ("generate", question, "--prompt-cache", "it", "--max-tokens", "8", "--no-stats", "--temperature", "0")
    return _killed_while_keeping(world, *arguments)


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """A tmpfs, where this process may mount one."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        raise Missing("mounting a tmpfs is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def full_disk(world: World) -> str:
    """No room for results, and none for the cache."""
    with small_disk(world.folder / "disk", "size=64k") as disk:
        output = disk / "results.jsonl"
        (disk / "ballast").write_bytes(b"x" * (60 << 10))
        ended = world.run(*world.batch(output))
        polite(ended, (0, 2))
        kept = results(output)
        (disk / "ballast").unlink()
        polite(world.run(*world.batch(output), "--resume"), (0,))
        assert all(results(output)[index] == tokens for index, tokens in kept.items())
        (disk / "ballast").write_bytes(b"x" * (40 << 10))
        polite(world.run("generate", "def f(", "--max-tokens", "4", "--weights", "int8", cache=disk), (0,))
    return f"exit code {ended.code}, {len(kept)} results kept, the rest came with room; a full cache costs nothing else"


def read_only_cache(world: World) -> str:
    """A cache directory that takes nothing."""
    with small_disk(world.folder / "disk", "ro") as disk:
        ended = world.run("generate", "def f(", "--max-tokens", "4", "--weights", "int8", cache=disk)
        polite(ended, (0,))
    return "the text came all the same"


def little_memory(world: World) -> str:
    """Less and less address space, from enough to hopeless."""
    codes = {}
    for mebibytes in (6000, 3000, 2000, 1500, 1200, 900, 600, 300):
        ended = world.run("generate", "def f(", "--max-tokens", "8", memory=mebibytes << 20)
        codes[mebibytes] = ended.code
        # Where not even torch can be mapped, the system's loader speaks before Helix can.
        if mebibytes >= 1200:
            polite(ended, (0, 2))
    return f"exit codes by MiB: {codes}"


def interrupted(world: World) -> str:
    """Ctrl-C at a random moment, of the start too."""
    arguments = ("generate", "def f(", "--max-tokens", "120", "--ignore-eos")
    world.run(*arguments)
    # Warm, or most signals would come after the end.
    whole = world.run(*arguments)
    ends: dict[int | str, int] = {}
    for _ in range(world.times):
        ended = world.disturbed(signal.SIGINT, whole.seconds, *arguments)
        end: int | str = ended.code
        if before_helix(ended):
            end = "before Helix began"
        else:
            polite(ended)
        ends[end] = ends.get(end, 0) + 1
    return f"exit codes {ends}"


FAULTS: dict[str, Callable[[World], str]] = {
    "results": killed_while_writing_results,
    "weights": killed_while_writing_weights,
    "prompt": killed_while_writing_a_prompt,
    "full-disk": full_disk,
    "read-only": read_only_cache,
    "memory": little_memory,
    "interrupt": interrupted,
}


def main() -> int:
    """Run the faults and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FAULTS)}; all if none is given")
    parser.add_argument("--times", type=int, default=20, help="how often to kill or interrupt (200 for a long night)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    unknown = set(options.names) - set(FAULTS)
    if unknown:
        parser.error(f"there is no fault {', '.join(sorted(unknown))}")
    failed = 0
    for name in options.names or FAULTS:
        with TemporaryDirectory() as folder:
            try:
                line = FAULTS[name](World(Path(folder), random.Random(options.seed), options.times))
            except Missing as reason:
                line = f"left out: {reason}"
            except AssertionError as error:
                failed += 1
                line = f"FAILED: {error}"
        print(f"{name}: {line}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
