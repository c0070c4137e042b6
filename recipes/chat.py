"""Talk to a generator, in the terminal or in a page.

    python recipes/chat.py --generator runs/demo/generator \\
        --discriminator runs/demo/discriminator --rerank discriminator --candidates 8
    python recipes/chat.py --generator runs/demo/generator --base runs/demo/warm_start \\
        --discriminator runs/demo/discriminator --page true

The page shows two generators side by side, at http://127.0.0.1:7860. docs/decoding_and_chat.md has
the commands and the ways of decoding.
"""

from __future__ import annotations

from dataclasses import replace

from rlhf_dialog.chat.conversation import Chat, Speaker
from rlhf_dialog.chat.terminal import talk
from rlhf_dialog.console import console, is_main_process, run_recipe
from rlhf_dialog.errors import UserError
from rlhf_dialog.parsing import parse
from rlhf_dialog.settings import ChatSettings, DecodingSettings, SpeakerSettings


def main() -> None:
    kinds = (ChatSettings, SpeakerSettings, DecodingSettings)
    settings, models, decoding = parse(kinds, default_config=None)
    if not is_main_process():
        return
    if settings.base is not None and not settings.page:
        raise UserError("--base: is a second generator for the page; add --page true.")
    if settings.page:
        from rlhf_dialog.chat.page import open_page  # gradio is an extra
    speaker = Speaker.load(models)
    persona = tuple(settings.persona or ())
    if not settings.page:
        talk(Chat(speaker, decoding, persona))
        return
    base = None
    if settings.base is not None:
        base = replace(speaker, generator=Speaker.load(SpeakerSettings(settings.base)).generator)
    console.print(f"http://{settings.host}:{settings.port} (Ctrl-C ends it)")
    open_page(speaker, base, decoding, persona, host=settings.host, port=settings.port)


if __name__ == "__main__":
    run_recipe(main)
