"""A run's folder becomes repositories, each staged in a folder of its own, ready to be listed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoConfig, AutoTokenizer

from rlhf_dialog.dialogues.readers import read_dialogues
from rlhf_dialog.dialogues.schema import Dialogue
from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.loading import load_generator
from rlhf_dialog.hub_ids import is_hub_id
from rlhf_dialog.publishing import spaces
from rlhf_dialog.publishing.cards import Cards
from rlhf_dialog.publishing.families import family_of, is_adapter
from rlhf_dialog.publishing.privacy import cleaned, refuse_private
from rlhf_dialog.publishing.runs import FinishedRun
from rlhf_dialog.publishing.settings import PushSettings

# What a folder of `save_pretrained` holds. Optimizer states, pickles and logs are none of it.
MODEL_FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*config.json",
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "added_tokens.json",
    "special_tokens_map.json",
    "*.jinja",
    "adapter_base.json",
    "warm_start.json",
    "judge.json",
)


@dataclass
class Repository:
    """One repository, staged.

    Attributes:
        kind: "model", "dataset" or "space".
        folder: holds what will be uploaded, and nothing else.
    """

    part: str
    id: str
    kind: str
    folder: Path

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


def make_plan(
    run: FinishedRun, settings: PushSettings, owner: str, scratch: Path
) -> list[Repository]:
    """Stages every part under `scratch`.

    Raises:
        UserError: a part that the run has not, or something private in a staged file.
    """
    for part in settings.parts:
        if part not in ("data", "metrics") and not (run.folder / part).is_dir():
            raise UserError(f"parts: {run.folder} holds no folder {part!r}; leave it out.")
    name = settings.base_name or _name(run)
    ids = repository_ids(settings, owner, name)
    stage = _Staging(run, settings, Cards(run, settings, ids), scratch)
    repositories = []
    for part, repo in ids.items():
        kind = "dataset" if part == "data" else "model"
        repositories.append(stage.repository(part, repo, kind))
    if "metrics" in settings.parts:
        for metric in spaces.NAMES:
            repositories.append(stage.space(metric, f"{owner}/{metric}"))
    for repository in repositories:
        refuse_private(repository.files, owner=owner, run=run.folder)
    return repositories


def repository_ids(settings: PushSettings, owner: str, name: str) -> dict[str, str]:
    """Repository ids by part; metrics are Spaces of their own names."""
    return {
        part: f"{owner}/{name}" if part == "generator" else f"{owner}/{name}-{part}"
        for part in settings.parts
        if part != "metrics"
    }


def _name(run: FinishedRun) -> str:
    """Character and architecture, or the kind of run where there is no generator."""
    config = run.folder / "generator" / "config.json"
    what = "dialogue"
    if config.is_file():
        what = json.loads(config.read_text(encoding="utf-8")).get("model_type", what)
    name = re.sub(r"[^a-z0-9]+", "-", f"{run.character} {what}".lower()).strip("-")
    return name or "dialogue"


class _Staging:
    def __init__(
        self, run: FinishedRun, settings: PushSettings, cards: Cards, scratch: Path
    ) -> None:
        self.run, self.settings, self.cards, self.scratch = run, settings, cards, scratch

    def repository(self, part: str, repo: str, kind: str) -> Repository:
        folder = self.scratch / part
        folder.mkdir(parents=True)
        writers: dict[str, Callable[[Path], None]] = {
            "generator": self._generator,
            "data": self._data,
        }
        writers.get(part, lambda place: self._discriminator(part, place))(folder)
        return Repository(part, repo, kind, folder)

    def space(self, metric: str, repo: str) -> Repository:
        folder = self.scratch / "metrics" / metric
        folder.mkdir(parents=True)
        spaces.write_space(metric, repo, folder)
        return Repository(f"metric {metric}", repo, "space", folder)

    def _generator(self, folder: Path) -> None:
        source = self.run.folder / "generator"
        base = self.settings.base_model or self.run.base_model
        if is_adapter(source):
            base = self._adapters(source, folder)
        else:
            _copy_model(source, folder)
        stands_on = _config_of(self._stands_on(source)) if is_adapter(folder) else None
        family = family_of(folder, stands_on)
        value = self.run.folder / "value"
        if value.is_dir():  # the critic, for who trains on: --value_path
            _copy_model(value, folder / "value")
        self._records(folder)
        self.cards.generator(family, base).save(folder / "README.md")

    def _adapters(self, source: Path, folder: Path) -> str | None:
        """Stages adapters with the Hub id of their base, or merged; returns their origin's id."""
        base = self._stands_on(source)
        if self.settings.merge:
            _merge(source, base, folder)
            return self.settings.base_model or self.run.base_model
        base = self.settings.base_model or base
        if not is_hub_id(base):
            raise UserError(
                f"base_model: the generator is adapters to {Path(base).name}, a folder that nobody "
                "else has; give the Hub id of that very model, or --merge to publish the whole."
            )
        _copy_model(source, folder)
        staged = folder / "adapter_config.json"
        values = json.loads(staged.read_text(encoding="utf-8"))
        _write_json(staged, values | {"base_model_name_or_path": base})
        return base

    def _stands_on(self, source: Path) -> str:
        """Folder or Hub id of the base of adapters. A warm start in the run moved the weights that
        they were trained on, whatever they name."""
        warm = self.run.folder / "warm_start"
        return str(warm) if warm.is_dir() else _base_path(source / "adapter_config.json")

    def _discriminator(self, part: str, folder: Path) -> None:
        _copy_model(self.run.folder / part, folder)
        self._records(folder)
        limit = AutoTokenizer.from_pretrained(folder).model_max_length
        card = self.cards.discriminator(part, min(int(limit), 512))
        card.save(folder / "README.md")

    def _data(self, folder: Path) -> None:
        config = self.run.config
        source = str(config.get("dialogues"))
        if is_hub_id(source):
            raise UserError(
                f"parts: the dialogues are the dataset {source} of the Hub already; leave data out."
            )
        dialogues = read_dialogues(
            source, config.get("dialogues_form"), config.get("dialogues_columns")
        )
        with (folder / "dialogues.jsonl").open("w", encoding="utf-8") as file:
            for dialogue in dialogues:
                file.write(json.dumps(_record(dialogue), ensure_ascii=False) + "\n")
        self.cards.data(dialogues).save(folder / "README.md")

    def _records(self, folder: Path) -> None:
        """What was measured and every value used, cleaned."""
        config = yaml.safe_dump(cleaned(self.run.config), sort_keys=False, allow_unicode=True)
        (folder / "training_config.yaml").write_text(config, encoding="utf-8")
        if self.run.report is not None:
            _write_json(folder / "report.json", cleaned(self.run.report))


