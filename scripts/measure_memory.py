"""Measure the memory of a process that has loaded a model, and what it takes while loading; Linux only.

    python -m scripts.measure_memory CHECKPOINT --weights int8 bfloat16

Each format is loaded in a process of its own. Anonymous memory is watched every 20 ms; pages of mapped files are not
counted there, because the system may drop them at any time. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

MIB = 2**20


def status() -> dict[str, int]:
    """Resident memory of this process in MiB, in all and anonymous."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) // 1024 for name in ("VmRSS", "RssAnon")}


def load(checkpoint: str, weights: str) -> dict[str, Any]:
    """Loads in this process and returns what it took, in MiB."""
    from helix_cli.config import load_config
    from helix_cli.session import open_session

    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], status()["RssAnon"])
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    overrides = ["draft.kind=none", f"model.path={checkpoint}", f"model.weights={weights}"]
    session = open_session(load_config(None, overrides))
    done.set()
    watcher.join()
    decoder = session.engine.runner.decoder
    held = decoder.num_bytes + decoder.embedding.numel() * decoder.embedding.itemsize
    after = status()
    return {"weights": held // MIB, "resident": after["VmRSS"], "anonymous": after["RssAnon"], "peak": peak[0]}


def main() -> None:
    """Measures every format and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--weights", nargs="+", default=["int8", "bfloat16"])
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(load(arguments.checkpoint, arguments.weights[0])))
        return
    print("| weights | weights, MiB | resident after loading, MiB | peak of anonymous memory while loading, MiB |")
    print("|---|---|---|---|")
    for weights in arguments.weights:
        command = [sys.executable, "-m", "scripts.measure_memory", arguments.checkpoint, "--weights", weights, "--here"]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        print(f"| {weights} | {found['weights']} | {found['resident']} | {found['peak']} |")


if __name__ == "__main__":
    main()
