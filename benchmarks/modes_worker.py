"""One process of `benchmarks/modes.py`: trains, saves, reloads and resumes, and says how it went.

Run by `accelerate launch`; each process writes one JSON line per family to `<folder>/rank-N.jsonl`.

With --fixed, replies follow from their contexts and the update alone, and there are just as many
contexts as an update takes: then any number of processes compute the same run, whoever gets which
context, and their figures can be compared. The policy is still asked to generate, as in any run;
its replies are put aside.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import resource
import shutil
import time
from pathlib import Path

import psutil
import torch
from accelerate.utils import gather_object
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PrinterCallback

from rlhf_dialog.console import quiet_libraries
from rlhf_dialog.devices import end_process, join_processes
from rlhf_dialog.dialogues.examples import make_examples
from rlhf_dialog.dialogues.readers import read_dialogues
from rlhf_dialog.discriminators.model import Discriminator, fresh_discriminator, load_discriminator
from rlhf_dialog.discriminators.negatives import Pair
from rlhf_dialog.discriminators.refresh import Refresher
from rlhf_dialog.discriminators.rewards import as_reward
from rlhf_dialog.generators.loading import Generator, fresh_generator
from rlhf_dialog.generators.prompts import encode_batch
from rlhf_dialog.generators.sampling import Responses
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from rlhf_dialog.ppo.trainer import SeqGANPPOTrainer
from rlhf_dialog.ppo.zero import is_engine
from rlhf_dialog.settings import DiscriminatorSettings

STARTED = psutil.Process().create_time()
CONTEXT, RESPONSE = 24, 8
UPDATES, SAVED = 4, 2  # updates of a run, and where the resumed one begins
EPISODES = 16  # of an update, over all processes
SCRIPT = Path(__file__).parents[1] / "data" / "tidy_tide.jsonl"


class FixedReplies(SeqGANPPOTrainer):
    """A trainer whose replies do not follow from chance."""

    def _respond(self, context_ids, context_mask, chunk=None, keep=False):
        super()._respond(context_ids, context_mask, chunk)
        end, size = self.stop_token_id, self.generator.model.config.vocab_size
        rows = []
        for ids, mask in zip(context_ids, context_mask, strict=True):
            rng = random.Random(f"{self.state.global_step} {ids[mask].tolist()}")
            length = rng.randint(2, RESPONSE)
            row = [rng.randrange(5, size) for _ in range(length - 1)] + [end] * (RESPONSE + 1)
            rows.append((row[:RESPONSE], [True] * length + [False] * (RESPONSE - length)))
        ids, mask = (torch.tensor(x, device=context_ids.device) for x in zip(*rows, strict=True))
        return Responses(ids, mask)


def build(family: str, folder: Path, examples: list, options: argparse.Namespace, **values):
    """A trainer of a run in `folder`, and its discriminator; everything from one seed."""
    texts = [example.reply for example in examples]
    generator = fresh_generator(
        family,
        texts,
        vocab_size=400,
        hidden_size=options.hidden_size,
        layers=options.layers,
        heads=2,
        positions=CONTEXT + RESPONSE,
        seed=0,
    )
    discriminator = fresh_discriminator(texts, hidden_size=32, layers=1, max_tokens=48, seed=0)
    pools = {
        kind: [Pair(e.context, f"{e.reply}{end}", kind, e.dialogue_id) for e in examples]
        for kind, end in (("real", ""), ("cast", " Aye."), ("generated", " lamp lamp"))
    }
    settings = DiscriminatorSettings(
        refresh_steps=2, refresh_samples=16, discriminator_batch_size=8, refresh_ceiling=1.0
    )
    rows = EPISODES // join_processes().num_processes // 2
    arguments = SeqGANPPOConfig(
        **{
            "output_dir": str(folder),
            "max_steps": UPDATES,
            "save_steps": SAVED,
            "save_total_limit": None,
            "per_device_train_batch_size": rows,
            "gradient_accumulation_steps": 2,
            "num_mini_batches": 1,
            "num_ppo_epochs": 2,
            "response_length": RESPONSE,
            "learning_rate": 1e-3,
            "supervised_batch_size": rows,
            "report_to": "none",
            "disable_tqdm": True,
            "merge_adapters": options.lora,
            **values,
        }
    )
    trainer = (FixedReplies if options.fixed else SeqGANPPOTrainer)(
        arguments,
        generator,
        as_reward(discriminator),
        examples[:EPISODES] if options.fixed else examples,
        context_length=CONTEXT,
        refresher=Refresher(discriminator, pools, settings, seed=0),
        refresh_every=2,
        supervised_examples=examples,
        peft_config=LoraConfig(r=4, target_modules="all-linear") if options.lora else None,
    )
    trainer.remove_callback(PrinterCallback)
    if options.fixed:
        trainer.anchor.draw = lambda order: real_replies(trainer, examples, rows)
    return trainer, discriminator


def real_replies(trainer: SeqGANPPOTrainer, examples: list, rows: int) -> tuple:
    """This process's part of the same real replies at every step."""
    own = examples[trainer.accelerator.process_index * rows :][:rows]
    contexts, replies = [e.context for e in own], [e.reply for e in own]
    return encode_batch(
        trainer.generator,
        contexts,
        replies,
        context_length=CONTEXT,
        response_length=RESPONSE,
        end=trainer.stop_token_id,
    )


def held_mb() -> float:
    """Of all tensors that this process holds now."""
    storages = {
        storage.data_ptr(): storage.nbytes()
        for thing in gc.get_objects()
        if isinstance(thing, torch.Tensor) and (storage := thing.untyped_storage()).nbytes()
    }
    return sum(storages.values()) / 1e6


