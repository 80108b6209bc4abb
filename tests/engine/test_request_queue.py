"""The waiting queue: order, removal, return of a preempted sequence."""

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from helix_cli.engine.request_queue import RequestQueue


def waiting(number: int, priority: int = 0) -> Any:
    """The three fields the queue looks at."""
    return SimpleNamespace(id=number, priority=priority, arrival=number)


def test_smaller_priority_first_then_arrival() -> None:
    queue = RequestQueue()
    for number, priority in enumerate([1, 0, 1, 0]):
        queue.push(waiting(number, priority))
    assert [queue.pop().id for _ in range(4)] == [1, 3, 0, 2]


def test_a_preempted_sequence_returns_to_its_place() -> None:
    queue = RequestQueue()
    for number in range(3):
        queue.push(waiting(number))
    first = queue.pop()
    queue.push(first)
    assert queue.pop() is first


@given(st.lists(st.tuples(st.sampled_from(["push", "pop", "remove"]), st.integers(0, 3))))
def test_behaves_like_a_sorted_list(actions: list[tuple[str, int]]) -> None:
    queue, model, arrivals = RequestQueue(), [], 0
    for action, argument in actions:
        if action == "push":
            one = waiting(arrivals, argument)
            arrivals += 1
            queue.push(one)
            model.append(one)
        elif action == "pop" and model:
            expected = min(model, key=lambda one: (one.priority, one.arrival))
            assert queue.peek() is expected
            assert queue.pop() is expected
            model.remove(expected)
        elif action == "remove":
            expected = next((one for one in model if one.id == argument), None)
            assert queue.remove(argument) is expected
            if expected is not None:
                model.remove(expected)
        assert len(queue) == len(model)
        assert (queue.peek() is None) == (not model)
