"""The stages that recipes share: dialogues, generator, discriminator, judge."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState
from rich.markup import escape
from rich.table import Table

from rlhf_dialog.console import console, is_main_process
from rlhf_dialog.dialogues.duplicates import drop_duplicates
from rlhf_dialog.dialogues.examples import FEWEST_REPLIES, make_examples, require_character
from rlhf_dialog.dialogues.readers import read_dialogues
from rlhf_dialog.dialogues.schema import Dialogue, Example
from rlhf_dialog.dialogues.splits import split_dialogues
from rlhf_dialog.discriminators.model import Discriminator, fresh_discriminator, load_discriminator
from rlhf_dialog.discriminators.negatives import Pair, answers_somebody_else, fakes
from rlhf_dialog.discriminators.penalties import CopyPenalty, LengthPenalty, RepetitionPenalty
from rlhf_dialog.discriminators.rewards import TextReward, TextScorer, WeightedSum, named_reward
from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.decoding import sample_replies
from rlhf_dialog.generators.form_checks import refuse_untaught_form, require_what_is_read
from rlhf_dialog.generators.input_forms import use_input_form
from rlhf_dialog.generators.loading import (
    Generator,
    check_lengths,
    fresh_generator,
    load_generator,
)
from rlhf_dialog.generators.summaries import Summarise, with_summaries
from rlhf_dialog.generators.two_heads import ChoiceHead
from rlhf_dialog.generators.warm_start import (
    MARKER,
    hold_out,
    is_warm_started,
    supervised_examples,
    warm_start,
)
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from rlhf_dialog.settings import DialogueSettings, DiscriminatorSettings, GeneratorSettings

FEWEST_IN_SPLIT = 8  # of the character in each of the four splits
SEEDS_APART = 100_003  # from one process to the next, as in TRL


@dataclass
class Script:
    """A script's four disjoint splits, as examples with the replies of everybody."""

    settings: DialogueSettings
    splits: dict[str, list[Dialogue]]

    def everybody(self, split: str) -> list[Example]:
        return make_examples(self.splits[split], max_turns=self.settings.max_turns)

    def character(self, split: str) -> list[Example]:
        return make_examples(
            self.splits[split],
            character=self.settings.character,
            max_turns=self.settings.max_turns,
        )

    def texts(self, split: str) -> list[str]:
        return [turn.text for dialogue in self.splits[split] for turn in dialogue.turns]

    def summarise(self, summarise: Summarise, *splits: str) -> None:
        """Gives the dialogues of these splits the summaries that they lack."""
        self.splits |= {name: with_summaries(self.splits[name], summarise) for name in splits}


def load_script(settings: DialogueSettings, seed: int) -> Script:
    """Reads, checks and splits the dialogues; of copies one is kept.

    Raises:
        UserError: anything wrong with the file, or a character too rare to learn and to test.
    """
    read = read_dialogues(settings.dialogues, settings.dialogues_form, settings.dialogues_columns)
    dialogues, dropped = drop_duplicates(read)
    for reason, number in dropped.items():
        console.print(f"{escape(settings.dialogues)}: {number} {reason} left out")
    require_character(dialogues, settings.character, FEWEST_REPLIES)
    script = Script(settings, split_dialogues(dialogues, settings.shares, seed))
    for name in script.splits:
        count = len(script.character(name))
        if count < FEWEST_IN_SPLIT:
            raise UserError(
                f"{settings.dialogues}: the split {name!r} holds {count} replies of "
                f"{settings.character!r} and needs {FEWEST_IN_SPLIT}; give more dialogues, or "
                f"raise {name}_share."
            )
        scenes = {example.dialogue_id for example in script.character(name)}
        if name in ("discriminator", "judge") and len(scenes) < 2:
            raise UserError(
                f"{settings.dialogues}: the split {name!r} holds one dialogue with replies of "
                f"{settings.character!r} and needs two, one to be held out; give more dialogues, "
                "or mark the scenes of a transcript with headings."
            )
    return script


def general_examples(
    script: Script, settings: GeneratorSettings, summarise: Summarise | None = None
) -> list[Example]:
    """Further conversation for the warm start, read before anything expensive begins; once more,
    where summaries have to be made for it."""
    if summarise is not None and is_warm_started(settings.generator):
        return []  # nobody will read it
    if not settings.warm_start_dialogues:
        return []
    read = read_dialogues(
        settings.warm_start_dialogues,
        settings.warm_start_dialogues_form,
        settings.warm_start_dialogues_columns,
    )
    dialogues = without_held_out(script, read)
    if len(read) > len(dialogues) and summarise is None:  # else it has been told before
        console.print(
            f"{escape(settings.warm_start_dialogues)}: {len(read) - len(dialogues)} left out, "
            "which discriminator, judge or test hold too"
        )
    dialogues = with_summaries(dialogues, summarise)
    return supervised_examples(dialogues, settings, max_turns=script.settings.max_turns)


