"""A folder with what the pages of the documentation speak of, all of it small."""

import json
import shutil

from rlhf_dialog.discriminators.model import fresh_discriminator
from rlhf_dialog.generators.loading import fresh_generator
from tests.pages import ROOT, blocks

PARTS = ("recipes", "accelerate_configs", "benchmarks")  # of a checkout, which pages name
# The pages' names for what a run has left; each is the same small run here.
RUNS = ("ann", "constant", "shuffled", "effect/demo-logit-0", "effect/demo-logit-1")


def scenes():
    """Every twelfth scene of the script that the repository ships."""
    lines = (ROOT / "data/tidy_tide.jsonl").read_text(encoding="utf-8").splitlines()[::12]
    return [json.loads(line) for line in lines]


def write_files(place):
    """Data in the forms that the pages show, and models in the place of those of the Hub."""
    place.mkdir()
    for part in PARTS:
        (place / part).symlink_to(ROOT / part)
    (place / "data").mkdir()
    _write_lines(place / "data/tidy_tide.jsonl", scenes())
    _write_script(place)
    _write_corpora(place)
    texts = [turn["text"] for scene in scenes() for turn in scene["turns"]]
    sizes = {"hidden_size": 32, "layers": 1, "seed": 0}
    generator = fresh_generator("gpt2", texts, vocab_size=400, heads=2, positions=256, **sizes)
    generator.save(place / "models/generator")
    summarizer = fresh_generator(
        "blenderbot-small", texts, vocab_size=400, heads=2, positions=128, **sizes
    )
    summarizer.save(place / "models/summarizer")
    for name in ("discriminator", "judge"):
        encoder = fresh_discriminator(texts, max_tokens=160, **sizes)
        encoder.save(place / "models" / name)


def add_runs(place):
    """The other runs and files that the pages name, made from runs/demo, which is there."""
    for number, name in enumerate(RUNS):
        run = place / "runs" / name
        shutil.copytree(place / "runs/demo", run)
        report = json.loads((run / "report.json").read_text())
        (run / "report.json").write_text(json.dumps(report | {"seed": number}))
    (code,) = blocks(ROOT / "docs/evaluate_reward.md", "python")
    for path in ("runs/demo/samples.jsonl", "replies.jsonl"):
        code = code.replace(f'"{path}"', f'"{place / path}"')
    exec(code, {})
    assert (place / "replies.jsonl").is_file()


def _write_script(place):
    names = {"PLUME": "ANN", "NORA": "BARNEY"}
    lines = []
    for scene in scenes():
        lines.append(f"\n## Scene: {scene['title']}")
        for turn in scene["turns"]:
            lines.append(f"{names.get(turn['speaker'], turn['speaker'])}: {turn['text']}")
    (place / "my_script.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_corpora(place):
    spoken = [[turn["text"] for turn in scene["turns"]] for scene in scenes()]
    asked = [{"turns": scene["turns"][:2]} for scene in scenes()[:3]]
    _write_lines(place / "contexts.jsonl", asked)

    told = []
    for number, texts in enumerate(spoken[::2]):
        for style, mark in (("formal", ", if you please"), ("plain", ""), ("pirate", ", arr")):
            turns = [{"speaker": "AB"[n % 2], "text": t + mark} for n, t in enumerate(texts)]
            told.append({"parallel_id": number, "style": style, "turns": turns})
    _write_lines(place / "smilestyle.jsonl", told)

    lines = []
    for texts in spoken:
        lines.append("1 your persona: i keep bees.")
        for number, (one, other) in enumerate(zip(texts[::2], texts[1::2], strict=False), start=2):
            lines.append(f"{number} {one}\t{other}\t\tno .|{other}|me too")
    (place / "valid_self_original.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    rows = [
        {"question": one, "answer": other, "conversation": n, "utterance": text, "name": name}
        for n, (one, other, *_) in enumerate(spoken[:4])
        for name, text in (("Ann", one), ("Bob", other))
    ]
    (place / "my_folder").mkdir()
    _write_lines(place / "my_folder/train.jsonl", rows)


def _write_lines(path, rows):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
