import pytest

from rlhf_dialog.chat.conversation import Speaker
from rlhf_dialog.discriminators.model import fresh_discriminator
from rlhf_dialog.settings import SpeakerSettings
from tests.conftest import SENTENCES


@pytest.fixture
def folders(make_generator, tmp_path):
    """A generator, a discriminator and a reverse generator as runs leave them."""
    make_generator("gpt2", sharp=True).save(tmp_path / "generator")
    make_generator("blenderbot-small", sharp=True).save(tmp_path / "reverse")
    discriminator = fresh_discriminator(SENTENCES, hidden_size=32, layers=1, max_tokens=48, seed=1)
    discriminator.save(tmp_path / "discriminator")
    return tmp_path


@pytest.fixture
def speaker(folders):
    names = {"generator": "generator", "discriminator": "discriminator"}
    paths = {name: str(folders / folder) for name, folder in names.items()}
    return Speaker.load(SpeakerSettings(**paths, reverse_generator=str(folders / "reverse")))
