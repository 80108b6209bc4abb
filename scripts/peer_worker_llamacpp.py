"""llama.cpp for `compare_peers`: its own server, which keeps the model and times each text itself."""

from __future__ import annotations

import atexit
import json
import socket
import subprocess
import time
from collections.abc import Iterable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from scripts.peer_protocol import Run, serve

START_S = 600.0
"""Loading and repacking a model may take this long."""


class LlamaCpp:
    """A llama-server with one slot; its depth is fixed when it starts."""

    def __init__(self, server: str, target: str, draft: str | None, k: int, threads: int, context: int) -> None:
        self.k = k
        self.versions = {"llama.cpp": program_version(server)}
        self.port = free_port()
        command = [server, *server_arguments(target, draft, k, threads, context), "--port", str(self.port)]
        self.server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.process = self.server.pid
        atexit.register(self.server.kill)
        self._wait()

    def generate(self, ids: list[int], text: str, tokens: int, k: int) -> Run:
        assert k == self.k, "the server's depth is fixed"
        body = {
            "prompt": ids, "n_predict": tokens, "ignore_eos": True, "stream": True, "return_tokens": True,
            "cache_prompt": False, "samplers": ["top_k"], "top_k": 1, "temperature": 0,
        }  # fmt: skip
        connection = HTTPConnection("127.0.0.1", self.port)
        begun = time.perf_counter()
        connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"llama-server answered {response.status}: {response.read(500).decode()}")
        try:
            return read_stream(response, begun)
        finally:
            connection.close()

    def _wait(self) -> None:
        """Returns when the model is loaded; raises RuntimeError when the server has ended or takes too long."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.server.poll() is not None:
                raise RuntimeError(f"llama-server ended with code {self.server.returncode} while loading")
            try:
                connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            except (OSError, HTTPException):
                pass
            time.sleep(0.1)
        raise RuntimeError(f"llama-server was not ready after {START_S:.0f} seconds")


def server_arguments(target: str, draft: str | None, k: int, threads: int, context: int) -> list[str]:
    """One user, no cache of earlier prompts, and always exactly `k` tokens drafted."""
    count = str(threads)
    arguments = [
        "-m", target, "-c", str(context), "-t", count, "-tb", count, "-np", "1", "-ngl", "0", "--offline", "--no-ui",
        "--cache-ram", "0", "--ctx-checkpoints", "0", "--threads-http", "1", "--host", "127.0.0.1",
    ]  # fmt: skip
    if draft is not None:
        arguments += [
            "--spec-type", "draft-simple", "-md", draft, "-td", count, "-tbd", count, "-ngld", "0",
            "--spec-draft-n-max", str(k), "--spec-draft-n-min", "0", "--spec-draft-p-min", "0",
        ]  # fmt: skip
    return arguments


def read_stream(lines: Iterable[bytes], begun: float) -> Run:
    """A run from the server's events, `data: {...}` lines; the time after the first token is the server's own.

    A round emits what it accepted and one token more, so rounds = tokens after the first - accepted.
    Raises RuntimeError when the stream ends early, holds an error or lacks a token.
    """
    tokens: list[int] = []
    first_s: float | None = None
    for line in lines:
        if not line.startswith(b"data: "):
            continue
        event: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
        if "error" in event:
            raise RuntimeError(f"llama-server: {event['error']}")
        if event["tokens"] and first_s is None:
            first_s = time.perf_counter() - begun
        tokens += event["tokens"]
        if event["stop"]:
            timings = event["timings"]
            if first_s is None or timings["predicted_n"] != len(tokens):
                raise RuntimeError(f"{len(tokens)} tokens came and the server counts {timings['predicted_n']}")
            rounds = len(tokens) - 1 - timings.get("draft_n_accepted", 0)
            return Run(tokens, first_s, 1, timings["predicted_ms"] / 1000, rounds)
    raise RuntimeError("llama-server's stream ended early")


def program_version(program: str) -> str:
    """What `--version` says on either stream, and the archive it was built from where setup_peers has noted one."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60)
    said = parse_version(done.stdout + done.stderr)
    source = Path(program).parents[2] / "SOURCE"
    return f"{said}, from {source.read_text().strip()}" if source.exists() else said


def parse_version(said: str) -> str:
    """The version among the lines that a program of llama.cpp prints about itself."""
    return next(
        (line.removeprefix("version: ") for line in said.splitlines() if line.startswith("version: ")), "unknown"
    )


def free_port() -> int:
    """A port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    serve(LlamaCpp)
