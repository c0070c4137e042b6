"""What a family of generators needs in a card: loader, tags, papers and a snippet that runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

_PLAIN = ("dialogpt", "chat", "blenderbot-small", "lines")


@dataclass(frozen=True)
class Family:
    """A generator's folder, without its weights.

    Attributes:
        form: its input form (docs/input_forms.md).
        joined: how `lines` parts turns: by line ends, or by EOS where the tokenizer has none (T5).
        base: what an adapter folder names as its base model.
    """

    model_type: str
    is_encoder_decoder: bool
    form: str
    line_ends: bool
    base: str | None

    @property
    def is_adapter(self) -> bool:
        return self.base is not None

    @property
    def library(self) -> str:
        return "peft" if self.is_adapter else "transformers"

    @property
    def auto_class(self) -> str:
        task = "Seq2SeqLM" if self.is_encoder_decoder else "CausalLM"
        return f"AutoPeftModelFor{task}" if self.is_adapter else f"AutoModelFor{task}"

    @property
    def tags(self) -> list[str]:
        # The Hub's own task for both; the older name is still what people search for.
        more = ["text2text-generation"] if self.is_encoder_decoder else []
        return [*more, *(["lora"] if self.is_adapter else [])]

    @property
    def plain(self) -> bool:
        """Whether a prompt can be made with the tokenizer alone."""
        return self.form in _PLAIN


def is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()


def family_of(folder: Path, base_config: dict[str, Any] | None = None) -> Family:
    """Reads `config.json` (or `adapter_config.json` and its base's configuration), no weights."""
    base = None
    if is_adapter(folder):
        adapter = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        base = adapter.get("base_model_name_or_path") or ""
        config = base_config or {}
    else:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model_type = str(config.get("model_type", "unknown"))
    encoder_decoder = bool(config.get("is_encoder_decoder"))
    form = config.get("input_form")
    if not form and encoder_decoder:
        form = "blenderbot-small" if model_type == "blenderbot-small" else "lines"
    elif not form:
        form = "chat" if tokenizer.chat_template else "dialogpt"
    return Family(model_type, encoder_decoder, form, _reads_line_ends(tokenizer), base)


def _reads_line_ends(tokenizer) -> bool:
    broken, spaced, none = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a\nb", "a b", "ab")
    )
    return broken not in (spaced, none)
