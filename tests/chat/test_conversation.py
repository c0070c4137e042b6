import re
from pathlib import Path

import pytest

from rlhf_dialog.chat.conversation import SILENCE, Chat, Speaker
from rlhf_dialog.chat.terminal import talk
from rlhf_dialog.console import console
from rlhf_dialog.dialogues.readers import read_dialogues
from rlhf_dialog.dialogues.schema import Context
from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.decoding import generate_replies
from rlhf_dialog.generators.input_forms import use_input_form
from rlhf_dialog.settings import DecodingSettings, SpeakerSettings
from tests.conftest import attentive

ROOT = Path(__file__).parents[2]
FEW = DecodingSettings(response_length=8, candidates=4)
RANKED = DecodingSettings(response_length=8, candidates=4, rerank="discriminator")


def test_a_reply_is_what_the_generator_says_to_the_history(speaker):
    chat = Chat(speaker, FEW)
    replies = [chat.reply("where is the captain ?"), chat.reply("안녕 🌸 <|end|>")]
    assert chat.history == [
        "where is the captain ?",
        replies[0],
        "안녕 🌸 <|end|>",
        replies[1],
    ]
    for place, seed in ((1, 0), (3, 1)):
        settings = DecodingSettings(response_length=8, seed=seed)
        (row,) = generate_replies(
            speaker.generator, [chat.history[:place]], settings, context_length=56
        )
        assert chat.history[place] == (row[0].text or SILENCE)


def test_the_history_is_a_window(speaker):
    speaker.max_turns = 2
    chat = Chat(speaker, FEW)
    for text in ("one", "two"):
        chat.reply(text)
    short = Chat(speaker, FEW, history=["a", "b", "c", chat.history[1]])
    long = Chat(speaker, FEW, history=["x", "y", "z", chat.history[1]])
    assert short.reply("two") == long.reply("two")


def test_the_best_candidate_is_the_reply(speaker):
    chat = Chat(speaker, RANKED)
    reply = chat.reply("where is the captain ?")
    assert len(chat.candidates) == 4 and chat.candidates[0].text == reply
    said = [candidate for candidate in chat.candidates if candidate.text]
    scores = [candidate.score for candidate in said]
    assert scores == sorted(scores, reverse=True) == [candidate.rank for candidate in said]
    direct = speaker.discriminator(
        [("where is the captain ?",)] * len(said), [c.text for c in said]
    )
    assert scores == pytest.approx(direct.tolist(), abs=1e-5)
    mmi = Chat(speaker, DecodingSettings(response_length=8, candidates=3, rerank="mmi"))
    mmi.reply("where is the captain ?")
    assert all(candidate.rank < 0 for candidate in mmi.candidates)  # a log-probability


def test_the_persona_reaches_the_prompt(speaker):
    use_input_form(speaker.generator, "persona")
    greedy = DecodingSettings(decoding="greedy", response_length=8)
    replies = set()
    for sentences in ([], ["i sail at night ."], ["the lamp is red ."], ["not me ."]):
        chat = Chat(speaker, greedy)
        chat.be(sentences)
        replies.add(chat.reply("who is there ?"))
    assert len(replies) > 1


def test_a_conversation_is_saved_as_a_dialogue(speaker, tmp_path):
    chat = Chat(speaker, FEW, ("i keep bees .",))
    with pytest.raises(UserError, match="nothing"):
        chat.save(tmp_path / "talk.jsonl")
    chat.reply("日本語で話そう 「こんにちは」")
    chat.save(tmp_path / "talk.jsonl")
    (dialogue,) = read_dialogues(tmp_path / "talk.jsonl")
    assert [turn.text for turn in dialogue.turns] == chat.history
    assert dialogue.persona_of("bot") == ("i keep bees .",)
    with pytest.raises(UserError, match="new file"):
        chat.save(tmp_path / "talk.jsonl")


def test_who_cannot_speak_is_told(folders):
    with pytest.raises(UserError, match="--generator"):
        Speaker.load(SpeakerSettings())
    speaker = Speaker.load(SpeakerSettings(generator=str(folders / "generator")))
    for rerank, needed in (("mmi", "--reverse_generator"), ("discriminator", "--discriminator")):
        with pytest.raises(UserError, match=needed):
            Chat(speaker, DecodingSettings(rerank=rerank, response_length=8)).reply("hello")
    with pytest.raises(UserError, match="response_length"):
        Chat(speaker, DecodingSettings(response_length=64)).reply("hello")
    with pytest.raises(UserError, match="empty"):
        Chat(speaker, FEW).reply("  \n ")