def without_held_out(script: Script, dialogues: Sequence[Dialogue]) -> list[Dialogue]:
    """The dialogues that neither discriminator nor judge nor test of the script hold too."""
    held_out = {
        dialogue.turns
        for split in ("discriminator", "judge", "test")
        for dialogue in script.splits[split]
    }
    return [dialogue for dialogue in dialogues if dialogue.turns not in held_out]


def make_generator(
    script: Script,
    settings: GeneratorSettings,
    general: Sequence[Example],
    *,
    response_length: int,
    seed: int,
) -> Generator:
    """The generator the settings name, or a fresh one; nothing is trained yet.

    Raises:
        UserError: a model that is not to be found, too short for the prompts and replies, or one
            that cannot read the form of prompts that the settings name.
    """
    if settings.generator is not None:
        generator = load_generator(settings.generator)
    else:
        generator = fresh_generator(
            settings.fresh_architecture,
            [*script.texts("generator"), *(example.reply for example in general)],
            vocab_size=settings.fresh_vocab_size,
            hidden_size=settings.fresh_hidden_size,
            layers=settings.fresh_layers,
            heads=settings.fresh_heads,
            positions=settings.context_length + response_length,
            seed=seed,
        )
    if settings.input_form is not None:
        refuse_untaught_form(generator, settings)
        use_input_form(generator, settings.input_form)
        require_what_is_read(script.splits["generator"], settings, script.settings.dialogues)
    check_lengths(generator, settings.context_length, response_length)
    return generator


def warm_start_generator(
    generator: Generator,
    script: Script,
    settings: GeneratorSettings,
    general: Sequence[Example],
    *,
    response_length: int,
    seed: int,
    checkpoints: Path | None = None,
) -> ChoiceHead | None:
    """Supervised training in place: general conversation first, then the whole cast's replies.

    Returns the second head, where `warm_start_distractors` asks for one. In the folder
    `checkpoints` each of the two leaves one an epoch, and goes on from the last.
    """
    if is_warm_started(settings.generator) or not settings.warm_start_epochs:
        console.print(
            f"warm start: none, {settings.generator or 'the fresh model'} is used as it is"
        )
        return None
    turns = script.settings.max_turns
    own, held_out = hold_out(script.splits["generator"], settings.warm_start_validation_share, seed)
    cast, unseen = (supervised_examples(d, settings, max_turns=turns) for d in (own, held_out))
    head = None
    for name, examples, validation in (("general", general, ()), ("cast", cast, unseen)):
        if examples:
            head = warm_start(
                generator,
                examples,
                settings,
                response_length=response_length,
                seed=seed,
                description="warm start, general" if name == "general" else "warm start",
                validation=validation,
                checkpoints=checkpoints / name if checkpoints else None,
                choice_head=head,
            ).choice_head
    return head


def make_discriminator(
    script: Script, split: str, settings: DiscriminatorSettings, *, seed: int
) -> Discriminator:
    """An untrained discriminator or judge (`split` names which) for that split's dialogues."""
    name = getattr(settings, split)
    if name is not None:
        return load_discriminator(
            name, max_tokens=settings.discriminator_max_tokens, what=split, seed=seed
        )
    return fresh_discriminator(
        script.texts(split),
        hidden_size=settings.fresh_discriminator_hidden_size,
        layers=settings.fresh_discriminator_layers,
        max_tokens=settings.discriminator_max_tokens,
        seed=seed,
    )


def human_pools(
    script: Script, split: str, generator: Generator, response_length: int
) -> dict[str, list[Pair]]:
    """What people said in one split: the character ("real") and the "cast".

    Every reply is spelt as the generator spells, so that casing and spacing tell nothing; one of
    which its tokenizer leaves nothing is left out. Only the generator's tokenizer is asked. Pairs
    are later held out by whole groups (episodes), or by scenes where groups are too large for that.

    Raises:
        UserError: the tokenizer leaves too little of what the character says.
    """
    character = script.settings.character
    said = {
        "real": script.character(split),
        "cast": [e for e in script.everybody(split) if answers_somebody_else(e, character)],
    }
    groups = Counter(example.group for example in said["real"])
    small = max(groups.values(), default=0) <= groups.total() / 4  # one in five is held out
    spelt = {
        kind: [
            Pair(
                example.context,
                reply,
                kind,
                example.group if small else example.dialogue_id,
                generator.round_trip(example.context[-1], response_length),
            )
            for example in examples
            if (reply := generator.round_trip(example.reply, response_length))
        ]
        for kind, examples in said.items()
    }
    units = {pair.group for pair in spelt["real"]}
    if len(spelt["real"]) < FEWEST_IN_SPLIT or len(units) < 2:
        raise UserError(
            f"--generator: its tokenizer leaves {len(spelt['real'])} of {len(said['real'])} "
            f"replies of {character!r} in the split {split!r}; it does not know the script's "
            "language."
        )
    return spelt


