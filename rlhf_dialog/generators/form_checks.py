"""Can the form of prompts that the settings name be had with this generator and these dialogues?"""

from __future__ import annotations

from collections.abc import Sequence

from rlhf_dialog.dialogues.examples import make_examples, without_summary
from rlhf_dialog.dialogues.schema import Context, Dialogue
from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.input_forms import input_form
from rlhf_dialog.generators.loading import Generator
from rlhf_dialog.generators.warm_start import is_warm_started
from rlhf_dialog.settings import GeneratorSettings


def refuse_untaught_form(generator: Generator, settings: GeneratorSettings) -> None:
    """Raises UserError where the warm start, which alone teaches a form, has been already."""
    own = input_form(generator)
    if is_warm_started(settings.generator) and own != settings.input_form:
        raise UserError(
            f"input_form: {settings.generator} was warm-started on the form {own!r} and is not "
            f"trained again; leave input_form out, or give the model it came from."
        )


def require_what_is_read(
    dialogues: Sequence[Dialogue], settings: GeneratorSettings, source: str
) -> None:
    """Raises UserError where the form is made of a persona or a summary, and no dialogue of
    `source` has one or, with a summarizer, what one could be made of."""
    form = settings.input_form
    if form not in ("persona", "summary"):
        return
    contexts = (example.context for example in make_examples(dialogues))
    if any(isinstance(c, Context) and getattr(c, form) for c in contexts):
        return
    lack, remedy = "has one", "add it (docs/data_forms.md)"
    if form == "summary" and settings.summarizer is not None:
        if any(any(without_summary(dialogue)) for dialogue in dialogues):
            return
        lack, remedy = "has three turns, of which one could be made", "add longer ones"
    elif form == "summary":
        remedy += ", name a summarizer"
    raise UserError(
        f"input_form: {form!r} reads a {form}, and no dialogue of {source} {lack}; {remedy}, or "
        "choose another form."
    )