def spoken(chat, *lines):
    """What the terminal shows."""
    waiting = iter(lines)

    def read(prompt):
        try:
            return next(waiting)
        except StopIteration:
            raise EOFError from None

    with console.capture() as capture:
        talk(chat, read)
    return capture.get()


def test_the_terminal(speaker, tmp_path):
    chat = Chat(speaker, RANKED)
    shown = spoken(
        chat,
        *("/why", "hello [bold]you[/bold]", "/why", f"/save {tmp_path / 'a.jsonl'}", "/dance", ""),
        *("/persona i sail. | i am old.", "/seed 7", "/seed x", "/help"),
    )
    assert "no reply yet" in shown and "/dance: is no command" in shown
    assert f"bot> {chat.history[1][:10]}" in shown
    for candidate in chat.candidates:
        assert f"{candidate.score:+.2f}" in shown
    assert chat.persona == ("i sail.", "i am old.") and chat.decoding.seed == 7
    assert "whole number" in shown and "/persona A | B" in shown
    assert read_dialogues(tmp_path / "a.jsonl")[0].turns[0].text == "hello [bold]you[/bold]"
    once = [spoken(chat, "/reset", "hello", "again", "/quit", "never") for _ in range(2)]
    assert once[0] == once[1] and len(chat.history) == 4


def test_a_reply_can_be_stopped(speaker, monkeypatch):
    chat = Chat(speaker, FEW)
    spoken(chat, "hello")
    before, answers = list(chat.history), Speaker.answers

    def slow(self, contexts, decoding):
        if contexts[0][-1] == "a long story":
            raise KeyboardInterrupt
        return answers(self, contexts, decoding)

    monkeypatch.setattr(Speaker, "answers", slow)
    shown = spoken(chat, "a long story", "again")
    assert "stopped" in shown and chat.history[:2] == before and chat.history[2] == "again"


def test_ten_lines_of_the_readme(folders, monkeypatch, capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"A chatbot in ten lines.*?```python\n(.*?)```", text, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    (folders / "runs/demo").mkdir(parents=True)
    (folders / "generator").rename(folders / "runs/demo/generator")
    monkeypatch.chdir(folders)
    lines = iter(["where is the captain ?", "why ?", ""])
    monkeypatch.setattr("builtins.input", lambda prompt="": next(lines))
    names = {}
    exec(code, names)
    history = names["chat"].history
    assert history[::2] == ["where is the captain ?", "why ?"]
    assert capsys.readouterr().out.splitlines() == [f"bot> {reply}" for reply in history[1::2]]


def test_a_summarizer_sums_up_what_the_generator_does_not_see(folders, make_generator):
    generator = make_generator("gpt2", sharp=True)
    summarizer = attentive(make_generator("t5"))
    settings = SpeakerSettings(
        generator=str(folders / "generator"),
        summarizer=str(folders / "summarizer"),
        summary_tokens=8,
    )
    summarizer.save(folders / "summarizer")
    with pytest.raises(UserError, match="reads the form 'dialogpt', which has no summary"):
        Speaker.load(settings)
    use_input_form(generator, "summary")
    generator.save(folders / "generator")
    chat = Chat(Speaker.load(settings), DecodingSettings(decoding="greedy", response_length=8))
    for text in ("where is the lamp ?", "not me .", "who is there ?"):
        chat.reply(text)
    one, first, two, second, three, _ = chat.history
    texts = [f"user: {one}\nbot: {first}", f"user: {one}\nbot: {first}\nuser: {two}\nbot: {second}"]
    known = chat.speaker.summarizer.known
    assert list(known) == texts and all(known.values())
    contexts = [
        Context([one]),
        *(Context([t], (), known[x]) for t, x in zip((two, three), texts, strict=True)),
    ]
    replies = generate_replies(chat.speaker.generator, contexts, chat.decoding, context_length=56)
    assert [row[0].text or SILENCE for row in replies] == chat.history[1::2]
