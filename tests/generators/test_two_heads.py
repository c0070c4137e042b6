"""The second head, beside transformers' own two-headed model and by hand."""

import pytest
import torch
from transformers import GPT2DoubleHeadsModel

from rlhf_dialog.dialogues.distractors import draw_distractors
from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.input_forms import use_input_form
from rlhf_dialog.generators.prompts import build_prompt, encode_reply
from rlhf_dialog.generators.supervised_rows import collate, encode_row
from rlhf_dialog.generators.two_heads import (
    ChoiceScorer,
    TwoHeads,
    fresh_choice_head,
    load_choice_head,
    save_choice_head,
)
from rlhf_dialog.generators.warm_start import warm_start
from rlhf_dialog.settings import GeneratorSettings

CONTEXTS = [("where is the captain ?",), ("not me .", "who took the lamp ?")]
CANDIDATES = [
    ["the tide is late .", "aye", "on the ship , as always ."],
    ["we sail at night when the tide is high .", "no", "i was asleep ."],
]


def rows_and_batch(generator, weights=(1.0, 1.0)):
    rows = [
        encode_row(generator, context, candidates, 40, 24, weight=weight)
        for context, candidates, weight in zip(CONTEXTS, CANDIDATES, weights, strict=True)
    ]
    return rows, collate(generator, rows)


def two_heads(generator, choice_coef=1.0):
    return TwoHeads(generator.model, fresh_choice_head(generator, 3), choice_coef).eval()


@torch.no_grad()
@pytest.mark.parametrize("form", ["persona", "dialogpt"])
def test_the_losses_are_those_of_gpt2_double_heads_model(make_generator, form):
    """On right-padded (B, C, L) ids, with labels on the right reply, as TransferTransfo does."""
    generator = make_generator("gpt2", sharp=True)
    use_input_form(generator, form)
    own = two_heads(generator, 0.5)
    original = GPT2DoubleHeadsModel(generator.model.config).eval()
    original.load_state_dict(generator.model.state_dict(), strict=False)
    original.tie_weights()
    original.multiple_choice_head.summary.load_state_dict(own.choice_head.state_dict())

    shape = (2, 3, 70)
    ids, types, labels = (
        torch.zeros(shape).long(),
        torch.zeros(shape).long(),
        torch.full(shape, -100),
    )
    last = torch.zeros(shape[:2]).long()
    for b, (context, candidates) in enumerate(zip(CONTEXTS, CANDIDATES, strict=True)):
        prompt = build_prompt(generator, context, 40)
        for c, text in enumerate(candidates):
            reply = encode_reply(generator, text, 24)
            row = torch.tensor([*prompt.ids, *reply])
            ids[b, c, : len(row)] = row
            if prompt.token_types:
                spoken = [*prompt.token_types, *[prompt.reply_type] * len(reply)]
                types[b, c, : len(row)] = torch.tensor(spoken)
            last[b, c] = len(row) - 1
            if c == 2:
                labels[b, c, len(prompt.ids) : len(row)] = torch.tensor(reply)
    wanted = original(
        ids[..., :64],
        token_type_ids=types[..., :64] if form == "persona" else None,
        labels=labels[..., :64],
        mc_token_ids=last,
        mc_labels=torch.tensor([2, 2]),
    )
    assert last.max() < 64  # nothing was cut off
    got = own(**rows_and_batch(generator)[1])
    torch.testing.assert_close(got["lm_loss"], wanted.loss, atol=1e-5, rtol=0)
    torch.testing.assert_close(got["choice_loss"], wanted.mc_loss, atol=1e-5, rtol=0)
    torch.testing.assert_close(got["loss"], wanted.loss + 0.5 * wanted.mc_loss, atol=1e-5, rtol=0)
    torch.testing.assert_close(got["scores"], wanted.mc_logits, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("family", ["gpt2", "blenderbot-small", "bart", "t5"])
def test_losses_and_weights_one_row_at_a_time(make_generator, family):
    """Each candidate on its own, unpadded, through the plain model; weights of 1 and 3."""
    generator = make_generator(family, sharp=True)
    model = two_heads(generator)
    weights = (1.0, 3.0)
    rows, batch = rows_and_batch(generator, weights)
    total = count = 0.0
    scores = torch.zeros(2, 3)
    for b, row in enumerate(rows):
        for c, reply in enumerate(row["candidates"]):
            if generator.is_encoder_decoder:
                start = generator.model.config.decoder_start_token_id
                output = generator.model(
                    input_ids=torch.tensor([row["prompt"]]),
                    decoder_input_ids=torch.tensor([[start, *reply]]),
                    output_hidden_states=True,
                )
                logits, hidden = output.logits[0, :-1], output.decoder_hidden_states[-1]
            else:
                ids = torch.tensor([[*row["prompt"], *reply]])
                output = generator.model(ids, output_hidden_states=True)
                logits = output.logits[0, len(row["prompt"]) - 1 : -1]
                hidden = output.hidden_states[-1]
            scores[b, c] = model.choice_head(hidden[0, -1])
            if c == 2:
                nll = -torch.log_softmax(logits, -1).gather(1, torch.tensor(reply)[:, None])
                total += weights[b] * nll.sum()
                count += weights[b] * len(reply)
    got = model(**batch)
    torch.testing.assert_close(got["scores"], scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(got["lm_loss"], total / count, atol=1e-4, rtol=0)
    wanted = -torch.log_softmax(scores, 1)[:, 2].mean()
    torch.testing.assert_close(got["choice_loss"], wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("family", "rate"), [("gpt2", 1e-2), ("blenderbot-small", 2e-2)])
def test_the_head_learns_to_choose_and_is_saved(make_generator, examples, family, rate, tmp_path):
    generator = make_generator(family, sharp=family != "gpt2")
    settings = GeneratorSettings(
        warm_start_epochs=12,
        warm_start_learning_rate=rate,
        warm_start_batch_size=10,
        warm_start_distractors=2,
        context_length=40,
    )
    head = warm_start(generator, examples, settings, response_length=24, seed=0).choice_head
    save_choice_head(head, tmp_path)
    lengths = {"context_length": 40, "response_length": 24}
    scorer = ChoiceScorer(generator, load_choice_head(tmp_path), **lengths)
    hits = 0
    for example, wrong in zip(examples, draw_distractors(examples, 3, 5), strict=True):
        replies = [*wrong, example.reply]
        hits += scorer([example.context] * 4, replies).argmax().item() == 3
    assert hits >= 20  # of 30; guessing hits 7.5


def test_a_folder_without_a_head_is_told(tmp_path):
    with pytest.raises(UserError, match="warm_start_distractors"):
        load_choice_head(tmp_path)


def test_distractors_are_the_sources_own_before_those_of_others():
    examples = [
        Example(("hi",), "Aye", "a", "1", "", ("one", "two", "AYE")),
        Example(("hi",), "no", "a", "2"),
        Example(("hi",), "aye ", "a", "3"),
        Example(("hi",), "three", "a", "4", "", ("Three", "four")),
    ]
    drawn = draw_distractors(examples, 2, seed=1)
    assert sorted(drawn[0]) == ["one", "two"]
    assert sorted(drawn[1]) == ["Aye", "three"]
    assert drawn[3][0] == "four" and drawn[3][1] in ("Aye", "no")
    assert drawn == draw_distractors(examples, 2, seed=1)
    with pytest.raises(UserError, match="3 different"):
        draw_distractors(examples, 3, seed=1)
