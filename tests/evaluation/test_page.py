"""The report in a real browser, without a window: what a reader meets who opens the file."""

import pytest

from rlhf_dialog.evaluation.pooled import group_runs
from rlhf_dialog.evaluation.pooled_report import write_comparison
from rlhf_dialog.evaluation.report import write_report
from rlhf_dialog.evaluation.run_files import RunFiles
from tests.evaluation.browser import FOUND, NAMES, VIEWS, Browser
from tests.evaluation.reports import EVIL, KOREAN, evil_samples, sample, updates, whole_report

pytestmark = pytest.mark.skipif(
    FOUND is None, reason=f"no browser found, looked for {', '.join(NAMES)}"
)
SHOWN = "[...document.querySelectorAll('.sample')].filter((s) => s.offsetParent).length"


@pytest.fixture(scope="module")
def browser():
    with Browser(timeout=240) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return write_report(folder, whole_report(), updates(), evil_samples())


def choose(browser, name, value, event):
    browser.ask(
        f"(() => {{ const e = document.querySelector('.tools').elements.{name}; e.value = "
        f"{value!r}; e.dispatchEvent(new Event({event!r})); }})()"
    )


def test_it_loads_itself_and_nothing_else_without_complaints(browser, page):
    for width, scheme in VIEWS.values():
        browser.requests.clear()
        browser.open(page, width, scheme)
        assert browser.requests == [page.resolve().as_uri()]
        assert browser.complaints == []
        # nothing sticks out to the side, on a phone least of all
        assert browser.ask("document.documentElement.scrollWidth") <= width
        picture = page.with_name("picture.png")
        browser.photograph(picture, 0, 900)
        assert picture.read_bytes()[:4] == b"\x89PNG"


def test_dark_is_dark(browser, page):
    colour = "getComputedStyle(document.body).backgroundColor"
    browser.open(page, 1280, "light")
    light = browser.ask(colour)
    browser.look(1280, "dark")
    assert (light, browser.ask(colour)) == ("rgb(251, 250, 247)", "rgb(21, 24, 28)")


def test_replies_are_shown_as_text(browser, page):
    browser.open(page)
    assert browser.ask("document.querySelectorAll('script').length") == 1  # the page's own
    text = browser.ask("document.getElementById('sample-list').innerText")
    assert text.count(EVIL) == 2 and KOREAN in text
    speakers = browser.ask("document.querySelector('.speakers').innerText")
    assert EVIL in speakers


def test_the_filter_works(browser, page):
    browser.open(page)
    assert browser.ask(SHOWN) == 3
    assert browser.ask("document.querySelector('.tools output').textContent") == "3 samples"
    choose(browser, "text", "닻을", "input")
    assert browser.ask(SHOWN) == 1
    assert browser.ask("document.querySelector('.tools output').textContent") == "1 of 3"
    choose(browser, "text", "", "input")
    choose(browser, "shown", "-1", "change")  # the judge prefers after in all three
    assert browser.ask(SHOWN) == 0
    choose(browser, "shown", "1", "change")
    assert browser.ask(SHOWN) == 3
    choose(browser, "order", "1", "change")
    assert browser.ask(SHOWN) == 3
    assert browser.complaints == []


def test_hundreds_of_samples_come_in_portions(browser, tmp_path):
    samples = [sample(after=f"reply {n}") for n in range(60)]
    browser.open(write_report(tmp_path, whole_report(), [], samples))
    assert browser.ask(SHOWN) == 24
    button = "document.getElementById('more-samples')"
    assert browser.ask(f"{button}.textContent") == "Show more (36 left)"
    browser.ask(f"{button}.click()")
    assert browser.ask(SHOWN) == 48
    choose(browser, "text", "reply 59", "input")  # the filter looks at all of them
    assert browser.ask(SHOWN) == 1 and browser.ask(f"{button}.hidden")


def test_definitions_are_one_click_away(browser, page):
    browser.open(page)
    browser.ask("document.querySelector('a[href=\"#metric-judge_score\"]').click()")
    assert browser.ask("document.querySelector(':target').innerText").startswith("Judge score")
    targets = "[...document.querySelectorAll('nav a')].map((a) => a.getAttribute('href'))"
    for target in browser.ask(targets):
        assert browser.ask(f"document.querySelector({target!r}) !== null"), target


def test_runs_compared_in_a_browser(browser, tmp_path):
    runs = []
    for seed in range(3):
        report = whole_report() | {"seed": seed, "config": {"reward": "logit", "note": EVIL}}
        runs.append(RunFiles(tmp_path / f"run-{seed}", report, updates(), []))
    constant = whole_report() | {"seed": 0, "config": {"reward": "constant", "note": EVIL}}
    runs.append(RunFiles(tmp_path / "constant", constant, updates(), []))
    page = write_comparison(tmp_path / "comparison", group_runs(runs))
    for width, scheme in VIEWS.values():
        browser.open(page, width, scheme)
        assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.complaints == []
    verdict = browser.ask("document.getElementById('verdict').innerText")
    assert verdict.startswith("Over 3 seeds the frozen judge's score rises by 0.84 (logit reward;")
    warnings = browser.ask("document.getElementById('warnings').innerText")
    assert "A control moves the judge: constant reward, +0.84" in warnings
