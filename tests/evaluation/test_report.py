"""The report as a reader meets it: files, page, Markdown, terminal."""

import copy
import io
import json
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from rlhf_dialog.evaluation import findings
from rlhf_dialog.evaluation.charts import HEALTH, draw_curves, strip
from rlhf_dialog.evaluation.report import METRICS, print_report, write_report
from tests.evaluation.reports import EVIL, KOREAN, metric, sample


class Page(HTMLParser):
    """Collects what the tests ask of a page."""

    VOID = frozenset({"meta", "input", "br"})

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads, self.tags, self.open = [], [], [], [], []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        self.links += [attributes[key] for key in ("href", "xlink:href") if key in attributes]
        self.loads += [attributes[key] for key in ("src", "srcset", "data") if key in attributes]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words += data


def test_writes_three_files_and_nothing_else(tmp_path, report, history, samples):
    html = write_report(tmp_path / "run", report, history, samples)
    assert html == tmp_path / "run" / "report.html"
    names = sorted(path.name for path in html.parent.iterdir())
    assert names == ["report.html", "report.json", "report.md"]
    assert json.loads((html.parent / "report.json").read_text(encoding="utf-8")) == report


def test_page_is_whole_and_loads_nothing(tmp_path, report, history, samples):
    text = write_report(tmp_path, report, history, samples).read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []  # every tag is closed, in order
    assert len(page.ids) == len(set(page.ids))
    assert page.loads == []
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert {f"metric-{name}" for name in report["metrics"]} <= set(page.ids)
    assert "link" not in page.tags
    assert not re.search(r"@import|url\((?!#)", text)


def test_replies_show_as_text(tmp_path, report, history, samples):
    page = Page(write_report(tmp_path, report, history, samples).read_text(encoding="utf-8"))
    assert page.tags.count("script") == 1
    assert page.words.count(EVIL) == 3  # a context, a reply, the configuration
    assert KOREAN in page.words
    assert "(empty reply)" in page.words
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "<script>" not in re.sub(r"\\.", "", markdown)
    rows = [line for line in markdown.splitlines() if "alert" in line]
    assert rows
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)
    assert KOREAN in markdown.replace("\\", "")


def test_same_input_gives_same_bytes(tmp_path, report, history, samples):
    first = write_report(tmp_path / "a", report, history, samples).read_bytes()
    assert write_report(tmp_path / "b", report, history, samples).read_bytes() == first


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_refuses_numbers_json_cannot_hold(tmp_path, report, history, samples, value):
    report["metrics"]["distinct_2"]["ci95"][1] = value
    with pytest.raises(ValueError, match=r"report\['metrics'\]\['distinct_2'\]\['ci95'\]\[1\]"):
        write_report(tmp_path, report, history, samples)
    assert list(tmp_path.iterdir()) == []


def test_failed_write_keeps_the_old_file(tmp_path, report, monkeypatch):
    html = write_report(tmp_path, report, [], [])
    old = html.read_bytes()

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(tmp_path, report | {"updates": 61}, [], [])
    assert html.read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 3


def test_missing_optional_parts(tmp_path):
    bare = {
        "metrics": {
            "distinct_1": {"before": 0.5, "after": 0.5, "difference": 0.0},
            "f1": {"before": 0.1, "after": 0.2, "difference": 0.1},  # unknown to METRICS
        }
    }
    bare_sample = {"context": ["Hi."], "before": "a", "after": "b", "human": "c"}
    page = Page(write_report(tmp_path, bare, [], [bare_sample]).read_text(encoding="utf-8"))
    assert page.open == []
    assert "no judge score" in page.words
    assert "curves" not in page.ids and "run" not in page.ids
    assert "metric-f1" in page.ids
    console = Console(file=io.StringIO(), width=80)
    print_report(console, bare, [], tmp_path / "report.html")
    assert "Distinct-1" in console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_terminal(tmp_path, report, samples, width):
    console = Console(file=io.StringIO(), width=width)
    wide = [sample(context="선장이 배와 함께 가라앉는 법이지요")] * 9
    print_report(console, report, samples + wide, tmp_path / "report.html")
    lines = console.file.getvalue().splitlines()
    text = " ".join(" ".join(lines).split())
    assert "PLUME-ness 0.84 higher (95 % interval 0.61 to 1.07, n = 240 test contexts)" in text
    assert "+0.84 (0.61 to 1.07)" in text
    assert "4 of 12 samples" in text
    assert lines[-1] == f"The whole report: {tmp_path / 'report.html'}"
    assert "…" not in text  # rich cuts Korean at the edge of a column unless told to fold
    assert all(len(line) <= width for line in lines[:-1])


