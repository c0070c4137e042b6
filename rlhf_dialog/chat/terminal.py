"""Talking in the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rich.markup import escape
from rich.table import Table

from rlhf_dialog.chat.conversation import Chat, Weighed
from rlhf_dialog.console import console
from rlhf_dialog.errors import UserError

HELP = """\
/reset           forget what was said
/persona A | B   who replies, in sentences; alone: show it
/seed N          of the next conversation's replies
/why             the candidates for the last reply, with their scores
/save FILE       the conversation, as a line of this project's JSON lines
/help, /quit"""


def talk(chat: Chat, read: Callable[[str], str] = input) -> None:
    """Reads lines until /quit or the end of input, and prints a reply to each.

    A mistake is told, a reply can be stopped with Ctrl-C, and the conversation goes on.
    """
    console.print("[dim]Say something; /help lists the commands.[/dim]")
    while True:
        try:
            line = read("you> ").strip()
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        if line == "/quit":
            return
        try:
            if line.startswith("/"):
                _command(chat, *line[1:].partition(" ")[::2])
            elif line:
                console.print(f"[bold]bot>[/bold] {escape(chat.reply(line))}")
        except UserError as error:
            console.print(f"[red]{escape(str(error))}[/red]")
        except KeyboardInterrupt:  # nothing of the exchange is remembered
            console.print("\n[dim]stopped; the conversation is as it was before[/dim]")


def _command(chat: Chat, name: str, rest: str) -> None:
    rest = rest.strip()
    if name == "reset":
        chat.reset()
        console.print("[dim]forgotten[/dim]")
    elif name == "persona":
        if rest:
            chat.be(rest.split("|"))
        console.print(f"[dim]{escape(' | '.join(chat.persona)) or 'no persona'}[/dim]")
    elif name == "seed":
        if not rest.isdecimal():
            raise UserError(f"/seed {rest}: give a whole number from 0 up.")
        chat.decoding = replace(chat.decoding, seed=int(rest))
        console.print(f"[dim]seed {int(rest)}[/dim]")
    elif name == "why":
        _why(chat.candidates)
    elif name == "save":
        if not rest:
            raise UserError("/save: name a file, as in /save talk.jsonl.")
        console.print(f"[dim]{escape(str(chat.save(rest)))}[/dim]")
    elif name == "help":
        console.print(HELP, markup=False)
    else:
        raise UserError(f"/{name}: is no command; /help lists them.")


def _why(candidates: list[Weighed]) -> None:
    if not candidates:
        raise UserError("/why: there is no reply yet.")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("discriminator", justify="right")
    table.add_column("rank", justify="right")
    table.add_column("candidate")
    for candidate in candidates:
        table.add_row(number(candidate.score), number(candidate.rank), escape(candidate.text))
    console.print(table)


def number(value: float | None) -> str:
    """Two decimals, or a dash where there is no score."""
    return "-" if value is None else f"{value:+.2f}"
