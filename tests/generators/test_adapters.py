"""Adapters come back on the base that they name, and on no other."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.loading import Generator, load_generator

both_families = pytest.mark.parametrize("family", ["gpt2", "blenderbot-small"])


@pytest.fixture
def tuned(make_generator, tmp_path):
    """family -> a generator loaded from `tmp_path/base`, with adapters that do something."""

    def make(family):
        make_generator(family).save(tmp_path / "base")
        base = load_generator(str(tmp_path / "base"))
        names = ["c_attn"] if family == "gpt2" else ["q_proj", "v_proj"]
        lora = LoraConfig(r=2, target_modules=names, fan_in_fan_out=family == "gpt2")
        model = get_peft_model(base.model, lora)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora" in name:
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
        return Generator(model.eval(), base.tokenizer)

    return make


@torch.no_grad()
def logits(model):
    ids = torch.arange(5, 17).view(2, 6)
    extra = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    return model.eval()(input_ids=ids, **extra).logits


@both_families
def test_an_adapter_folder_opens_on_its_base(tuned, tmp_path, family):
    generator = tuned(family)
    generator.save(tmp_path / "adapters")
    assert not list(tmp_path.glob("adapters/model*"))
    with generator.model.disable_adapter():
        untouched = logits(generator.model)
    wanted = logits(generator.model)
    assert (wanted - untouched).abs().max() > 1e-2
    loaded = load_generator(str(tmp_path / "adapters"))
    assert not isinstance(loaded.model, PeftModel)
    torch.testing.assert_close(logits(loaded.model), wanted, atol=1e-5, rtol=0)
    # PEFT's own way of reading the folder agrees.
    auto = AutoModelForCausalLM if family == "gpt2" else AutoModelForSeq2SeqLM
    own = PeftModel.from_pretrained(auto.from_pretrained(tmp_path / "base"), tmp_path / "adapters")
    torch.testing.assert_close(logits(own), wanted, atol=1e-5, rtol=0)


@both_families
def test_merged_adapters_are_a_plain_model(tuned, tmp_path, family):
    generator = tuned(family)
    wanted = logits(generator.model)
    generator.save(tmp_path / "merged", merge_adapters=True)
    assert isinstance(generator.model, PeftModel)
    assert torch.equal(logits(generator.model), wanted)  # and goes on as it was
    auto = AutoModelForCausalLM if family == "gpt2" else AutoModelForSeq2SeqLM
    loaded = auto.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(loaded), wanted, atol=1e-5, rtol=0)


def test_a_base_that_is_gone_changed_or_unnamed_is_told(tuned, tmp_path):
    generator = tuned("gpt2")
    folder, wanted = tmp_path / "adapters", logits(generator.model)
    generator.save(folder)
    with torch.no_grad():
        generator.model.get_input_embeddings().weight.add_(0.01)  # trained further, in memory
    generator.save(tmp_path / "further")
    with pytest.raises(UserError, match="trained on other weights than those of"):
        load_generator(str(tmp_path / "further"))
    shutil.move(tmp_path / "base", tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"adapters of .*base, which is not there; bring it back"):
        load_generator(str(folder))
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(tmp_path / "elsewhere")  # as the sentence says
    (folder / "adapter_config.json").write_text(json.dumps(config))
    torch.testing.assert_close(logits(load_generator(str(folder)).model), wanted)
    config["base_model_name_or_path"] = ""
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="name no base model"):
        load_generator(str(folder))