def test_terminal_takes_no_markup_from_replies(tmp_path, report):
    console = Console(file=io.StringIO(), width=120)
    print_report(console, report, [sample(after="[/red] [bold]Aye[/bold]")], tmp_path / "r.html")
    assert "[/red] [bold]Aye[/bold]" in console.file.getvalue()


@pytest.mark.parametrize(
    ("ci95", "after", "expected"),
    [
        ([0.61, 1.07], -0.76, "scores PLUME-ness 0.84 higher (95 % interval 0.61 to 1.07"),
        ([-0.5, -0.1], -1.9, "scores PLUME-ness 0.30 lower (95 % interval −0.50 to −0.10"),
        ([-0.1, 0.16], -1.57, "sees no clear change in PLUME-ness: +0.03 (95 % interval −0.10 to"),
        (None, -1.57, "changed by +0.03 (no interval given"),
    ],
)
def test_verdict(report, ci95, after, expected):
    report["metrics"]["judge_score"] = metric(-1.6, after, ci95)
    assert expected in findings.verdict(report)
    assert findings.verdict(report).startswith("After 60 updates the frozen judge")


def test_reading_follows_the_better_direction():
    assert findings.reading("perplexity", metric(50.0, 40.0, [-12.0, -8.0])) == "better"
    assert findings.reading("distinct_1", metric(0.5, 0.4, [-0.2, -0.05])) == "worse"
    assert findings.reading("kl", metric(0.0, 2.0, [1.5, 2.5])) == "moved"
    assert findings.reading("judge_score", metric(0.0, 0.1, [-0.1, 0.3])) == "unclear"


@pytest.mark.parametrize(
    ("value", "signed", "expected"),
    [(-0.5, False, "−0.50"), (0.5, True, "+0.50"), (-0.001, True, "0.00"), (None, False, "–")],
)
def test_number(value, signed, expected):
    assert findings.number(value, ".2f", signed) == expected


def test_every_metric_can_be_printed():
    for info in METRICS.values():
        assert format(1.5, info.format)
        assert info.definition.endswith(".")


def test_curves_leave_out_what_was_not_measured(history):
    titles = [chart.title for chart in draw_curves(history)]
    assert titles == ["Reward", "Judge", "KL from the warm start", "Variety", "Reply length"]
    assert [chart.title for chart in draw_curves(history, HEALTH)] == ["Accuracy", "Loss"]
    for row in history:
        del row["objective/kl"]
        row["text/reply_words"] = float("nan")
    left = [chart.title for chart in draw_curves(history)]
    assert len(left) == 3
    assert draw_curves([]) == []
    assert len(draw_curves(history[:1])) == 2  # one update is enough


def test_curves_take_their_colours_from_the_page(history):
    svgs = [chart.svg for chart in draw_curves(copy.deepcopy(history))]
    assert all("var(--after)" in svg for svg in svgs)
    assert not any("#0101" in svg for svg in svgs)
    # black is matplotlib's colour for what nobody coloured: it would vanish in dark mode
    assert not any(re.search(r"(stroke|fill): #0{3,6}\b", svg) for svg in svgs)
    assert not any("<metadata" in svg or "<?xml" in svg for svg in svgs)


def test_strip_places_marks_in_order():
    placed = strip(metric(-1.6, -0.76, [0.61, 1.07], human=-0.5))
    low, high = placed.interval
    assert placed.before == 5.0 and placed.human == pytest.approx(95.0)
    assert placed.before < low < placed.after < high < placed.human
    alone = strip({"before": 0.5, "after": 0.5, "difference": 0.0})
    assert alone.before == alone.after == 50.0 and alone.human is None
