"""The program: help that answers at once, and one place where exceptions become sentences."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from helix_cli import __version__
from helix_cli import app as program
from helix_cli.app import COMMANDS, app, describe, load_command
from helix_cli.errors import HelixError, MemoryLimitError, ModelError, is_out_of_memory


def helix(*arguments: str) -> Result:
    """The result of `helix` with these arguments."""
    return CliRunner().invoke(app, list(arguments), prog_name="helix", env={"COLUMNS": "200", "NO_COLOR": "1"})


def python(code: str) -> subprocess.CompletedProcess[str]:
    """The result of a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that runs `helix generate` with a body that raises the given exception."""
    monkeypatch.delenv("HELIX_DEBUG", raising=False)

    def run(error: BaseException) -> Result:
        def body() -> None:
            raise error

        single = typer.Typer(add_completion=False)
        single.command("generate")(body)
        monkeypatch.setattr(program, "load_command", lambda name: typer.main.get_command(single))
        return helix("generate")

    return run


def test_help_lists_every_command() -> None:
    for arguments in (["--help"], ["-h"]):
        result = helix(*arguments)
        assert result.exit_code == 0
        for name, line in COMMANDS.items():
            assert name in result.stdout and line in result.stdout
        assert "--install-completion" in result.stdout and "--version" in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_loads_and_its_line_is_its_docstring(name: str) -> None:
    assert load_command(name).help.splitlines()[0] == COMMANDS[name]
    assert helix(name, "--help").exit_code == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_a_paragraph_of_help_is_one_line_that_the_terminal_breaks(name: str) -> None:
    assert all("\n" not in part for part in load_command(name).help.split("\n\n"))


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom helix_cli.app import app\n"
        "try: app(['--help'], prog_name='helix')\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'numpy', 'pydantic', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = python(code)
    assert result.returncode == 0, result.stderr


def test_version() -> None:
    result = helix("--version")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"helix {__version__}\n", "")


def test_a_choice_that_is_none_is_a_usage_error_in_plain_words() -> None:
    result = helix("generate", "x", "--dtype", "int7")
    assert result.exit_code == 2
    assert "Invalid value for '--dtype': 'int7' is not one of 'auto', 'float32'" in result.stderr


def test_unknown_commands_and_options_are_usage_errors() -> None:
    for arguments, words in ((["generat"], "generate"), (["--versoin"], "--version"), (["generate", "--kk"], "--k")):
        result = helix(*arguments)
        assert result.exit_code == 2 and result.stdout == "" and words in result.stderr


def test_a_user_error_is_a_sentence_and_a_hint(failing: Any) -> None:
    result = failing(ModelError("No such model.", "Check the name."))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: No such model.\nHint: Check the name.\n"
    assert failing(HelixError("Only this.")).stderr == "Error: Only this.\n"


def test_an_unexpected_error_is_a_sentence_too(failing: Any) -> None:
    result = failing(ValueError("two\nlines"))
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: Something failed that should not: ValueError: two lines\nHint: Set HELIX_DEBUG=1 to see where.\n"
    )
    assert "no details" in failing(AssertionError()).stderr


def test_debug_shows_the_traceback(failing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIX_DEBUG", "1")
    for error, code in ((ValueError("x"), 1), (ModelError("x", "y"), 2)):
        result = failing(error)
        assert result.exit_code == code
        assert "Traceback" in result.stderr and "Error: " in result.stderr


def test_interrupts_and_broken_pipes(failing: Any) -> None:
    result = failing(KeyboardInterrupt())
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "Interrupted.\n")
    result = failing(BrokenPipeError())
    assert (result.exit_code, result.stdout, result.stderr) == (141, "", "")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("Could not allocate tensor with 9 bytes. There is not enough GPU video memory available!"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OSError(errno.ENOMEM, "Cannot allocate memory", "model.safetensors"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
)
def test_out_of_memory_on_any_device(error: Exception) -> None:
    assert is_out_of_memory(error)
    message, hint, code = describe(error)
    assert (message, code) == ("There is not enough memory for this.", 2) and hint


def test_without_memory_even_to_say_so_it_is_said_plainly(
    failing: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(message: str, hint: str) -> None:
        raise MemoryError

    monkeypatch.setattr("helix_cli.ui.console.error", fail)
    assert failing(MemoryError()).exit_code == 2
    assert capfd.readouterr().err.startswith("Error: There is not enough memory for this.\nHint: ")


def test_other_errors_are_not_taken_for_memory() -> None:
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert describe(MemoryLimitError("a", "b")) == ("a", "b", 2)


def test_a_full_disk_is_the_users_to_mend() -> None:
    message, hint, code = describe(OSError(errno.ENOSPC, "No space left on device"))
    assert (message, code) == ("There is no space left to write to.", 2) and hint


def test_a_reader_that_has_gone_is_no_error() -> None:
    result = python(
        "import os, sys\nfrom helix_cli.app import app\n"
        "reading, writing = os.pipe()\nos.close(reading)\nos.dup2(writing, 1)\n"
        "app(['--help'], prog_name='helix')"
    )
    assert result.stderr == ""


@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_closed_stream_is_no_failure(stream: str) -> None:
    command = f"exec {sys.executable} -m helix_cli --version {stream}>&-"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert result.returncode == 0 and "Traceback" not in result.stderr


def test_ctrl_c_while_modules_load_is_130_without_a_traceback() -> None:
    # The program stops at its first import of the app, as if a slow disk held it there.
    script = (
        "import sys, time, helix_cli.__main__ as m\n"
        "class Slow:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'helix_cli.app':\n"
        "            print('loading', flush=True)\n"
        "            time.sleep(30)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "m.main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as program:
        assert program.stdout is not None and program.stderr is not None
        assert program.stdout.readline() == "loading\n"
        program.send_signal(signal.SIGINT)
        assert program.wait(20) == 130
        assert program.stderr.read() == "Interrupted.\n"


@pytest.mark.parametrize(
    ("given", "count"),
    [({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_waiting_threads_are_calm_unless_the_user_says_otherwise(given: dict[str, str], count: str | None) -> None:
    environment = dict(given)
    program.calm_threads(environment)
    assert environment.get("GOMP_SPINCOUNT") == count
