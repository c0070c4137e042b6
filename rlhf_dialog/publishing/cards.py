"""Cards of the repositories, from the run's own records; the templates lie beside this file.

Texts that a user chose (a character's name, a file's) are escaped for Markdown; the YAML header is
written by `huggingface_hub`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jinja2
from huggingface_hub import DatasetCard, DatasetCardData, EvalResult, ModelCard, ModelCardData

from rlhf_dialog.dialogues.schema import Dialogue
from rlhf_dialog.evaluation.cautions import warnings
from rlhf_dialog.evaluation.findings import interval, metric_info, number, verdict
from rlhf_dialog.evaluation.pages import markdown_escaped as md
from rlhf_dialog.hub_ids import is_hub_id
from rlhf_dialog.publishing import citations
from rlhf_dialog.publishing.families import Family
from rlhf_dialog.publishing.privacy import cleaned
from rlhf_dialog.publishing.runs import FinishedRun
from rlhf_dialog.publishing.settings import PushSettings

EXAMPLE_TURNS = ["Where have you been all morning?"]
EXAMPLE_REPLY = "Upon the deck, where else?"
_TEMPLATES = files("rlhf_dialog.publishing") / "templates"
_TRAINING = {
    "generator": "reward max_steps per_device_train_batch_size gradient_accumulation_steps "
    "num_ppo_epochs num_mini_batches learning_rate kl_coef kl_target gamma lam cliprange "
    "supervised_coef refresh_every warm_start_epochs warm_start_learning_rate context_length "
    "response_length seed",
    "discriminator": "discriminator word_order_steps discriminator_epochs "
    "discriminator_learning_rate discriminator_batch_size label_smoothing generated_share "
    "cast_share wrong_context_share degenerate_share match_lengths discriminator_max_tokens seed",
}
_ENCODERS = {"bert": "BERT", "deberta-v2": "DeBERTa-v2"}
_MADE = {
    "generator": "A supervised warm start on the whole cast's replies, then PPO (a subclass of "
    "TRL's `PPOTrainer`) towards the score of a discriminator that was refreshed on fresh samples, "
    "with a KL penalty to the warm start.",
    "discriminator": "It learnt the character's real replies from samples of the generator, other "
    "characters' replies, real replies under wrong contexts and broken ones.",
    "judge": "It learnt the character's real replies from other characters' replies, real replies "
    "under wrong contexts and broken ones, on dialogues that neither the generator nor the "
    "discriminator saw; it read no generator's samples, was frozen, and was never a reward.",
}


class Cards:
    """Cards of one run's repositories.

    Args:
        ids: repository ids by part, of those that are pushed together.
    """

    def __init__(self, run: FinishedRun, settings: PushSettings, ids: Mapping[str, str]) -> None:
        self.run, self.settings, self.ids = run, settings, ids
        self.config = cleaned(run.config)

    def generator(self, family: Family, base_model: str | None) -> ModelCard:
        report = self.run.report or {}
        data = ModelCardData(
            library_name=family.library,
            pipeline_tag="text-generation",
            base_model=base_model,
            tags=["rlhf_dialog", "dialogue", "character", "ppo", "trl", "seqgan", *family.tags],
            eval_results=self._results("text-generation", report.get("metrics", {})),
            **self._shared("generator"),
        )
        tuned = "tuned with PPO towards" if report else "warm-started on the show of"
        made = f" Its base model is `{base_model}`." if base_model else ""
        return ModelCard.from_template(
            data,
            template_str=_template("generator.md.jinja"),
            title=self._title("generator"),
            introduction=f"A dialogue model ({family.model_type}, "
            f"{'encoder-decoder' if family.is_encoder_decoder else 'causal'}) {tuned} "
            f"**{md(self.run.character)}**.{made}",
            facts=self._facts(
                ("base model", base_model or self._no_base()),
                ("weights", "adapters (PEFT)" if family.is_adapter else "the whole model"),
                ("input form", family.form),
                ("PPO updates", report.get("updates", 0)),
            ),
            snippet=self._snippet("generator", family=family, **self._lengths()),
            form_note=self._form_note(family),
            rows=[_row(name, entry) for name, entry in report.get("metrics", {}).items()],
            contexts=report.get("test_contexts", "The"),
            verdict=md(verdict(report)) if report else "",
            warnings=[md(text) for text in warnings(report)] if report else [],
            procedure=_MADE["generator"]
            if report
            else "Supervised training on the whole cast's replies; no reinforcement learning yet.",
            citation=citations.generator_papers(family.model_type),
            **self._texts("generator"),
        )

    def discriminator(self, part: str, max_tokens: int) -> ModelCard:
        """The card of `part`: "discriminator" or "judge"."""
        held_out = self.run.held_out.get(part, {})
        aucs = {key[4:]: value for key, value in held_out.items() if key.startswith("auc/")}
        data = ModelCardData(
            library_name="transformers",
            pipeline_tag="text-classification",
            base_model=self._encoder(part),
            tags=["rlhf_dialog", "dialogue", "reward-model", part],
            eval_results=self._results(
                "text-classification",
                {f"auc_{kind}": {"after": value} for kind, value in aucs.items()},
            ),
            **self._shared(part),
        )
        role = "A frozen judge" if part == "judge" else "A reward model"
        return ModelCard.from_template(
            data,
            template_str=_template("discriminator.md.jinja"),
            title=self._title(part),
            introduction=f"{role}: one logit for (context, reply), above 0 where the reply sounds "
            f"like **{md(self.run.character)}**'s own.",
            facts=self._facts(("began as", self._encoder(part) or self._no_encoder(part))),
            snippet=self._snippet(part, max_tokens=max_tokens, reply=EXAMPLE_REPLY),
            max_tokens=max_tokens,
            rows=[
                {
                    "kind": kind.replace("_", " "),
                    "auc": number(auc, ".3f"),
                    "accuracy": number(held_out.get(f"accuracy/{kind}"), ".3f"),
                }
                for kind, auc in aucs.items()
            ],
            score_text=self._score_text(part),
            procedure=_MADE[part],
            citation=citations.discriminator_papers(self._model_type(part)),
            **self._texts(part),
        )

    def data(self, dialogues: list[Dialogue]) -> DatasetCard:
        turns = [turn for dialogue in dialogues for turn in dialogue.turns]
        counts: dict[str, list[int]] = {}
        for turn in turns:
            counts.setdefault(turn.speaker, []).append(len(turn.text.split()))
        often = sorted(counts.items(), key=lambda item: -len(item[1]))[:20]
        licence = self.settings.data_license
        data = DatasetCardData(
            language=self.settings.language,
            license=licence,
            task_categories=["text-generation"],
            tags=["dialogue", "conversational", "script", "rlhf_dialog"],
            pretty_name=self._title("data"),
            configs=[{"config_name": "default", "data_files": "dialogues.jsonl"}],
        )
        return DatasetCard.from_template(
            data,
            template_str=_template("data.md.jinja"),
            title=self._title("data"),
            introduction=f"{len(dialogues)} dialogues, {len(turns)} turns. A dialogue model was "
            f"taught to talk like **{md(self.run.character)}** with them.",
            snippet=self._snippet("data"),
            speakers=[
                {"name": md(name), "turns": len(words), "words": f"{sum(words) / len(words):.1f}"}
                for name, words in often
            ],
            license_text=f"{md(str(licence))}, as stated by who published it.",
            language_name=f"`{self.settings.language}`",
            related=self._related("data"),
        )

    # ---------------------------------------------------------------- shared pieces

    def _shared(self, part: str) -> dict[str, Any]:
        dataset = self.ids.get("data") or self.run.dataset
        return {
            "language": self.settings.language,
            "license": self.settings.license,
            "datasets": [dataset] if dataset else None,
            "model_name": self.ids[part].split("/")[-1],
        }

    def _texts(self, part: str) -> dict[str, Any]:
        kind = "generator" if part == "generator" else "discriminator"
        stack = (self.run.report or {}).get("versions", {})
        told = self.run.held_out.get(part, {})  # what training chose where nothing was set
        values = {
            "discriminator_learning_rate": told.get("learning_rate"),
            "word_order_steps": told.get("word_order_steps"),
        } | {name: value for name, value in self.config.items() if value is not None}
        return {
            "data_text": self._data_text(),
            "training": [
                (name, md(str(values[name])))
                for name in _TRAINING[kind].split()
                if values.get(name) is not None
            ],
            "versions": ", ".join(f"{name} {v}" for name, v in stack.items()) or "see the package",
            "language_name": f"`{self.settings.language}`",
            "max_turns": self.config.get("max_turns", "some"),
            "response_length": self.config.get("response_length", "some"),
            "related": self._related(part),
        }

    def _facts(self, *own: tuple[str, Any]) -> list[tuple[str, str]]:
        facts = [
            ("character", self.run.character),
            *own,
            ("language", self.settings.language),
            ("licence of the weights", self.settings.license or "not stated"),
        ]
        return [(label, md(str(value))) for label, value in facts]

    def _title(self, part: str) -> str:
        return md(self.ids[part].split("/")[-1])

    def _related(self, part: str) -> list[tuple[str, str]]:
        return [(role, repo) for role, repo in self.ids.items() if role not in (part, "metrics")]

    def _lengths(self) -> dict[str, int]:
        return {
            "context_length": int(self.config.get("context_length", 64)),
            "response_length": int(self.config.get("response_length", 32)),
        }

    def _snippet(self, part: str, **values: Any) -> str:
        kind = {"judge": "discriminator"}.get(part, part)
        template = _template(f"snippet_{kind}.py.jinja")
        turns = json.dumps(EXAMPLE_TURNS, ensure_ascii=False)
        return jinja2.Template(template).render(repo=self.ids[part], turns=turns, **values).strip()

    def _form_note(self, family: Family) -> str:
        adapters = " `pip install peft` first." if family.is_adapter else ""
        return (
            f"`turns` is what was said, oldest first; the model replies to the last.{adapters} "
            "With the package, `rlhf_dialog.generators.loading.load_generator` and "
            "`sample_replies` make prompts of this form and cut contexts that are too long."
        )

    def _no_base(self) -> str:
        fresh = self.run.began_fresh
        return "none: trained from scratch" if fresh else "not stated: a local folder"

    def _encoder(self, part: str) -> str | None:
        name = self.run.config.get(part)
        return name if is_hub_id(name) else None

    def _no_encoder(self, part: str) -> str:
        if self.run.config.get(part):
            return "not stated: a local folder"
        kind = self._model_type(part)
        return f"a fresh {_ENCODERS.get(kind, kind)}"

    def _model_type(self, part: str) -> str:
        config = json.loads((self.run.folder / part / "config.json").read_text(encoding="utf-8"))
        return str(config.get("model_type", "encoder"))

    def _score_text(self, part: str) -> str:
        entry = (self.run.report or {}).get("metrics", {}).get(f"{part}_score")
        if entry is None:
            return ""
        row = _row(f"{part}_score", entry)
        return (
            f"On test contexts its mean logit was {row['before']} for the generator before tuning, "
            f"{row['after']} after (change {row['change']}), {row['human']} for the character's "
            "own replies."
        )

    def _data_text(self) -> str:
        source = self.ids.get("data") or self.run.dataset
        licence = self.settings.data_license
        where = f"`{source}`" if source else f"`{md(str(self.config.get('dialogues')))}`"
        local = "" if source else ", a file that is not published with the model"
        shares = ", ".join(
            f"{name} {float(self.config[f'{name}_share']):.0%}"
            for name in ("generator", "discriminator", "judge", "test")
            if f"{name}_share" in self.config
        )
        return (
            f"Dialogues: {where}{local}. Licence of the dialogues: "
            f"{md(licence) if licence else 'not stated here'}. They were split by whole dialogues "
            f"({shares}), so that no part saw another's."
        )

    def _results(self, task: str, metrics: Mapping[str, Mapping[str, Any]]) -> list | None:
        dataset = self.ids.get("data") or self.run.dataset
        name = dataset or str(self.config.get("dialogues", "dialogues"))
        return [
            EvalResult(
                task_type=task,
                dataset_type=dataset or "dialogues",
                dataset_name=f"{name} ({self.run.character})",
                dataset_split="test",
                metric_type=metric,
                metric_name=metric_info(metric).title,
                metric_value=round(entry["after"], 4),
                metric_args={
                    key: entry[key] for key in ("before", "human", "ci95") if entry.get(key)
                }
                or None,
            )
            for metric, entry in metrics.items()
        ] or None


def _row(name: str, entry: Mapping[str, Any]) -> dict[str, str]:
    info = metric_info(name)
    bounds = interval(dict(entry))
    within = f" [{', '.join(number(b, info.format) for b in bounds)}]" if bounds else ""
    return {
        "title": md(info.title),
        "definition": md(info.definition),
        "unit": info.unit,
        "before": number(entry["before"], info.format),
        "after": number(entry["after"], info.format),
        "change": number(entry["difference"], info.format, signed=True) + within,
        "human": number(entry.get("human"), info.format),
    }


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
