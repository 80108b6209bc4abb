"""The line below an answer, and the meter in the margin."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helix_cli.core import FinishReason
from helix_cli.ui.turn import context_meter, turn_line
from tests.ui.screens import finished_event


def test_the_line_has_the_numbers() -> None:
    line = turn_line(finished_event())
    assert line == ("5 tokens, 10.0 tok/s, first token 500 ms, 3 of 7 prompt tokens reused, 50 % of the draft accepted")
    assert turn_line(finished_event(FinishReason.ABORT)).endswith(", stopped")
    assert "draft" not in turn_line(finished_event(drafted=0))


@pytest.mark.parametrize(
    ("used", "columns", "meter"),
    [(0, 80, "context 0 %"), (512, 80, "context 50 %"), (512, 40, "50 %"), (9999, 40, "100 %")],
)
def test_the_meter_fits_the_margin(used: int, columns: int, meter: str) -> None:
    assert context_meter(used, 1024, columns) == meter


def test_a_measured_depth_is_named() -> None:
    event = finished_event()
    deep = replace(event, stats=replace(event.stats, depth_mean=3.25))
    assert turn_line(deep).endswith("accepted, mean depth 3.2")
