"""The report: what is counted as what, which exit code, and a page that needs nothing else."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from helix_cli.checks.check import Check, Outcome, Result, Skip
from helix_cli.checks.effort import EFFORTS
from helix_cli.checks.page import page
from helix_cli.checks.report import SCHEMA_VERSION, Report, judge_run
from helix_cli.checks.runner import run, run_one
from helix_cli.checks.subject import Subject
from helix_cli.config import Config
from helix_cli.errors import ModelError


def check(result: Result, **evidence: object) -> Check:
    return Check(f"some.{result}", "That it works.", lambda subject: Outcome(result, "Because.", evidence))


def subject() -> Subject:
    def never(*_: object) -> None:
        raise AssertionError

    return Subject(Config(), EFFORTS["quick"], 0, never)  # type: ignore[arg-type]


def report(*checks: Check) -> Report:
    return run(checks, subject(), lambda one: None, lambda record: None, with_hashes=True)


@pytest.mark.parametrize(
    ("results", "code", "says"),
    [
        (["pass", "pass"], 0, "All good: 2 checks passed."),
        (["pass", "skipped"], 0, "All good: 1 checks passed, 1 skipped."),
        (["pass", "tie"], 3, "1 met numeric ties"),
        (["pass", "tie", "fail"], 1, "FAILED: 1 of 3 checks, some.fail"),
        (["skipped"], 2, "Nothing was proved"),
    ],
)
def test_the_verdict(results: list[str], code: int, says: str) -> None:
    found = report(*(check(Result(one)) for one in results))
    assert found.exit_code == code and says in found.verdict


def test_models_that_could_not_be_opened_are_no_success() -> None:
    records = report(check(Result.PASS)).checks
    assert judge_run(records, "no such model") == ("Could not run: no such model", 2)


def test_an_error_inside_a_check_is_a_failure_with_its_message() -> None:
    def broken(error: Exception) -> Check:
        def raising(subject: Subject) -> Outcome:
            raise error

        return Check("some.check", "That it works.", raising)

    for error, result, says in (
        (Skip("not here"), Result.SKIPPED, "not here"),
        (AssertionError("blocks leaked"), Result.FAIL, "blocks leaked"),
        (ModelError("The checkpoint is broken."), Result.FAIL, "The checkpoint is broken."),
        (KeyError("what"), Result.FAIL, "KeyError: 'what'"),
    ):
        record = run_one(broken(error), subject())
        assert record.result is result and says in record.reason


def test_an_interruption_keeps_what_is_done() -> None:
    def interrupted(subject: Subject) -> Outcome:
        raise KeyboardInterrupt

    found = report(check(Result.PASS), Check("some.long", "It.", interrupted), check(Result.FAIL))
    assert found.interrupted
    assert [one.result for one in found.checks] == [Result.PASS, Result.SKIPPED, Result.SKIPPED]
    assert (found.verdict, found.exit_code) == ("Interrupted, without a verdict: 1 checks passed, 2 skipped.", 130)
    assert 'class="verdict skipped"' in page(found)
    failed = report(check(Result.FAIL), Check("some.long", "It.", interrupted))
    assert failed.verdict.startswith("FAILED: 1 of 2 checks, some.fail") and failed.exit_code == 130
    assert 'class="verdict fail"' in page(failed)


def test_the_report_reads_back() -> None:
    found = report(check(Result.PASS, number=1.5))
    again = Report.model_validate_json(found.model_dump_json())
    assert again == found and found.schema_version == SCHEMA_VERSION
    content = json.loads(found.model_dump_json())
    assert set(content["checks"][0]) == {"id", "group", "proves", "result", "reason", "evidence", "seconds"}
    assert {"torch", "python"} <= content["versions"].keys() and content["hardware"]["device"]
    assert all(len(digest) == 64 for model in content["models"] for digest in model["sha256"].values())
    assert len(content["models"]) == 2


class Sources(HTMLParser):
    """Everything that a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_holds_everything_and_loads_nothing() -> None:
    comparison = {"places": [1, 2], "p_value": 0.5, "rows": [["3 4", 0.5, 0.4], ["<5>", 0.0, 0.1]]}
    text = page(report(check(Result.PASS, comparisons=[comparison], note="<b>"), check(Result.FAIL)))
    parser = Sources()
    parser.feed(text)
    assert not parser.found and "script" not in parser.tags and "b" not in parser.tags
    assert parser.tags.count("svg") == 1 and parser.tags.count("rect") == 4
    assert "some.pass" in text and "some.fail" in text and "&lt;5&gt;" in text
