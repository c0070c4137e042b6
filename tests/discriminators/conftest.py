import random

import pytest

from rlhf_dialog.discriminators.model import fresh_discriminator
from rlhf_dialog.discriminators.training import pretrain
from tests.discriminators.toy import SETTINGS, toy_pools


@pytest.fixture(scope="module")
def trained():
    pools = toy_pools(random.Random(1))
    texts = [pair.reply for pool in pools.values() for pair in pool] + ["what ever"]
    discriminator = fresh_discriminator(texts, hidden_size=64, layers=1, max_tokens=32, seed=0)
    report = pretrain(discriminator, pools, SETTINGS, seed=0, description="test")
    return discriminator, pools, report