def watch(trainer: SeqGANPPOTrainer) -> tuple[list[dict], list[float], list[float]]:
    """The metrics of every update, without times; the clock when it was over; what is held then."""
    history: list[dict] = []
    clock: list[float] = []
    held: list[float] = []
    update = trainer.refresh  # the last thing of an update

    def refresh():
        metrics = update()
        clock.append(time.time())
        held.append(held_mb())
        return metrics

    def log(logs, *arguments):
        history.append({k: v for k, v in logs.items() if k != "seconds"})

    trainer.refresh, trainer.log = refresh, log
    return history, clock, held


@torch.no_grad()
def logprobs(model: torch.nn.Module, generator: Generator, examples: list) -> torch.Tensor:
    """Log-probabilities of the first real replies, under the model's own forward."""
    contexts, replies = [e.context for e in examples[:8]], [e.reply for e in examples[:8]]
    ids, mask, reply_ids, _ = encode_batch(
        generator, contexts, replies, context_length=CONTEXT, response_length=RESPONSE
    )
    model.eval()
    if generator.is_encoder_decoder:
        logits = model(
            input_ids=ids, attention_mask=mask.long(), decoder_input_ids=reply_ids
        ).logits
    else:
        logits = model(input_ids=ids, attention_mask=mask.long()).logits
    return logits.float().log_softmax(-1)


def reloads(folder: Path, trainer: SeqGANPPOTrainer, discriminator: Discriminator, examples: list):
    """Largest difference between what was trained and what plain transformers loads."""
    generator = trainer.generator
    auto = AutoModelForSeq2SeqLM if generator.is_encoder_decoder else AutoModelForCausalLM
    loaded = auto.from_pretrained(folder / "generator")
    differences = [
        logprobs(loaded, generator, examples) - logprobs(generator.model, generator, examples)
    ]
    head = load_file(folder / "generator" / "value" / "value_head.safetensors")
    own = trainer.policy.value_head.state_dict()
    differences += [head[name] - own[name] for name in own]
    judged = load_discriminator(
        str(folder / "discriminator"), max_tokens=48, what="discriminator", seed=0
    )
    pairs = [e.context for e in examples[:8]], [e.reply for e in examples[:8]]
    differences.append(judged(*pairs) - discriminator(*pairs))
    return max(difference.abs().max().item() for difference in differences)


def straight(family: str, folder: Path, examples: list, options: argparse.Namespace) -> dict:
    """A whole run: what it measured, what it saved, what is loaded again."""
    begun, base = time.time(), held_mb()
    trainer, discriminator = build(family, folder, examples, options, **options.values)
    history, clock, held = watch(trainer)
    trainer.train()
    trainer.save_model(str(folder / "generator"))
    if trainer.is_world_process_zero():
        discriminator.save(folder / "discriminator")
    trainer.accelerator.wait_for_everyone()
    weights = torch.cat([p.flatten() for p in discriminator.model.state_dict().values()])
    told = gather_object([weights.double().sum().item()])
    return {
        "history": history,
        "seconds_to_first_step": options.startup + clock[0] - begun,
        "held_mb": held[-1] - base,
        "seconds_per_update": (clock[-1] - clock[0]) / (len(clock) - 1),
        "reload_difference": reloads(folder, trainer, discriminator, examples),
        "discriminators_differ": max(told) - min(told),
        "logprobs": logprobs(trainer.generator.model, trainer.generator, examples).tolist(),
        "batches_told": batches_told(trainer),
        "parameters": sum(p.numel() for p in trainer.policy.parameters()),
    }


def batches_told(trainer: SeqGANPPOTrainer) -> list[int] | None:
    """Rows a pass, passes a step, rows a step on all processes: what DeepSpeed's engine goes by."""
    if not is_engine(trainer.accelerator):
        return None
    engine = trainer.model
    return [
        engine.train_micro_batch_size_per_gpu(),
        engine.gradient_accumulation_steps(),
        engine.train_batch_size(),
    ]


def resumed(family: str, folder: Path, examples: list, options: argparse.Namespace) -> list[dict]:
    """The same run from its checkpoint in the middle; its metrics."""
    again = folder.with_name(folder.name + "-resumed")
    name = f"checkpoints/step-{SAVED:06d}"
    if join_processes().is_main_process:
        shutil.copytree(folder / name, again / name)
    join_processes().wait_for_everyone()
    trainer, _ = build(family, again, examples, options, **options.values)
    history, _, _ = watch(trainer)
    trainer.train(resume_from_checkpoint="latest")
    return history


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("families", nargs="+")
    parser.add_argument("--fixed", action="store_true")
    parser.add_argument("--lora", action="store_true", help="train adapters, save them merged")
    parser.add_argument("--hidden_size", type=int, default=32)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--values", type=json.loads, default={}, help="of SeqGANPPOConfig, as JSON")
    options = parser.parse_args()
    quiet_libraries()
    examples = make_examples(read_dialogues(str(SCRIPT))[:60], max_turns=2)[:96]
    state = join_processes(timeout=300)
    options.startup = time.time() - STARTED  # imports, and meeting the others
    for family in options.families:
        folder = options.folder / family
        result = straight(family, folder, examples, options)
        result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        result["resumed"] = resumed(family, folder, examples, options)
        result |= {"family": family, "rank": state.process_index, "processes": state.num_processes}
        with (options.folder / f"rank-{state.process_index}.jsonl").open("a") as file:
            file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
    end_process()
