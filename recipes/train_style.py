"""A discriminator of a style: dialogues told in several ways, one of them against the rest.

    accelerate launch -q recipes/train_style.py --dialogues smilestyle.jsonl --style formal \\
        --output_dir runs/formal

Its form is that of rlhf_dialog/dialogues/styles.py. Parallel dialogues are never divided between
training and held-out side. Fakes are the same lines in the other styles, drawn as long as the real
ones, real replies under wrong contexts and broken replies. Writes the folder `discriminator`, and
in held_out.json the held-out figures beside those of shortcuts.
"""

from __future__ import annotations

from transformers import set_seed

from rlhf_dialog.console import console, run_recipe
from rlhf_dialog.dialogues.styles import read_styled_replies
from rlhf_dialog.discriminators.model import fresh_discriminator, load_discriminator
from rlhf_dialog.discriminators.negatives import Pair
from rlhf_dialog.discriminators.shortcuts import shortcut_report
from rlhf_dialog.discriminators.training import pretrain
from rlhf_dialog.errors import UserError
from rlhf_dialog.parsing import parse
from rlhf_dialog.runs import all_values, new_run, refuse_used, write_config
from rlhf_dialog.settings import DiscriminatorSettings, StyleSettings
from rlhf_dialog.stages import keep_discriminator


def main() -> None:
    style, settings = parse((StyleSettings, DiscriminatorSettings), default_config=None)
    for name in ("dialogues", "style"):
        if getattr(style, name) is None:
            raise UserError(f"--{name}: is needed; see --help.")
    refuse_used(style.output_dir)
    said = read_styled_replies(
        style.dialogues, style.style, field=style.style_field, max_turns=style.max_turns
    )
    pools: dict[str, list[Pair]] = {"real": [], "cast": []}
    for reply in said:
        kind = "real" if reply.is_wanted else "cast"
        pools[kind].append(Pair(reply.context, reply.reply, kind, reply.group))
    if len({pair.group for pair in pools["real"]}) < 2:
        raise UserError(
            f"{style.dialogues}: one dialogue in the style {style.style!r} has replies, and two "
            "are needed, one to be held out; add dialogues."
        )
    limits = {"max_tokens": settings.discriminator_max_tokens, "seed": style.seed}
    if settings.discriminator is not None:
        discriminator = load_discriminator(settings.discriminator, what="discriminator", **limits)
    else:
        discriminator = fresh_discriminator(
            [pair.reply for pool in pools.values() for pair in pool],
            hidden_size=settings.fresh_discriminator_hidden_size,
            layers=settings.fresh_discriminator_layers,
            **limits,
        )
    run = new_run(style.output_dir)
    write_config(run, all_values(style, settings))
    counts = f"{len(pools['real'])} replies, {len(pools['cast'])} in other styles"
    console.print(f"{style.style} in {style.dialogues}: {counts}", markup=False)
    set_seed(style.seed)
    held_out = pretrain(
        discriminator, pools, settings, seed=style.seed, description="discriminator"
    )
    shortcuts = shortcut_report(pools, settings, seed=style.seed)
    keep_discriminator(run, discriminator, held_out, shortcuts)


if __name__ == "__main__":
    run_recipe(main)
