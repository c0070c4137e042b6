"""In a process of its own, with the default client: push runs, download them, compare.

    python round_trip.py RUN:NAME ...        prints one JSON object

HF_ENDPOINT names the Hub; nothing of the client is changed.
"""

import io
import json
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path

import datasets
import evaluate
import torch
from huggingface_hub import snapshot_download
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rlhf_dialog.discriminators.model import load_discriminator
from rlhf_dialog.generators.loading import load_generator
from rlhf_dialog.generators.prompts import build_prompt
from rlhf_dialog.publishing import PushSettings, push_run
from rlhf_dialog.publishing.cards import EXAMPLE_REPLY, EXAMPLE_TURNS
from rlhf_dialog.publishing.spaces import NAMES

PROBE = "where is the captain tonight ?"


def load(folder):
    """A generator's folder, adapters included, in eval mode."""
    if (Path(folder) / "adapter_config.json").is_file():
        from peft import AutoPeftModelForCausalLM

        model = AutoPeftModelForCausalLM.from_pretrained(folder)
        return model.eval(), AutoTokenizer.from_pretrained(folder)
    generator = load_generator(str(folder))
    return generator.model.eval(), generator.tokenizer


def logits(folder):
    return logits_of(*load(folder))


@torch.no_grad()
def logits_of(model, tokenizer):
    ids = tokenizer(PROBE, return_tensors="pt", add_special_tokens=False)["input_ids"]
    more = {"decoder_input_ids": ids[:, :3]} if model.config.is_encoder_decoder else {}
    return model(input_ids=ids, **more).logits


@torch.no_grad()
def scores(folder):
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    return model(
        **AutoTokenizer.from_pretrained(folder)(PROBE, "aye .", return_tensors="pt")
    ).logits


def run_snippet(folder):
    """The card's first block of Python: what it leaves behind, and what it prints."""
    card = (Path(folder) / "README.md").read_text(encoding="utf-8")
    names: dict = {}
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], names)
    return names, printed.getvalue()


def check(run, name):
    settings = PushSettings(run=run, name=f"me/{name}", private=False)
    push_run(settings)
    found = {}
    own = load_generator(f"me/{name}")  # adapters are merged: equal to the last digits
    snapshot = snapshot_download(f"me/{name}")
    found["logits"] = torch.equal(logits(Path(run) / "generator"), logits(snapshot))
    found["by id"] = torch.allclose(
        logits_of(own.model, own.tokenizer), logits(snapshot), atol=1e-5
    )
    names, printed = run_snippet(snapshot)
    found["snippet"] = printed.strip() == names["reply"].strip()
    if "inputs" in names:  # its prompt is that which the generator was trained on
        if (Path(snapshot) / "adapter_config.json").is_file():
            wanted = names["inputs"]["input_ids"][0].tolist()  # the family is GPT-2's, shown there
        else:
            wanted = build_prompt(load_generator(snapshot), EXAMPLE_TURNS, 200).ids
        found["prompt"] = names["inputs"]["input_ids"][0].tolist() == wanted
    for part in ("discriminator", "judge"):
        folder = snapshot_download(f"me/{name}-{part}")
        found[part] = torch.equal(scores(Path(run) / part), scores(folder))
        own = load_discriminator(folder, max_tokens=32, what=part)([EXAMPLE_TURNS], [EXAMPLE_REPLY])
        found[f"{part} snippet"] = abs(run_snippet(folder)[0]["score"] - own.item()) < 1e-5
    return found


def check_data_and_metrics(run):
    """The data set and the Spaces, read back without this package."""
    push_run(
        PushSettings(
            run=run,
            name="me/plume",
            parts=["data", "metrics"],
            private=False,
            data_license="cc0-1.0",
            collection="The Tide",
        )
    )
    for name in [name for name in sys.modules if name.split(".")[0] == "rlhf_dialog"]:
        sys.modules[name] = None  # to import it is an error from here on
    for name in NAMES:
        evaluate.load(f"me/{name}")
    distinct = evaluate.load("me/distinct_n").compute(predictions=["a b a b", "c"], n=2)
    rows = datasets.load_dataset("me/plume-data", split="train")
    return {"spaces": len(NAMES), "turn": rows[0]["turns"][0], "rows": len(rows), **distinct}


if __name__ == "__main__":
    results = {}
    for argument in sys.argv[1:]:
        run, name = argument.rsplit(":", 1)
        results[name] = check(run, name)
    results["data and metrics"] = check_data_and_metrics(sys.argv[1].rsplit(":", 1)[0])
    print("RESULT " + json.dumps(results))
