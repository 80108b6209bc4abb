"""The model card adds up what was done in several runs."""

from __future__ import annotations

from scripts.demo_report import stage_totals


def test_stages_of_one_name_are_added_up() -> None:
    runs = [
        {"name": "target", "tokens": 4000, "steps": 2, "minutes": 1.1},
        {"name": "draft", "tokens": 10, "steps": 1, "minutes": 0.5},
        {"name": "target", "tokens": 1000, "steps": 1, "minutes": 0.2},
    ]
    assert stage_totals(runs) == {
        "target": {"tokens": "5,000", "steps": "3", "minutes": "1.3"},
        "draft": {"tokens": "10", "steps": "1", "minutes": "0.5"},
    }
