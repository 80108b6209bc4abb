"""A report there and back, as CSV, Markdown, tables and charts, and against another one."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from helix_cli.bench.compare import change_table, compare, differences
from helix_cli.bench.memory import peak_memory, peak_since_restart, restart_peak
from helix_cli.bench.page import report_page
from helix_cli.bench.plot import check_plot, draw, image
from helix_cli.bench.reporting import pooled_verdict, read_report, to_csv, to_json
from helix_cli.bench.schema import Problem, Report, Text
from helix_cli.bench.tables import describe, markdown, tables
from helix_cli.errors import InputError
from helix_cli.stats import Trace
from tests.bench.made import CONDITION, report

FAILURE = Problem(arm="transformers", workload=None, message="no | such <model>", is_failure=True)


def saved(directory: Path, one: Report, name: str = "a.json") -> Path:
    file = directory / name
    file.write_text(to_json(one), encoding="utf-8")
    return file


def test_a_report_comes_back_as_it_was(tmp_path: Path) -> None:
    one = report(problems=[FAILURE])
    assert read_report(saved(tmp_path, one)) == one
    content = json.loads(to_json(one))
    assert content["schema_version"] == 1 and one.failed and not report().failed
    for row in content["rows"]:
        assert row["runs"][0]["texts"][0]["commits"], "raw samples"
        about = row["setup"]
        assert about["target"]["sha256"] and about["versions"] and about["hardware"] and about["config"]
        assert {"device", "dtype", "threads", "seed", "k", "rule"} <= about.keys()


def test_a_trace_survives_the_schema() -> None:
    trace = Trace(num_prompt_tokens=8, block_size=4, submitted=100.0, num_reused=4)
    trace.record_commit(100.5, 1)
    trace.record_time(0.1, 0.2, 0.3)
    trace.record_round(4, 2)
    trace.record_commit(101.0, 3)
    trace.record_blocks(3, 11)
    again = Text.of(trace, (1, 2, 3, 4)).trace()
    assert [(time, count) for time, count in again.commit_times] == [(0.5, 1), (1.0, 3)]
    assert (again.drafted, again.accepted, again.round_times) == ([4], [2], [(0.1, 0.2, 0.3)])
    assert (again.num_reused, again.peak_blocks, again.peak_positions) == (4, 3, 11)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "Invalid JSON"), ('{"schema_version": 2}', "schema_version"), ('{"a": 1}', "created")],
)
def test_files_that_are_no_report(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_report(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_report(tmp_path / "missing")


def test_csv_has_a_line_a_row_and_no_samples() -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(report()))))
    assert [line["arm"] for line in lines] == ["plain", "speculative"]
    assert float(lines[0]["figures.speed"]) > 0 and lines[0]["setup.target.weights"] == "float32"
    assert json.loads(lines[1]["setup.config"]) == {"draft": {"k": 4}}
    assert not any("runs" in name or "commits" in name for name in lines[0])
    assert "setup.draft" not in lines[0] and lines[0]["setup.draft.name"] == "", "no column of its own for a table"
    assert float(lines[1]["figures.speed_up.ratio"]) > 1.0 and "figures.speed_up" not in lines[0]


def test_tables_say_what_has_no_number() -> None:
    one = report(problems=[FAILURE])
    made = {table.title: table for table in tables(one)}
    assert made["Without a number"].rows == (("all", "transformers", "failed", "no | such <model>"),)
    speed = made["Speed, tokens a second"]
    assert [row[:2] for row in speed.rows] == [("chat", "plain"), ("chat", "speculative")]
    assert speed.shares[1] == 1.0 > speed.shares[0] and not any(row[1] == "transformers" for row in speed.rows)
    assert "Batches" not in made and made["Keys and values"].rows[0][2:5] == ("5", "2", "32")
    assert all(len(row) == len(table.columns) for table in made.values() for row in table.rows)
    text = markdown("T", list(describe(one)), list(made.values()))
    assert "| all | transformers | failed | no \\| such <model> |" in text and "- Memory bandwidth 10.0 GB/s" in text


def test_no_probe_is_no_number() -> None:
    one = report(condition=CONDITION.model_copy(update={"read_bandwidth": None, "peak_memory": None}))
    line = list(describe(one))[-1]
    assert "not probed" in line and "unknown" in line


@pytest.mark.parametrize("name", ["x.png", "x.svg", "x.html"])
def test_charts(tmp_path: Path, name: str) -> None:
    page = report_page(report(problems=[FAILURE]))
    content = image(page.figure(), tmp_path / name, page.title, page.lines, page.tables)
    if name == "x.png":
        assert content.startswith(b"\x89PNG")
        return
    text = content.decode()
    assert "<svg" in text and "</svg>" in text
    if name == "x.html":
        assert text.startswith("<!DOCTYPE html>") and "no | such &lt;model&gt;" in text
        assert "<script" not in text and "src=" not in text, "one file is all there is"


def test_a_chart_of_nothing_is_still_a_chart(tmp_path: Path) -> None:
    empty = report().model_copy(update={"rows": ()})
    assert image(draw(empty), tmp_path / "x.png", "T", [], []).startswith(b"\x89PNG")
    assert pooled_verdict(()).startswith("No arm with a draft was measured")


def test_batches_alone_get_no_verdict_and_are_not_said_to_be_missing() -> None:
    rows = tuple(row.model_copy(update={"kind": "batch"}) for row in report().rows)
    assert pooled_verdict(rows).startswith("Texts ran in batches only")


def test_the_verdict_rests_on_texts_that_both_arms_wrote() -> None:
    """An interrupted run may have shapes of both arms and tasks of one."""
    plain, drafting = report().rows
    shapes = (plain.model_copy(update={"kind": "shape"}), drafting.model_copy(update={"kind": "shape"}))
    for rows in (shapes, (*shapes, plain), (*shapes, drafting)):
        assert pooled_verdict(rows) == pooled_verdict((plain, drafting)) != ""
        assert pooled_verdict(rows).startswith("Speculation pays here")
    assert pooled_verdict((shapes[0], drafting)).startswith("There is no pair of plain and speculative runs")


def test_prompts_that_were_only_read_are_no_batches() -> None:
    rows = tuple(row.model_copy(update={"kind": "prompt"}) for row in report().rows)
    assert pooled_verdict(rows) == "Prompts were only read, so nothing can be said about speculation."


def test_the_models_are_named_where_only_transformers_ran() -> None:
    one = report()
    setup = one.rows[1].setup.model_copy(update={"engine": "transformers"})
    alone = one.model_copy(update={"rows": (one.rows[1].model_copy(update={"setup": setup}),)})
    assert next(describe(alone)).startswith("target (float32), draft draft")


def test_a_batch_is_not_called_a_prompt() -> None:
    one = report(jobs=1)
    rows = tuple(row.model_copy(update={"kind": "batch"}) for row in one.rows)
    batched = one.model_copy(update={"rows": rows})
    assert "(one batch)" in markdown("T", [], tables(batched))
    [plain, drafting] = compare(batched, batched)
    assert plain.verdict == "one batch, no interval" and "1.00 (one batch)" in str(change_table([drafting]).rows)
    assert compare(one, one)[0].verdict == "one prompt, no interval"


def test_a_chart_that_cannot_be_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="does not end in"):
        check_plot(tmp_path / "x.pdf")
    monkeypatch.setattr("helix_cli.bench.plot.find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs matplotlib"):
        check_plot(tmp_path / "x.png")


def test_a_slower_draft_is_outside_the_noise() -> None:
    changes = {change.arm: change for change in compare(report(0.15), report(0.30))}
    assert changes["speculative"].verdict == "slower" and changes["plain"].verdict == "within the noise"
    gain = changes["speculative"].speed_up
    assert gain is not None and gain.ratio == pytest.approx(0.5, rel=0.05)
    assert gain.high is not None and gain.high < 1.0 and changes["plain"].speed_up is None
    table = change_table(list(changes.values()))
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert {change.verdict for change in compare(report(), report())} == {"within the noise"}


def test_speeds_before_and_after_are_those_of_the_common_prompts() -> None:
    old, new = report(jobs=1), report(jobs=3)
    change = compare(old, new)[0]
    assert change.new_speed == change.old_speed == old.rows[0].figures.speed != new.rows[0].figures.speed
    assert change.speed.ratio == pytest.approx(1.0)


def test_what_slowed_both_arms_is_no_change_of_the_gain() -> None:
    old, new = report(), report()
    slower = [
        row.model_copy(
            update={"runs": tuple(run.model_copy(update={"texts": tuple(map(slow, run.texts))}) for run in row.runs)}
        )
        for row in new.rows
    ]
    changes = {change.arm: change for change in compare(old, new.model_copy(update={"rows": tuple(slower)}))}
    assert changes["speculative"].verdict == "slower"
    gain = changes["speculative"].speed_up
    assert gain is not None and gain.ratio == pytest.approx(1.0)


def slow(one: Text) -> Text:
    """The same text on a machine of half the speed."""
    return one.model_copy(update={"commits": tuple((2 * time, count) for time, count in one.commits)})


def test_reports_that_share_nothing_and_what_else_differs() -> None:
    other = report()
    renamed = other.model_copy(update={"rows": tuple(row.model_copy(update={"workload": "x"}) for row in other.rows)})
    with pytest.raises(InputError, match="no prompt in common"):
        compare(report(), renamed)
    changed = other.rows[1].setup.model_copy(update={"threads": 8, "versions": {"helix": "2"}})
    new = other.model_copy(update={"rows": (other.rows[0], other.rows[1].model_copy(update={"setup": changed}))})
    assert list(differences(report(), new)) == [
        "speculative.threads: 2 before, 8 after",
        "speculative.versions.helix: 1 before, 2 after",
        "memory bandwidth: 10.0 GB/s before, 10.0 GB/s after",
    ]


def test_the_peak_of_a_process(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tx\nVmHWM:\t  2048 kB\n")
    assert peak_since_restart(tmp_path) is None, "without clear_refs the peak cannot be restarted"
    (tmp_path / "clear_refs").touch()
    restart_peak(tmp_path)
    assert (tmp_path / "clear_refs").read_text() == "5" and peak_since_restart(tmp_path) == 2 * 2**20
    assert peak_since_restart(tmp_path / "missing") is None
    peak = peak_memory()
    assert peak is None or peak > 2**20