def discriminator_pools(
    people: Mapping[str, list[Pair]],
    generator: Generator,
    *,
    context_length: int,
    response_length: int,
    seed: int,
) -> dict[str, list[Pair]]:
    """`human_pools` of the discriminator's split, and the generator's own replies to the same."""
    samples = sample_replies(
        generator,
        [pair.context for pair in people["real"]],
        context_length=context_length,
        response_length=response_length,
        seed=seed,
    )
    return {**people, "generated": fakes("generated", people["real"], samples)}


def make_reward(
    ppo: SeqGANPPOConfig, scorer: TextScorer, script: Script, generator: Generator
) -> TextReward:
    """The reward that the settings name, made of a discriminator's score or another model's.

    The real replies that `relative` compares with are spelt as the generator spells, like those
    that the discriminator saw. Random generators differ from process to process.
    """
    reward = named_reward(
        ppo.reward,
        scorer,
        seed=ppo.seed + SEEDS_APART * PartialState().process_index,
        real_pairs=[
            (e.context, generator.round_trip(e.reply, ppo.response_length) or e.reply)
            for split in ("generator", "discriminator")  # rollouts, and evaluations in a run
            for e in script.character(split)
        ],
    )
    penalties = [
        (ppo.repetition_penalty_coef, RepetitionPenalty(n=2)),
        (ppo.copy_penalty_coef, CopyPenalty(n=3)),
        (ppo.length_penalty_coef, LengthPenalty(ppo.length_penalty_least, ppo.length_penalty_most)),
    ]
    chosen = [(weight, penalty) for weight, penalty in penalties if weight]
    return WeightedSum([(1.0, reward), *chosen]) if chosen else reward


def save_generator(generator: Generator, folder: Path, note: dict) -> None:
    """A `save_pretrained` folder, marked as one that needs no warm start."""
    if is_main_process():
        generator.save(folder)
        (folder / MARKER).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")


def describe_script(script: Script) -> None:
    parts: Sequence[str] = [
        f"{name} {len(dialogues)} scenes, {len(script.character(name))} replies"
        for name, dialogues in script.splits.items()
    ]
    console.print(
        f"[bold]{escape(script.settings.character)}[/bold] in "
        f"{escape(script.settings.dialogues)}: " + "; ".join(parts)
    )
    character = script.settings.character
    if not any(answers_somebody_else(e, character) for e in script.everybody("discriminator")):
        console.print(
            f"[yellow]nobody answers anybody but {escape(character)}[/yellow]: discriminator and "
            "judge have no replies of other characters to tell theirs from, and learn less about "
            "how they talk; dialogues among the others would help."
        )


def keep_discriminator(
    run: Path,
    discriminator: Discriminator,
    report: Mapping[str, float],
    shortcuts: Mapping[str, Mapping[str, float]],
) -> None:
    """Prints the held-out figures, and writes `discriminator/` and held_out.json into the run."""
    print_held_out("discriminator", report, shortcuts)
    if is_main_process():
        discriminator.save(run / "discriminator")
        figures = json.dumps({**report, "shortcuts": shortcuts}, indent=2)
        (run / "held_out.json").write_text(figures + "\n", encoding="utf-8")
    console.print(f"The discriminator: {run / 'discriminator'}")


def print_held_out(
    name: str,
    report: Mapping[str, float],
    shortcuts: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """The area under the ROC curve of real replies against each kind of fake, held out.

    One line; with `shortcuts` (`shortcut_report`) a table that sets theirs beside it.
    """
    aucs = {key.removeprefix("auc/"): v for key, v in report.items() if key.startswith("auc/")}
    if shortcuts is None:
        figures = ", ".join(f"{kind} {value:.2f}" for kind, value in aucs.items())
        console.print(f"{name}: held-out AUC against {figures}")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    columns = ("real replies against", name, *(key.replace("_", " ") for key in shortcuts))
    for place, heading in enumerate(columns):
        table.add_column(heading, justify="right" if place else "left")
    for kind, value in aucs.items():
        others = (f"{of.get(kind, float('nan')):.2f}" for of in shortcuts.values())
        label = "all, by their shares" if kind == "all" else kind.replace("_", " ")
        table.add_row(label, f"{value:.2f}", *others)
    console.print("held-out AUC beside what shortcuts reach on the reply alone:")
    console.print(table)
