"""Workers of the comparison as processes: what they answer, how they fail, and which stay loaded."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from scripts.peers_process import PeerError, Recipe, Worker, WorkerPool


def recipe(name: str = "fake", **settings: Any) -> Recipe:
    """A worker that runs tests/scripts/fake_peer.py."""
    return Recipe(sys.executable, "tests.scripts.fake_peer", json.dumps({"name": name} | settings), threads=1)


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    """Room for two workers of a guessed size."""
    pool = WorkerPool(limit=2.5, guess=1.0)
    yield pool
    pool.close()


def test_a_worker_answers_whatever_its_libraries_print() -> None:
    worker = Worker(recipe())
    assert worker.versions == {"fake": "1.0"}
    run = worker.generate([7, 8], "text", tokens=9, k=3)
    assert run.tokens == list(range(9))
    assert run.rounds == 2
    assert worker.memory is None or 0 < worker.memory["now"] <= worker.memory["peak"]
    worker.close()


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("error", "ValueError: that went wrong"),
        ("crash", "ended with code 3: segmentation fault, so to speak"),
        ("short", "gave 8 tokens where 9 were asked for"),
    ],
)
def test_a_text_that_fails_is_an_error_with_its_reason(trouble: str, message: str) -> None:
    worker = Worker(recipe(trouble=trouble))
    with pytest.raises(PeerError, match=message):
        worker.generate([7], "text", tokens=9, k=0)


def test_an_interpreter_or_module_that_is_not_there_is_an_error() -> None:
    with pytest.raises(PeerError, match="cannot be started: No such file"):
        Worker(Recipe("/nowhere/python", "tests.scripts.fake_peer", "{}", 1))
    with pytest.raises(PeerError, match=r"ended with code 1: .*No module named scripts.peer_worker_none"):
        Worker(Recipe(sys.executable, "scripts.peer_worker_none", "{}", 1))


def test_a_worker_that_cannot_load_is_not_tried_again(pool: WorkerPool) -> None:
    """Every depth of an engine shares the worker; the second failure must not cost another load."""
    for _ in range(2):
        with pytest.raises(PeerError, match="RuntimeError: no such model"):
            pool.get(recipe(trouble="load"))
    assert list(pool._refused) == [recipe(trouble="load")]


def test_workers_stay_loaded_and_the_one_used_longest_ago_makes_room(pool: WorkerPool) -> None:
    first, is_new = pool.get(recipe("first"))
    assert is_new
    pool.get(recipe("second"))
    assert pool.get(recipe("first")) == (first, False)
    pool.get(recipe("third"))
    assert pool.get(recipe("first")) == (first, False)
    _, second_is_new = pool.get(recipe("second"))
    assert second_is_new
    assert len(pool._loaded) == 2


def test_a_worker_that_has_run_counts_with_its_own_peak(pool: WorkerPool) -> None:
    worker, _ = pool.get(recipe("first"))
    worker.memory = {"now": 1, "peak": 2}
    pool.note_memory(recipe("first"))
    pool.get(recipe("second"))
    assert list(pool._loaded) == [recipe("second")]
