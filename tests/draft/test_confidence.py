"""A draft's confidence is believed once its tokens were judged, and a bad guess is put to the test again."""

from __future__ import annotations

from helix_cli.draft.confidence import FEW, Confidence


def test_nothing_bad_is_believed_of_what_was_hardly_seen() -> None:
    confidence = Confidence()
    for _ in range(int(FEW) - 1):
        confidence.observe(0.35, False)
    assert confidence.chance(0.35) == 1.0
    for _ in range(3):
        confidence.observe(0.35, False)
    assert confidence.chance(0.35) < 0.1 and confidence.chance(0.95) == 1.0


def test_what_was_judged_counts_more_than_the_draft_says() -> None:
    confidence = Confidence()
    for _ in range(50):
        confidence.observe(0.35, True)
    assert confidence.chance(0.35) > 0.95


def test_a_confidence_that_is_no_longer_drawn_is_tried_again() -> None:
    """Tokens that are not drawn are not judged: without fading, one bad start would last for ever."""
    confidence = Confidence()
    for _ in range(12):
        confidence.observe(0.35, False)
    assert confidence.chance(0.35) < 0.5
    for _ in range(200):
        confidence.observe(0.95, True)
    assert confidence.chance(0.35) == 1.0
