"""What one text of a peer is measured by."""

from typing import Any

import pytest

from scripts import peer_protocol as protocol

STATUS = """Name:\tpython
VmPeak:\t 1147080 kB
VmHWM:\t  441172 kB
VmRSS:\t  383660 kB
RssFile:\t  120000 kB
Threads:\t9
"""


def test_time_is_counted_between_first_and_last_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three passes: one token after 2 s, then three, then two more, 1.5 s after the first."""
    times = iter([12.0, 12.5, 13.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    watch = protocol.Stopwatch(begun=10.0)
    for tokens in ([5], [6, 7, 8], [], [9, 10]):
        watch.take(tokens)
    assert watch.run() == protocol.Run([5, 6, 7, 8, 9, 10], first_s=2.0, num_first=1, decode_s=1.5, rounds=2)


def test_a_text_without_tokens_has_no_times() -> None:
    with pytest.raises(ValueError, match="no token came"):
        protocol.Stopwatch().run()


def test_resident_memory_is_read_from_the_systems_own_words() -> None:
    assert protocol.parse_memory(STATUS) == {"now": 383660 * 1024, "peak": 441172 * 1024}
    assert protocol.parse_memory("Name:\tkernel thread\n") is None


@pytest.mark.parametrize("threads", [1, 6])
def test_libraries_are_held_to_the_threads_that_were_asked_for(threads: int) -> None:
    environment: dict[str, Any] = protocol.thread_environment(threads)
    assert {environment[name] for name in environment if name.endswith("NUM_THREADS")} == {str(threads)}
