"""The content of the artifacts, without a server: outcome rows, the chart, the report's page."""

import re
from collections import Counter
from pathlib import Path
from shlex import quote

import pytest

from features.extraction.outcome import Outcome
from features.maintenance.status import ClipStatus, Status
from flows.server.markdown import (
    MAX_LETTERS,
    Coverage,
    SetCoverage,
    code,
    mermaid,
    outcome_rows,
    picture_page,
    report_page,
    set_coverage,
)
from models.metrics.scores import SplitScore
from models.stages.score_head import ScoreResult

CLIP, AST = "clip-0123456789ab", "ast-ba9876543210"
SCORE = SplitScore(0.7, 0.6, 0.65, 1000, 4, 3, 2, *[None] * 6)
WHOLE = SetCoverage(CLIP, 20, 20)
PART = SetCoverage(AST, 20, 17, Counter({"missing": 2, "quarantined": 1}))


def outcome(clip: str, state: str, detail: str = "", **more) -> Outcome:
    return Outcome(clip, CLIP, state, detail, **more)


def test_failed_rows_come_first_and_the_order_within_a_state_is_kept():
    ends = ["present", "extracted", "failed", "quarantined", "extracted", "failed"]
    rows = outcome_rows([outcome(f"c{k}", state) for k, state in enumerate(ends)])
    assert [row["clip"] for row in rows] == ["c2", "c5", "c3", "c1", "c4", "c0"]
    row = outcome_rows([outcome("a", "extracted", note="no sound", reason="new")])[0]
    assert row == {
        "clip": "a",
        "feature set": CLIP,
        "state": "extracted",
        "reason": "new",
        "detail": "no sound",
    }


def test_rows_beyond_the_cap_are_counted_by_state():
    states = ["present"] * 5 + ["extracted"] * 3 + ["failed"] * 2
    rows = outcome_rows([outcome(f"c{k}", state) for k, state in enumerate(states)], most=3)
    assert [row["state"] for row in rows] == ["failed", "failed", "extracted", ""]
    assert rows[-1]["clip"] == "and 7 more"
    assert rows[-1]["detail"] == "2 extracted, 5 present"
    assert len(outcome_rows([outcome("c", "failed")] * 3, most=3)) == 3  # nothing to count
    assert outcome_rows([]) == []


def test_a_detail_is_one_short_line_that_is_neither_html_nor_a_link():
    evil = "<img src=http://x/y>\n![p](http://x/y) [a](http://x)"
    detail = outcome_rows([outcome("c", "failed", evil)])[0]["detail"]
    assert not re.search(r"[<>\n]|\]\(", detail)
    assert "http://x/y" in detail
    named = outcome_rows([outcome("c", "failed", "a\u202e\u2028\udce9\x1b b")])[0]["detail"]
    assert named == r"a\u202e \udce9\x1b b"
    long = outcome_rows([outcome("c", "failed", "ab " * 500)])[0]["detail"]
    assert len(long) == MAX_LETTERS
    assert long.endswith(" ...")
    assert outcome_rows([outcome("c", "failed", "a" * MAX_LETTERS)])[0]["detail"][-1] == "a"


def test_coverage_is_counted_for_each_requested_feature_set():
    states = ["complete"] * 3 + ["missing", "quarantined", "missing"]
    clips = [ClipStatus(f"c{k}", CLIP, state, "") for k, state in enumerate(states)]
    other = ClipStatus("c0", "clip-old", "complete", "")
    found = set_coverage(Status((*clips, other)), [CLIP, AST], 6)
    assert found == (
        SetCoverage(CLIP, 6, 3, Counter({"missing": 2, "quarantined": 1})),
        SetCoverage(AST, 6, 0, Counter({"missing": 6})),  # the store has no such set yet
    )


def test_the_chart_has_the_stages_in_order_with_the_coverage_of_each_set():
    text = mermaid(Coverage(20, (WHOLE, PART), "val mean CCC 0.650"))
    assert text.splitlines()[:7] == [
        "flowchart LR",
        '    index["index<br/>20 clips"]:::done',
        f'    set0["extract-features<br/>{CLIP}<br/>20 of 20 clips (100 %)"]:::done',
        f'    set1["extract-features<br/>{AST}<br/>17 of 20 clips (85 %)<br/>'
        '2 missing, 1 quarantined"]:::part',
        '    train["train-head<br/>val mean CCC 0.650"]:::done',
        '    score["score-head<br/>not run here"]:::idle',
        '    report["report<br/>not run here"]:::idle',
    ]
    assert "    index --> set0 & set1 --> train --> score --> report" in text
    assert "    index --> train --> score" in mermaid(Coverage(1, ()))
    assert "index<br/>1 clip" in mermaid(Coverage(1, ()))
    looks = set(re.findall(r":::(\w+)", text)) | {"none"}
    assert looks == set(re.findall(r"classDef (\w+) ", text))


@pytest.mark.parametrize(
    ("n_complete", "said", "look"),
    [
        (0, "0 of 1000 clips (0 %)", "none"),
        (999, "999 of 1000 clips (99 %)", "part"),  # not 100 % before all are there
        (1000, "1000 of 1000 clips (100 %)", "done"),
    ],
)
def test_a_share_is_rounded_down(n_complete, said, look):
    text = mermaid(Coverage(1000, (SetCoverage(CLIP, 1000, n_complete),)))
    assert f'{said}"]:::{look}' in text


def test_a_text_in_the_chart_cannot_end_its_node():
    text = mermaid(Coverage(1, (), score='val"]; click index "http://x" #'))
    assert 'score["score-head<br/>val#quot;]; click index #quot;http://x#quot; #35;"]' in text


def test_the_page_repeats_the_chart_as_a_table():
    coverage = Coverage(20, (PART,), "trained", "val: mean CCC 0.650", Path("r/report.html"))
    page = picture_page(coverage, Path("m.jsonl"), "s3://bucket/x`y")
    assert page.startswith("Manifest `m.jsonl`, store `` s3://bucket/x`y ``.\n\n```mermaid\nflow")
    assert (
        f"| extract-features | {AST} | 17 of 20 clips (85 %) | 2 missing, 1 quarantined |" in page
    )
    assert "| report |  | report.html |  |" in page


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a b", "`a b`"), ("a\n b", "`a b`"), ("`a``", "``` `a`` ```"), ("", "``")],
)
def test_code_in_markdown_shows_every_letter(text, shown):
    assert code(text) == shown


def test_a_served_report_is_a_link():
    result = ScoreResult("scored", Path("r"), "val", SCORE, ())
    page = report_page(result, Path("/w/r/report.html"), "box", "http://h:8/r/report.html")
    assert "| val | 0.700 | 0.600 | 0.650 | 1000 | 4 |" in page
    assert "[Open the report](<http://h:8/r/report.html>)" in page
    assert "http.server" not in page


def test_the_page_of_a_report_that_is_not_served_has_its_path_and_the_command_to_serve_it():
    result = ScoreResult("scored", Path("r"), "val", SCORE, ())
    page = report_page(result, Path("/w/it's r/report.html"), "box", None)
    assert "The report is `/w/it's r/report.html` on `box`." in page
    assert (
        "    python -m http.server --bind 127.0.0.1 --directory " + quote("/w/it's r") + " 8000"
        in page
    )
    assert "](" not in page  # a link to a file leads nowhere from a server's page
