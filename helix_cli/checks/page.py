"""A report as one HTML page with nothing outside it, to attach to a bug report: every check, the laws drawn."""

from __future__ import annotations

import json
from collections import Counter
from html import escape
from typing import Any

from helix_cli.checks.check import Result
from helix_cli.checks.report import ALL_GOOD, ONLY_TIES, CheckRecord, Report

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em;
  color: #1c2430; background: #fff }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .3em .7em .3em 0;
  border-bottom: 1px solid #e3e6ea } code { font: 13px ui-monospace, monospace }
.pass { color: #176b3a } .tie { color: #8a5a00 } .fail { color: #b3261e; font-weight: 700 } .skipped { color: #5f6b7a }
.verdict { font-size: 1.2em; padding: .6em 1em; border-left: .4em solid; background: #f6f7f9 }
details pre { white-space: pre-wrap; font-size: 12px; background: #f6f7f9; padding: .6em }
figure { display: inline-block; margin: 0 1.5em 1em 0 } figcaption { font-size: 13px; color: #5f6b7a }
@media (prefers-color-scheme: dark) { body { color: #e6e9ee; background: #14181f }
  td, th { border-color: #2c3440 } .verdict, details pre { background: #1d232c }
  .pass { color: #6fcf97 } .tie { color: #e0b050 } .fail { color: #ff8a80 } .skipped, figcaption { color: #98a3b3 } }
"""
BAR_HEIGHT, BAR_WIDTH, LABEL_WIDTH = 9, 260, 90
EXPECTED, SEEN = "#7b8794", "#2f6fde"


def page(report: Report) -> str:
    """The whole document."""
    title = "helix validate"
    parts = [
        f"<h1>{title}</h1>",
        f'<p class="verdict {_style_of(report)}">{escape(report.verdict)}</p>',
        _facts(report),
        *(_group(report, group) for group in report.groups),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _style_of(report: Report) -> str:
    """How the verdict looks: like the worst result, and like nothing proved where the run has no verdict."""
    if report.count(Result.FAIL):
        return Result.FAIL
    return {ALL_GOOD: Result.PASS, ONLY_TIES: Result.TIE}.get(report.exit_code, Result.SKIPPED)


def _facts(report: Report) -> str:
    hardware = report.hardware
    rows = [
        ("started", f"{report.started}, {report.seconds:.0f} s, effort {report.effort}, seed {report.seed}"),
        ("machine", f"{hardware.device}; {hardware.processor or 'unknown processor'}; {hardware.threads} threads"),
        ("versions", f"helix {report.helix_version}, " + ", ".join(f"{k} {v}" for k, v in report.versions.items())),
        *(
            (
                model.role,
                f"{model.path}, {model.weights or 'not opened'}; "
                + ", ".join(f"{name} {digest[:16]}" for name, digest in model.sha256.items()),
            )
            for model in report.models
        ),
    ]
    if report.exact is not None:
        rows.append(("exact mode", f"{'on' if report.exact else 'off'}: {report.exact_reason}"))
    if report.noise is not None:
        rows.append(("noise", f"{report.noise:.2g}, the largest difference between two ways to cut a text into passes"))
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    settings = escape(json.dumps(report.config, indent=2))
    return f"<table>{cells}</table><details><summary>config</summary><pre>{settings}</pre></details>"


def _group(report: Report, group: str) -> str:
    checks = [one for one in report.checks if one.group == group]
    counts = Counter(str(one.result) for one in checks)
    listed = ", ".join(f"{count} {name}" for name, count in counts.items())
    rows = "".join(map(_row, checks))
    heading = "<tr><th>result</th><th>check</th><th>what it proves, and the evidence</th></tr>"
    return f"<h2>{escape(group)} <small>({listed})</small></h2><table>{heading}{rows}</table>"


def _row(check: CheckRecord) -> str:
    comparisons = check.evidence.get("comparisons", [])
    figures = "".join(_figure(one) for one in comparisons)
    evidence = {key: value for key, value in check.evidence.items() if key != "comparisons"}
    numbers = escape(json.dumps(evidence, indent=1, ensure_ascii=False, default=str))
    details = f"<details><summary>numbers</summary><pre>{numbers}</pre></details>" if evidence else ""
    return (
        f'<tr><td class="{check.result}">{check.result}</td><td><code>{escape(check.id)}</code></td>'
        f"<td>{escape(check.proves)}<br>{escape(check.reason)}{figures}{details}</td></tr>"
    )


def _figure(comparison: dict[str, Any]) -> str:
    """Two bars for each of the likeliest texts: what the target's law expects, and what was seen."""
    rows = comparison["rows"]
    largest = max((share for row in rows for share in row[1:]), default=0.0) or 1.0
    bars = []
    for number, (label, expected, seen) in enumerate(rows):
        y = number * (2 * BAR_HEIGHT + 6)
        bars.append(
            f'<text x="0" y="{y + 2 * BAR_HEIGHT - 4}" font-size="11" fill="currentColor">{escape(label)}</text>'
        )
        for place, (share, colour, name) in enumerate(((expected, EXPECTED, "expected"), (seen, SEEN, "seen"))):
            bars.append(
                f'<rect x="{LABEL_WIDTH}" y="{y + place * BAR_HEIGHT}" width="{share / largest * BAR_WIDTH:.1f}" '
                f'height="{BAR_HEIGHT - 1}" fill="{colour}"><title>{name} {share:.4f}</title></rect>'
            )
    height = len(rows) * (2 * BAR_HEIGHT + 6)
    width = LABEL_WIDTH + BAR_WIDTH
    places = ", ".join(str(place + 1) for place in comparison["places"])
    caption = f"Token {places} of the text: expected (grey) and seen (blue); p {comparison['p_value']:.2g}"
    return (
        f'<figure><svg role="img" aria-label="{caption}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">{"".join(bars)}</svg><figcaption>{caption}</figcaption></figure>'
    )
