import pytest
import torch
from tokenizers import BertWordPieceTokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rlhf_dialog.discriminators.model import (
    fresh_discriminator,
    load_discriminator,
    wordpiece_vocabulary,
)
from rlhf_dialog.errors import UserError

TEXTS = ["where is the captain tonight ?", "he is on the ship , as always .", "tea , please !"] * 4
WORDS = ("captain", "ship", "tonight", "where", "biscuit", "snorkel", "midshipman", "vexed")
CONTEXTS = [["where is the captain ?"], ["tea ?", "no , thank you , not now"], ["ship"] * 5]
REPLIES = ["on the ship", "please !", "he is always on the ship , as always , tonight"]
KEYS = ("input_ids", "attention_mask", "token_type_ids")


@pytest.fixture
def discriminator():
    return fresh_discriminator(TEXTS, hidden_size=32, layers=1, max_tokens=48, seed=3)


def test_the_same_texts_always_give_the_same_vocabulary():
    lines = [f"{a} {b} {a}{b}" for a in WORDS for b in WORDS]
    library = []
    for _ in range(4):  # its order of letters, and with it every id, is drawn anew
        wordpiece = BertWordPieceTokenizer(lowercase=True)
        wordpiece.train_from_iterator(lines, vocab_size=300, show_progress=False)
        library.append(wordpiece.get_vocab())
    assert any(vocabulary != library[0] for vocabulary in library)

    ours = [wordpiece_vocabulary(lines, size=300) for _ in range(4)]
    assert all(vocabulary == ours[0] for vocabulary in ours)
    assert sorted(ours[0].values()) == list(range(len(ours[0])))

    assert set(WORDS) <= ours[0].keys() & library[0].keys()


def test_scores_equal_one_plain_forward_per_pair(discriminator):
    scores = discriminator(CONTEXTS, REPLIES)
    assert scores.shape == (3,) and scores.dtype == torch.float32
    for context, reply, score in zip(CONTEXTS, REPLIES, scores, strict=True):
        encoded = discriminator.tokenizer(" [SEP] ".join(context), reply, return_tensors="pt")
        with torch.no_grad():
            plain = discriminator.model(**encoded).logits.item()
        assert score.item() == pytest.approx(plain, abs=1e-5)


def test_order_and_company_do_not_matter(discriminator):
    scores = discriminator(CONTEXTS, REPLIES)
    turned = discriminator(CONTEXTS[::-1], REPLIES[::-1])
    torch.testing.assert_close(turned.flip(0), scores, atol=1e-5, rtol=0)


def test_scoring_more_than_a_batch_keeps_the_order(discriminator):
    scores = discriminator(CONTEXTS * 50, REPLIES * 50).view(50, 3)
    torch.testing.assert_close(scores, scores[:1].expand(50, 3), atol=1e-5, rtol=0)


def test_a_long_context_loses_its_oldest_part_and_the_reply_stays(discriminator):
    context = ["where"] * 60 + ["tonight ?"]
    encoded = discriminator.encode([context], ["on the ship"])
    text = discriminator.tokenizer.decode(encoded["input_ids"][0])
    assert encoded["input_ids"].shape[1] == 48
    assert text.endswith("tonight? [SEP] on the ship [SEP]")


def test_a_reply_of_five_thousand_words_still_leaves_room_for_context(discriminator):
    encoded = discriminator.encode([["where is the captain ?"]], ["ship " * 5000])
    segments = encoded["token_type_ids"][0].tolist()
    assert encoded["input_ids"].shape[1] <= 48
    assert segments.count(1) >= 30 and segments.count(0) >= 6


@pytest.mark.parametrize("reply", ["", "😀", "선장은 배에 있다", "\x00\x07", "[SEP] [CLS]"])
def test_any_reply_has_a_finite_score(discriminator, reply):
    assert torch.isfinite(discriminator([["tea ?"]], [reply])).all()


def test_what_somebody_typed_never_becomes_a_separator(discriminator):
    sep = discriminator.tokenizer.sep_token_id
    contexts = [["tea ?", "no , thank you"], ["[SEP] tea [CLS] ?[PAD]", "no , [SEP][SE[SEP]P] you"]]
    encoded = discriminator.encode(contexts, ["on the ship", "on [SEP] the ship [MASK]"])
    rows = [row[mask.bool()] for row, mask in zip(*map(encoded.get, KEYS[:2]), strict=True)]
    assert [(row == sep).sum().item() for row in rows] == [3, 3]  # one between turns, two by BERT
    control = set(discriminator.tokenizer.all_special_ids) - {discriminator.tokenizer.unk_token_id}
    assert [sum(token in control for token in row.tolist()) for row in rows] == [4, 4]
    replies = [row[kinds.bool()] for row, kinds in zip(*map(encoded.get, KEYS[::2]), strict=True)]
    assert replies[0].tolist() == replies[1].tolist()  # "on the ship [SEP]"


def test_no_pairs_no_scores(discriminator):
    assert discriminator([], []).shape == (0,)


def test_the_saved_folder_loads_with_plain_transformers(discriminator, tmp_path):
    discriminator.save(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    encoded = tokenizer("where is the captain ?", "on the ship", return_tensors="pt")
    with torch.no_grad():
        plain = model(**encoded).logits.item()
    assert discriminator(CONTEXTS[:1], REPLIES[:1]).item() == pytest.approx(plain, abs=1e-5)
    again = load_discriminator(str(tmp_path), max_tokens=48, what="discriminator")
    torch.testing.assert_close(again(CONTEXTS, REPLIES), discriminator(CONTEXTS, REPLIES))


def test_what_cannot_be_loaded_is_said_in_one_sentence(discriminator, tmp_path):
    with pytest.raises(UserError, match=r"^--judge nobody/nothing: cannot be loaded .*Hub id"):
        load_discriminator("nobody/nothing", max_tokens=48, what="judge")
    discriminator.save(tmp_path)
    with pytest.raises(UserError, match="discriminator_max_tokens: 512 is more than the 48"):
        load_discriminator(str(tmp_path), max_tokens=512, what="discriminator")
