import pytest
from huggingface_hub import constants, utils

from rlhf_dialog.publishing import hub
from tests.publishing.loopback_hub import TOKEN, LoopbackHub
from tests.publishing.runs import write_run


@pytest.fixture
def run(tmp_path, make_generator):
    return write_run(tmp_path / "run", make_generator("gpt2"))


@pytest.fixture
def loopback(monkeypatch, tmp_path):
    """A Hub that this process's client talks to, without waiting between attempts."""
    with LoopbackHub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(hub, "FIRST_WAIT", 0)
        monkeypatch.setattr(utils._http.time, "sleep", lambda seconds: None)
        utils.close_session()
        yield server
        utils.close_session()
