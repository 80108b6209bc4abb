"""What is read from llama.cpp's server and asked of it; the samples were recorded from version 0.5.0-dev."""

import itertools

import pytest

from scripts.peer_worker_llamacpp import parse_version, read_stream, server_arguments

FIRST = b'data: {"index":0,"content":"xh","tokens":[985],"stop":false,"id_slot":-1,"tokens_predicted":1}\n'
SECOND = b'data: {"index":0,"content":"s","tokens":[342],"stop":false,"id_slot":-1,"tokens_predicted":2}\n'
THIRD = b'data: {"index":0,"content":"ih","tokens":[595, 583],"stop":false,"id_slot":-1,"tokens_predicted":4}\n'
LAST = (
    b'data: {"index":0,"content":"","tokens":[],"id_slot":0,"stop":true,"tokens_predicted":4,"stop_type":"limit",'
    b'"timings":{"cache_n":0,"prompt_n":64,"prompt_ms":3.593,"predicted_n":4,"predicted_ms":8.5%s}}\n'
)
PLAIN, DRAFTED = LAST % b"", LAST % b',"draft_n":4,"draft_n_accepted":2'
VERSION = """0.00.031.210 W register_backend: no GPU found
version: 0.5.0-dev (build 0, commit unknown)
built with GNU 12.2.0 for Linux x86_64
"""


def stream(last: bytes) -> list[bytes]:
    """A whole answer; blank lines part the events."""
    return [FIRST, b"\n", SECOND, b"\n", THIRD, b"\n", last, b"\n"]


@pytest.mark.parametrize(("last", "rounds"), [(PLAIN, 3), (DRAFTED, 1)])
def test_a_text_is_timed_by_the_servers_own_clock(monkeypatch: pytest.MonkeyPatch, last: bytes, rounds: int) -> None:
    """Three tokens follow the first: three rounds, or one when two of them were accepted."""
    clock = itertools.count(100.5)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    run = read_stream(stream(last), begun=100.0)
    assert run.tokens == [985, 342, 595, 583]
    assert run.first_s == 0.5
    assert run.num_first == 1
    assert run.decode_s == 0.0085
    assert run.rounds == rounds


def test_a_stream_that_ends_early_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="ended early"):
        read_stream([FIRST, SECOND], begun=0.0)


def test_an_error_in_the_stream_is_an_error() -> None:
    failure = b'data: {"error":{"code":500,"message":"Compute error.","type":"server_error"}}\n'
    with pytest.raises(RuntimeError, match="Compute error"):
        read_stream([FIRST, failure], begun=0.0)


def test_tokens_that_went_missing_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="3 tokens came and the server counts 4"):
        read_stream([FIRST, THIRD, PLAIN], begun=0.0)


def test_the_version_is_found_among_the_lines() -> None:
    assert parse_version(VERSION) == "0.5.0-dev (build 0, commit unknown)"
    assert parse_version("") == "unknown"


def test_the_server_is_held_to_its_threads_and_keeps_no_earlier_prompts() -> None:
    plain = server_arguments("t.gguf", None, 0, 3, 700)
    drafted = server_arguments("t.gguf", "d.gguf", 4, 3, 700)
    pairs = set(itertools.pairwise(drafted))
    assert {("-t", "3"), ("-tb", "3"), ("-td", "3"), ("-tbd", "3"), ("--cache-ram", "0"), ("-c", "700")} <= pairs
    assert {("--spec-draft-n-max", "4"), ("--spec-draft-p-min", "0"), ("-md", "d.gguf")} <= pairs
    assert "-md" not in plain
