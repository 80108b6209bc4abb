"""Prompt lookup against a plain search of the whole text."""

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from helix_cli.core import Wanted
from helix_cli.draft.ngram import NgramDrafter

EOS = 9


def sequence(tokens: list[int], ignore_eos: bool = False) -> Any:
    """The fields the drafter looks at."""
    return SimpleNamespace(id=1, tokens=tokens, params=SimpleNamespace(ignore_eos=ignore_eos))


def propose(drafter: NgramDrafter, one: Any, depth: int) -> list[int]:
    """The proposed tokens, [] for none."""
    draft = drafter.propose([Wanted(one, depth)]).get(one.id)
    if draft is None:
        return []
    assert draft.length == len(draft.tokens) and draft.probs is None
    tokens: list[int] = draft.tokens.tolist()
    return tokens


def search(tokens: list[int], shortest: int, longest: int) -> int | None:
    """Where the longest, most recent earlier match of the suffix ends, by trying everything."""
    for length in range(longest, shortest - 1, -1):
        for end in range(len(tokens) - 1, length - 1, -1):
            if tokens[end - length : end] == tokens[len(tokens) - length :]:
                return end
    return None


def test_copies_what_followed_the_longest_match() -> None:
    drafter = NgramDrafter(2, 4, frozenset())
    assert propose(drafter, sequence([5, 1, 2, 3, 7, 1, 2, 4, 8, 5, 1, 2]), 3) == [3, 7, 1]


def test_prefers_the_most_recent_of_equal_matches() -> None:
    assert propose(NgramDrafter(2, 4, frozenset()), sequence([1, 2, 3, 0, 1, 2, 4, 0, 1, 2]), 1) == [4]


def test_a_loop_is_continued_past_the_end() -> None:
    assert propose(NgramDrafter(2, 4, frozenset()), sequence([1, 2, 1, 2]), 6) == [1, 2, 1, 2, 1, 2]


def test_ends_after_an_eos_unless_it_is_ignored() -> None:
    tokens = [1, 2, EOS, 4, 1, 2]
    assert propose(NgramDrafter(2, 4, frozenset({EOS})), sequence(tokens), 4) == [EOS]
    assert propose(NgramDrafter(2, 4, frozenset({EOS})), sequence(tokens, ignore_eos=True), 3) == [EOS, 4, 1]


def test_forget_drops_the_index() -> None:
    drafter = NgramDrafter(1, 2, frozenset())
    assert propose(drafter, sequence([3, 4, 3]), 1) == [4]
    drafter.forget(1)
    assert propose(drafter, sequence([5, 6, 5]), 1) == [6]


@given(
    st.lists(st.integers(0, 2), max_size=40),
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), max_size=5),
    st.integers(1, 2),
    st.integers(0, 3),
)
def test_equals_a_full_search_while_the_text_grows(
    start: list[int], growth: list[list[int]], shortest: int, more: int
) -> None:
    drafter = NgramDrafter(shortest, shortest + more, frozenset())
    one = sequence(list(start))
    for new in [[], *growth]:
        one.tokens.extend(new)
        end = search(one.tokens, shortest, shortest + more)
        proposed = propose(drafter, one, 1)
        assert proposed == ([] if end is None else [one.tokens[end]])