def _copy_model(source: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for path in sorted(source.iterdir()):
        if not path.is_file() or not any(fnmatch(path.name, name) for name in MODEL_FILES):
            continue
        configuration = path.suffix == ".json" and (
            path.name.endswith("config.json") or path.name in ("judge.json", "warm_start.json")
        )
        if configuration:
            values = json.loads(path.read_text(encoding="utf-8"))
            kept = {"chat_template": values["chat_template"]} if "chat_template" in values else {}
            _write_json(folder / path.name, cleaned(values) | kept)
        else:
            shutil.copyfile(path, folder / path.name)


def _merge(source: Path, base: str, folder: Path) -> None:
    """The base model with the adapters worked into its weights, and the adapters' tokenizer."""
    from peft import PeftModel  # optional

    generator = load_generator(base)
    generator.model = PeftModel.from_pretrained(generator.model, str(source)).merge_and_unload()
    generator.tokenizer = AutoTokenizer.from_pretrained(source)
    generator.save(folder.with_name("merged"))
    _copy_model(folder.with_name("merged"), folder)
    shutil.rmtree(folder.with_name("merged"))


def _base_path(adapter: Path) -> str:
    return str(json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"])


def _config_of(base: str) -> dict[str, Any]:
    try:
        return AutoConfig.from_pretrained(base).to_dict()
    except Exception as error:  # no network, no such model
        raise UserError(
            f"adapter_config.json: its base model {base} cannot be read; give --base_model, or "
            "check the network."
        ) from error


def _record(dialogue: Dialogue) -> dict[str, Any]:
    """A dialogue as docs/data_forms.md describes the project's own form."""
    turns = []
    for turn in dialogue.turns:
        record: dict[str, Any] = {"speaker": turn.speaker, "text": turn.text}
        record |= {"candidates": list(turn.distractors)} if turn.distractors else {}
        record |= {"summary": turn.summary} if turn.summary else {}
        turns.append(record)
    record = {"dialogue_id": dialogue.id, "group": dialogue.group, "turns": turns}
    if dialogue.personas:
        record["persona"] = {name: list(texts) for name, texts in dialogue.personas.items()}
    return record | ({"split": dialogue.split} if dialogue.split else {})


def _write_json(path: Path, values: dict[str, Any]) -> None:
    text = json.dumps(values, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
