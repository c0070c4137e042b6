"""Replies to a file of dialogues: each is gone on with at its end.

    python recipes/generate.py --generator runs/demo/generator --dialogues contexts.jsonl \\
        --output_file replies.jsonl --top_p 0.9 --temperature 0.7 --returns 3

A line of the output holds the context, the replies, the best first, and their scores: `rank` of a
reranking (--rerank likelihood | mmi | discriminator), `discriminator` where one is given.
"""

from __future__ import annotations

from pathlib import Path

from rlhf_dialog.chat.conversation import Speaker
from rlhf_dialog.console import console, is_main_process, progress, run_recipe
from rlhf_dialog.dialogues.readers import read_dialogues
from rlhf_dialog.dialogues.schema import Context, Dialogue, speaker_key
from rlhf_dialog.errors import UserError
from rlhf_dialog.parsing import parse
from rlhf_dialog.runs import write_jsonl
from rlhf_dialog.settings import DecodingSettings, GenerationFileSettings, SpeakerSettings

CHUNK = 256  # dialogues between two steps of the bar


def main() -> None:
    kinds = (GenerationFileSettings, SpeakerSettings, DecodingSettings)
    files, models, decoding = parse(kinds, default_config=None)
    if not is_main_process():  # one process generates; the others have nothing to do
        return
    output = Path(files.output_file)
    if files.dialogues is None:
        raise UserError("--dialogues: is needed; see --help.")
    if output.exists():
        raise UserError(f"--output_file {output}: is there already; name a new file.")
    dialogues = read_dialogues(files.dialogues, files.dialogues_form, files.dialogues_columns)
    speaker = Speaker.load(models)
    summaries = speaker.summaries([[(t.speaker, t.text) for t in d.turns] for d in dialogues])
    contexts = [
        context_of(dialogue, files.character, summary)
        for dialogue, summary in zip(dialogues, summaries, strict=True)
    ]

    rows = []
    with progress("replies", -(-len(contexts) // CHUNK)) as advance:
        for start in range(0, len(contexts), CHUNK):
            chunk = contexts[start : start + CHUNK]
            answers = speaker.answers(chunk, decoding)
            for dialogue, context, found in zip(
                dialogues[start : start + CHUNK], chunk, answers, strict=True
            ):
                best = found[: decoding.returns]
                rows.append(
                    {
                        "dialogue_id": dialogue.id,
                        "context": list(context),
                        "replies": [candidate.text for candidate in best],
                        "rank": [candidate.rank for candidate in best],
                        "discriminator": [candidate.score for candidate in best],
                    }
                )
            advance()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(output, rows)
    except OSError as error:
        raise UserError(
            f"--output_file {output}: cannot be written ({error.strerror}); name another file."
        ) from error
    console.print(f"{len(rows)} contexts, {decoding.returns} replies each: {output}")


def context_of(dialogue: Dialogue, character: str | None, summary: str = "") -> Context:
    """All turns of a dialogue, and the persona of who would reply: `character`, or the latest
    speaker who did not speak last. `summary` is of the turns but the last."""
    last = speaker_key(dialogue.turns[-1].speaker)
    others = [t.speaker for t in dialogue.turns if speaker_key(t.speaker) != last]
    others = others or [name for name in dialogue.personas if name != last]
    replies = character or (others[-1] if others else "")
    return Context((turn.text for turn in dialogue.turns), dialogue.persona_of(replies), summary)


if __name__ == "__main__":
    run_recipe(main)
