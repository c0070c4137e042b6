"""Talking in a page: two generators side by side, their candidates with scores, decoding at hand.

Needs the extra `chat` (gradio). The page is served to this machine alone unless another host is
given, loads nothing from elsewhere, and shows what is said as text, never as HTML.
"""

from __future__ import annotations

import html
import os
from dataclasses import replace
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from rlhf_dialog.chat.conversation import Chat, Speaker
from rlhf_dialog.chat.terminal import number
from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.loading import load_generator
from rlhf_dialog.settings import DECODINGS, RERANKINGS, DecodingSettings

try:
    import gradio as gr
except ImportError as error:
    raise UserError(
        'the page needs gradio; run pip install -c constraints.txt "rlhf_dialog[chat]", or talk '
        "in the terminal without --page."
    ) from error

FONTS = ["Noto Sans", "Noto Sans CJK KR", "Noto Sans KR", "Noto Sans JP", "system-ui", "sans-serif"]
SIDES = ("base", "tuned")
HEADERS = ["score", "rank", "candidate"]
# field of DecodingSettings -> what the page offers
SLIDERS = {
    "temperature": (0.1, 2.0, 0.1),
    "top_k": (0, 100, 1),
    "top_p": (0.05, 1.0, 0.05),
    "num_beams": (1, 10, 1),
    "repetition_penalty": (1.0, 2.0, 0.05),
    "no_repeat_ngram": (0, 6, 1),
    "candidates": (1, 32, 1),
    "response_length": (4, 128, 1),
    "seed": (0, 9999, 1),
}
CHOICES = {"decoding": list(DECODINGS), "rerank": list(RERANKINGS)}

# What a browser's session holds: the two histories, side -> turns.
State = dict[str, list[str]]


class Page:
    """The page's two speakers and what its buttons do; sessions share the models, not the talk."""

    def __init__(
        self,
        tuned: Speaker,
        base: Speaker | None,
        decoding: DecodingSettings,
        persona: tuple[str, ...],
    ) -> None:
        self.speakers = {"tuned": tuned} | ({"base": base} if base is not None else {})
        self.decoding = decoding
        self.persona = persona

    def send(self, state: State, message: str, persona: str, *values: Any) -> tuple:
        """Says `message` to both; a mistake is told in the status line, and nothing is said."""
        sentences = tuple(line.strip() for line in persona.splitlines() if line.strip())
        shown: State = {side: list(state.get(side, [])) for side in SIDES}
        tables: dict[str, list[list[str]]] = {side: [] for side in SIDES}
        try:
            names = (*CHOICES, *SLIDERS)
            decoding = replace(self.decoding, **dict(zip(names, values, strict=True)))
            for side, speaker in self.speakers.items():
                chat = Chat(speaker, decoding, sentences, shown[side])
                chat.reply(message)
                shown[side] = chat.history
                tables[side] = [[number(c.score), number(c.rank), c.text] for c in chat.candidates]
        except UserError as error:
            return self._view(state, tables, message, f"error: {error}")
        return self._view(shown, tables, "", "")

    def reset(self) -> tuple:
        return self._view({side: [] for side in SIDES}, {side: [] for side in SIDES}, "", "")

    def load(self, side: str, name: str) -> str:
        """Puts another generator on a side; what is said of it goes to the status line."""
        try:
            generator = load_generator(name.strip())
        except UserError as error:
            return f"error: {error}"
        self.speakers[side] = replace(self.speakers["tuned"], generator=generator)
        return f"{side}: {name.strip()}"

    @staticmethod
    def _view(state: State, tables: dict[str, list[list[str]]], message: str, status: str) -> tuple:
        """Values of the outputs: state, talk and table of each side, message, status."""
        talks = [
            [
                {"role": ("user", "assistant")[place % 2], "content": html.escape(text)}
                for place, text in enumerate(state.get(side, []))
            ]
            for side in SIDES
        ]
        return (state, *talks, *(tables[side] for side in SIDES), message, status)

    def blocks(self) -> gr.Blocks:
        with gr.Blocks(title="rlhf_dialog", analytics_enabled=False) as page:
            state = gr.State({})
            status = gr.Textbox(label="Status", elem_id="status", interactive=False, max_lines=3)
            talks, tables = [], []
            with gr.Row():
                for side in SIDES:
                    with gr.Column(visible=side in self.speakers):
                        talks.append(_talk(side))
                        tables.append(_table(side))
            message = gr.Textbox(label="Message", elem_id="message", autofocus=True, max_lines=4)
            with gr.Row():
                send = gr.Button("Send", variant="primary", elem_id="send")
                reset = gr.Button("Reset", elem_id="reset")
            with gr.Accordion("Decoding and persona", open=False):
                persona = gr.Textbox(
                    "\n".join(self.persona), label="Persona, a sentence a line", lines=2
                )
                values = self._controls()
            with gr.Accordion("Models", open=False):
                for side in self.speakers:
                    self._loader(side, status)
            outputs = [state, *talks, *tables, message, status]
            inputs = [state, message, persona, *values]
            # One model at a time: the random state that a seed sets is the process's.
            once = {"concurrency_limit": 1, "concurrency_id": "model", "api_name": False}
            send.click(self.send, inputs, outputs, **once)
            message.submit(self.send, inputs, outputs, **once)
            for event in (reset.click, *(talk.clear for talk in talks)):
                event(self.reset, [], outputs, api_name=False)
        return page

    def _controls(self) -> list:
        with gr.Row():
            chosen: list[Any] = [
                gr.Dropdown(options, value=getattr(self.decoding, name), label=name)
                for name, options in CHOICES.items()
            ]
        with gr.Row():
            for name, (least, most, step) in SLIDERS.items():
                value = getattr(self.decoding, name)
                ends = min(least, value), max(most, value)  # a value outside fails every Send
                chosen.append(gr.Slider(*ends, value, step=step, label=name, min_width=200))
        return chosen

    def _loader(self, side: str, status: gr.Textbox) -> None:
        with gr.Row():
            name = gr.Textbox(label=f"{side}: Hub id or folder", elem_id=f"{side}-model")
            button = gr.Button(f"Load {side}", elem_id=f"load-{side}")
        button.click(
            lambda path: self.load(side, path),
            [name],
            [status],
            concurrency_limit=1,
            concurrency_id="model",
            api_name=False,
        )


def _talk(side: str) -> gr.Chatbot:
    return gr.Chatbot(
        label=side,
        elem_id=f"{side}-talk",
        render_markdown=False,
        allow_tags=False,
        height=340,
        buttons=[],
    )


def _table(side: str) -> gr.Dataframe:
    return gr.Dataframe(
        headers=HEADERS,
        datatype="str",
        label=f"{side}: candidates for the last reply",
        elem_id=f"{side}-candidates",
        interactive=False,
        wrap=True,
        column_widths=["15%", "15%", "70%"],
    )


def open_page(
    tuned: Speaker,
    base: Speaker | None,
    decoding: DecodingSettings,
    persona: tuple[str, ...] = (),
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    wait: bool = True,
) -> gr.Blocks:
    """Serves the page; returns when it is closed, or at once without `wait`.

    Raises:
        UserError: the port is taken.
    """
    page = Page(tuned, base, decoding, persona).blocks()
    theme = gr.themes.Default(font=FONTS, font_mono=["monospace"])  # none from elsewhere
    try:
        page.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=not wait,
            footer_links=[],
            ssr_mode=False,
            theme=theme,
        )
    except OSError as error:
        raise UserError(
            f"--port {port}: cannot be served on ({str(error).splitlines()[0]}); give another."
        ) from error
    return page
