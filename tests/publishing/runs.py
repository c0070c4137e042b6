"""Finished runs as the recipes leave them, made of tiny models that nobody trained."""

import json

import torch
import yaml

from rlhf_dialog.discriminators.model import fresh_discriminator
from rlhf_dialog.evaluation.judge import save_judge
from tests.conftest import SENTENCES
from tests.recipes.helpers import ROOT

METRICS = {
    "judge_score": {"before": -0.66, "after": 0.17, "human": 1.06, "difference": 0.83},
    "perplexity": {"before": 101.9, "after": 99.7, "human": None, "difference": -2.2},
}
HELD_OUT = {"auc/cast": 0.98, "accuracy/cast": 0.94, "auc/all": 0.86, "accuracy/real": 0.9}
SECRET = "hf_" + "s" * 30
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def write_run(folder, generator, *, character="PLUME", base=None, **changed):
    """A run in which everything private that a run can hold is held."""
    folder.mkdir(parents=True)
    config = {
        "dialogues": str(ROOT / "data" / "tidy_tide.jsonl"),
        "character": character,
        "generator": base,
        "max_turns": 2,
        "context_length": 32,
        "response_length": 8,
        "generator_share": 0.5,
        "learning_rate": 1e-4,
        "discriminator_learning_rate": None,
        "word_order_steps": 40,
        "judge": "/home/somebody/models/judge",
        "output_dir": str(folder),
        "run_name": f"token {SECRET} in a name",
        **changed,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    metrics = {
        name: {**m, "ci95": [m["difference"] - 0.1, m["difference"] + 0.1]}
        for name, m in METRICS.items()
    }
    report = {
        "metrics": metrics,
        "updates": 30,
        "seed": 0,
        "versions": {"trl": "1.12.0"},
        "config": config,
        "character": character,
        "test_contexts": 576,
        "held_out": {
            "discriminator": {"auc/cast": 0.77, "learning_rate": 1e-3, "word_order_steps": 500},
            "shortcuts": {"length": {}},
        },
    }
    (folder / "report.json").write_text(json.dumps(report))
    generator.model.config._name_or_path = "/home/somebody/models/base"
    generator.save(folder / "generator")
    _add_private(folder / "generator")
    (folder / "generator" / "warm_start.json").write_text('{"stage": "ppo", "updates": 30}')
    for part, seed in (("discriminator", 1), ("judge", 2)):
        classifier = fresh_discriminator(
            SENTENCES, hidden_size=32, layers=1, max_tokens=32, seed=seed
        )
        if part == "judge":
            save_judge(classifier, HELD_OUT, folder / part)
        else:
            classifier.save(folder / part)
        _add_private(folder / part)
    return folder


def _add_private(folder):
    """What transformers and peft write, or have written, about a machine."""
    (folder / "training_args.bin").write_bytes(b"/home/somebody/runs")
    (folder / "trainer_state.json").write_text('{"path": "/home/somebody/runs"}')
    tokenizer = folder / "tokenizer_config.json"
    values = json.loads(tokenizer.read_text())
    values |= {"name_or_path": "/home/somebody/models/base", "tokenizer_file": "/tmp/x/t.json"}
    tokenizer.write_text(json.dumps(values))


def with_adapters(generator, base_folder):
    """LoRA adapters with weights that do something, on a base saved in `base_folder`."""
    from peft import LoraConfig, get_peft_model

    generator.save(base_folder)
    model = type(generator.model).from_pretrained(base_folder)
    targets = ["c_attn"] if model.config.model_type == "gpt2" else ["q_proj", "v_proj"]
    generator.model = get_peft_model(model, LoraConfig(r=2, target_modules=targets))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in generator.model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    return generator
