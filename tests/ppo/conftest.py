import pytest

from tests.ppo.stock import build_stock, run_stock
from tests.ppo.trainers import build_trainer, grade, make_ends_likely


@pytest.fixture
def build(tmp_path, make_generator, examples):
    """(family, reward, configuration) -> trainer and history."""

    def make(family="gpt2", reward=grade, *, sharp=False, **values):
        generator = make_generator(family, sharp=sharp)
        return build_trainer(generator, examples, tmp_path, reward, **values)

    return make


@pytest.fixture
def generator(make_generator):
    """A small GPT-2 whose replies differ in length."""
    made = make_generator("gpt2")
    make_ends_likely(made.model, made.tokenizer.eos_token_id)
    return made


@pytest.fixture
def stock(generator, examples, tmp_path, monkeypatch):
    """Runs stock with the given values on `size` contexts; returns what it did."""

    def run(size=8, **values):
        trainer = build_stock(generator, examples[:size], tmp_path / "stock", **values)
        return run_stock(trainer, monkeypatch)

    return run


@pytest.fixture
def ours(make_generator, examples, tmp_path):
    def make(family="gpt2", reward=grade, size=30, **values):
        return build_trainer(make_generator(family), examples[:size], tmp_path, reward, **values)

    return make
