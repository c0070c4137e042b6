"""The page, by its functions and in a browser; RLHF_DIALOG_SCREENSHOTS=FOLDER keeps pictures."""

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_dialog.settings import DecodingSettings
from tests.chat.browser import CHROMIUM, Browser

pytest.importorskip("gradio", reason="the page needs the extra `chat` (gradio)")

from rlhf_dialog.chat.page import CHOICES, SLIDERS, Page, gr, open_page

DECODING = DecodingSettings(response_length=8, candidates=3, rerank="discriminator", top_k=20)
ELSEWHERE = ("http://127.0.0.1", "data:", "blob:", "about:")


@pytest.fixture
def two(speaker):
    return replace(speaker), replace(speaker, generator=speaker.reverse)


def values(decoding):
    return [getattr(decoding, name) for name in (*CHOICES, *SLIDERS)]


def test_both_answer_and_an_error_leaves_everything(two):
    page = Page(*two, DECODING, ())
    state, base, tuned, table, _, message, status = page.send(
        {}, "hello <b>", "i sail.", *values(DECODING)
    )
    assert message == status == ""
    assert [turn["role"] for turn in base] == ["user", "assistant"]
    # What a browser shows as it was typed: it takes the content for HTML.
    assert base[0] == tuned[0] == {"role": "user", "content": "hello &lt;b&gt;"}
    assert len(table) == 3
    greedy = [*values(replace(DECODING, decoding="greedy"))]
    after = page.send(state, "again", "", *greedy)  # greedy has no three candidates
    assert after[0] == state and after[1] == base and after[5] == "again"
    assert after[6].startswith("error:") and "greedy" in after[6]
    assert page.reset()[0] == {"base": [], "tuned": []}


def test_adjusting_decoding_changes_the_reply(two):
    page = Page(two[0], None, DECODING, ())
    replies = {
        str(page.send({}, "where is the captain ?", "", *values(changed))[2][1])
        for changed in (DECODING, replace(DECODING, seed=5), replace(DECODING, top_k=1))
    }
    assert len(replies) > 1


def test_the_sliders_take_the_values_they_begin_with(two):
    low = {"temperature": 0.05, "top_p": 0.01, "response_length": 2, "repetition_penalty": 0.9}
    high = {"temperature": 3.0, "top_k": 500, "response_length": 200}
    for values in (low, high):
        page = Page(*two, DecodingSettings(**values), ())
        with gr.Blocks():
            controls = {control.label: control for control in page._controls()}
        assert {name: controls[name].preprocess(value) for name, value in values.items()} == values


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to drive the page with")
def test_the_page_in_a_browser(two, folders, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pictures = Path(os.environ.get("RLHF_DIALOG_SCREENSHOTS", tmp_path))
    served = open_page(*two, DECODING, port=port, wait=False)
    try:
        with Browser(tmp_path / "profile") as browser:
            browser.call("Page.navigate", url=f"http://127.0.0.1:{port}")
            browser.wait("document.querySelector('#message textarea') !== null")
            browser.type("message", "where is the captain ? <img src=x onerror=alert(1)>")
            browser.click("send")
            said = "[...document.querySelectorAll('#base-talk .bot, #tuned-talk .bot')]"
            browser.wait(f"{said}.filter(b => b.innerText.trim()).length >= 2")
            for side in ("base", "tuned"):
                shown = browser.wait(
                    f"document.querySelector('#{side}-candidates').innerText.match(/[+-]\\d\\.\\d\\d/g)"
                )
                assert len(shown) >= 3  # the discriminator's scores
                talk = browser.run(f"document.querySelector('#{side}-talk').innerText")
                assert "<img src=x" in talk  # as text
            browser.screenshot(pictures / "replies.png")

            browser.click("reset")
            browser.wait("!document.querySelector('#tuned-talk').innerText.includes('captain')")
            browser.run(
                "[...document.querySelectorAll('button')]"
                ".filter(b => b.innerText.trim().startsWith('Models'))[0].click()"
            )
            browser.wait(
                "document.querySelector('#tuned-model textarea, #tuned-model input') !== null"
            )
            browser.type("tuned-model", str(folders / "nowhere"))
            browser.click("load-tuned")
            field = "document.querySelector('#status textarea, #status input').value"
            assert "cannot be loaded" in browser.wait(f"{field}.includes('error') && {field}")
            browser.screenshot(pictures / "error.png")
            outside = [url for url in browser.requested if not url.startswith(ELSEWHERE)]
            assert outside == []
    finally:
        served.close()
