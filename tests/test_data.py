"""The shipped script holds to what data/README.md promises."""

import json
import re
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from rlhf_dialog.dialogues.readers import read_dialogues
from rlhf_dialog.evaluation.metrics.distinct_n.distinct_n import distinct_n, ngrams, tokens

FOLDER = Path(__file__).parents[1] / "data"
PATH = FOLDER / "tidy_tide.jsonl"
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")
DIALOGUES = read_dialogues(PATH)
TURNS = [(dialogue.id, turn) for dialogue in DIALOGUES for turn in dialogue.turns]
LEAD = [(dialogue_id, turn.text) for dialogue_id, turn in TURNS if turn.speaker == "PLUME"]

# After these words 's stands for "is" or "has"; after any other it marks the owner.
CONTRACTION = re.compile(
    r"\w'(t|re|ve|ll|d|m)\b"
    r"|\b(it|that|this|he|she|who|what|which|when|where|why|how|there|here|let)'s\b"
    r"|(?<!\w)'(tis|twas|twere|twill|em|cause)\b",
    re.IGNORECASE,
)
POSSESSIVE = re.compile(r"(?<=\w)'s\b|(?<=s)'(?!\w)|o'clock|ma'am", re.IGNORECASE)


def test_there_is_enough_of_it():
    assert len(DIALOGUES) >= 100
    assert len(TURNS) >= 3000
    assert len(LEAD) >= 900
    assert {turn.speaker for _, turn in TURNS} == {"PLUME", "NORA", "LOTTIE", "WALTER", "DEV"}


def test_every_line_is_a_scene_with_its_own_id_and_title():
    records = [json.loads(line) for line in PATH.read_text(encoding="ascii").splitlines()]
    assert [set(record) for record in records] == [{"dialogue_id", "title", "turns"}] * len(records)
    for field in ("dialogue_id", "title"):
        repeated = [v for v, n in Counter(r[field] for r in records).items() if n > 1]
        assert not repeated
    assert all(re.fullmatch(r"tidy_tide_s[12]_\d{3}", r["dialogue_id"]) for r in records)


def test_text_is_clean_ascii():
    # Brackets and asterisks would be stage directions or markup left over.
    for dialogue_id, turn in TURNS:
        assert re.fullmatch(r"[A-Za-z0-9 .,;:!?'\"-]+", turn.text), (dialogue_id, turn.text)


def test_nobody_speaks_twice_in_a_row():
    for dialogue in DIALOGUES:
        for before, after in pairwise(dialogue.turns):
            assert before.speaker != after.speaker, (dialogue.id, after.text)


# "words" counts punctuation marks, so more comes back, such as ", bosun ,": 0.78 against 0.91.
@pytest.mark.parametrize(("normalization", "least"), [("whitespace", 0.85), ("words", 0.75)])
def test_the_lead_repeats_himself_little(normalization, least):
    assert distinct_n([text for _, text in LEAD], 3, normalization=normalization) >= least


def test_the_lead_uses_no_contractions():
    for dialogue_id, text in LEAD:
        assert not CONTRACTION.search(text), (dialogue_id, text)
        assert "'" not in POSSESSIVE.sub("", text), (dialogue_id, text)


@pytest.mark.parametrize(
    ("text", "contracted"),
    [
        ("The captain's log, at nine o'clock.", False),
        ("It is nobody's cat.", False),
        ("It's my cat.", True),
        ("I don't know.", True),
        ("'Tis a fair wind.", True),
    ],
)
def test_what_counts_as_a_contraction(text, contracted):
    assert bool(CONTRACTION.search(text)) == contracted


def test_no_two_scenes_alike():
    """No scene shares more than a fifth of its 5-grams of words with another one."""
    grams_of: dict[str, set[tuple[str, ...]]] = {}
    scenes_with: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for dialogue in DIALOGUES:
        words = (
            [w for w in tokens(turn.text, "words") if w[0].isalnum()] for turn in dialogue.turns
        )
        grams_of[dialogue.id] = {gram for turn in words for gram in ngrams(turn, 5)}
        for gram in grams_of[dialogue.id]:
            scenes_with[gram].append(dialogue.id)

    shared = Counter(
        (one, other)
        for scenes in scenes_with.values()
        for one in scenes
        for other in scenes
        if one != other
    )
    alike = {pair: count for pair, count in shared.items() if count > 0.2 * len(grams_of[pair[0]])}
    assert not alike


def test_the_card_tells_the_truth():
    turns_of = Counter(turn.speaker for _, turn in TURNS)
    for speaker, count in turns_of.items():
        assert f"| {speaker} | {count:,} | {count / len(TURNS):.1%}".replace("%", " %") in CARD
    assert f"{len(DIALOGUES)} scenes, {len(TURNS):,} turns" in CARD

    shown = re.findall(r"^> \*\*([A-Z]+):\*\* (.+)$", CARD, re.MULTILINE)
    assert shown
    assert set(shown) <= {(turn.speaker, turn.text) for _, turn in TURNS}

    line = json.loads(re.search(r"```json\n(.+)\n```", CARD)[1])
    first = json.loads(PATH.read_text(encoding="ascii").splitlines()[0])
    assert line == {**first, "turns": first["turns"][:2]}

    for normalization in ("whitespace", "words"):
        values = [
            f"{distinct_n([text for _, text in LEAD], n, normalization=normalization):.3f}"
            for n in (1, 2, 3)
        ]
        assert " / ".join(values) in CARD
