"""The stages of an evaluation that recipes share: what is asked, and of whom."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from rlhf_dialog.dialogues.examples import make_examples
from rlhf_dialog.dialogues.readers import read_dialogues
from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.discriminators.negatives import answers_somebody_else
from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation.beyond import evenly
from rlhf_dialog.evaluation.measurement import Lengths, Scorer
from rlhf_dialog.evaluation.suite import Speaker, Suite
from rlhf_dialog.generators.loading import Generator, load_generator
from rlhf_dialog.generators.summaries import Summarise, with_summaries
from rlhf_dialog.generators.warm_start import warm_start
from rlhf_dialog.parsing import RunSettings
from rlhf_dialog.stages import Script, save_generator, without_held_out

SUPERVISED = "supervised"  # the control's name, and its folder in the run's


def general_test(
    script: Script, settings: RunSettings, summarise: Summarise | None = None
) -> tuple[list[Example], str]:
    """Conversation that is not the character's, and a line that says what it is.

    A file given for it, or that of the warm start (which the generator has read), or else what the
    rest of the cast says in the test's dialogues. What a held-out split holds too
    is left out of a file. `summarise` makes summaries where a file brings none.

    Raises:
        UserError: the file cannot be read, or holds no reply outside the held-out splits.
    """
    most = settings.evaluation.general_contexts
    if not most:
        return [], ""
    given, g = settings.evaluation.general_dialogues, settings.generator
    file = given or g.warm_start_dialogues
    if file:
        form, columns = g.warm_start_dialogues_form, g.warm_start_dialogues_columns
        read = read_dialogues(file) if given else read_dialogues(file, form, columns)
        dialogues = without_held_out(script, read)
        turns = settings.dialogues.max_turns
        examples = make_examples(dialogues, max_turns=turns)
        if summarise is not None:  # of no more dialogues than will be asked for
            wanted = {examples[i].dialogue_id for i in evenly(examples, most)}
            told = iter(with_summaries([d for d in dialogues if d.id in wanted], summarise))
            dialogues = [next(told) if d.id in wanted else d for d in dialogues]
            examples = make_examples(dialogues, max_turns=turns)
        if not examples:
            raise UserError(
                f"general_dialogues: {file} holds no reply to anybody that discriminator, judge "
                "and test do not hold too; give another."
            )
        source = Path(file).name + ("" if given else ", which the warm start has read")
    else:
        everybody, character = script.everybody("test"), settings.dialogues.character
        examples = [e for e in everybody if answers_somebody_else(e, character)]
        source = "the rest of the cast in the test's dialogues"
    return [examples[i] for i in evenly(examples, most)], source


def evaluation_suite(
    script: Script,
    scorers: Mapping[str, Scorer],
    settings: RunSettings,
    general: tuple[list[Example], str],
) -> Suite:
    """The character's test contexts and what goes with them; `general` is `general_test`'s."""
    examples, source = general
    return Suite(
        script.character("test"),
        scorers,
        settings.evaluation,
        Lengths(settings.generator.context_length, settings.ppo.response_length),
        settings.ppo.seed,
        script=script.texts("generator"),
        general=examples,
        general_source=source,
    )


def supervised_control(
    before: Generator, script: Script, settings: RunSettings, run: Path
) -> list[Speaker]:
    """The plain way to the same end: the warm start, supervised on the character's replies alone.

    A reward that does no better than this is not worth its trouble. Every process has to call it;
    nothing happens where `supervised_control_epochs` is 0.
    """
    epochs = settings.evaluation.supervised_control_epochs
    if not epochs:
        return []
    control = before.frozen_copy()
    control.model.requires_grad_(True)
    warm_start(
        control,
        script.character("generator"),
        dataclasses.replace(settings.generator, warm_start_epochs=epochs),
        response_length=settings.ppo.response_length,
        seed=settings.ppo.seed,
        description="supervised control",
    )
    folder = run / SUPERVISED
    save_generator(control, folder, {"stage": "supervised control", "epochs": epochs})
    return [Speaker(SUPERVISED, "control", lambda: load_generator(str(folder)))]
