"""What makes a CPU faster changes nothing that is computed."""

import ctypes
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from rlhf_dialog.cpu import SHORT, attention_kernel
from rlhf_dialog.errors import UserError
from rlhf_dialog.ppo.config import SeqGANPPOConfig

CPU = torch.device("cpu")


def fused():
    return torch.backends.cuda.flash_sdp_enabled()  # of the CPU as well


@pytest.fixture
def precision():
    """Sets the precision of products, and puts it back."""
    yield torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    ("device", "width", "bf16", "products", "expected"),
    [
        ("cpu", SHORT, True, "highest", False),
        ("cpu", SHORT, False, "medium", False),
        ("cpu", SHORT, False, "highest", True),
        ("cpu", SHORT + 1, True, "medium", True),
        ("cuda", SHORT, True, "medium", True),
    ],
)
def test_the_fused_kernel_is_left_where_it_is_slow(
    precision, device, width, bf16, products, expected
):
    precision(products)
    with attention_kernel(torch.device(device), width, bf16):
        assert fused() is expected
    assert fused()


@pytest.mark.parametrize("causal", [True, False])
def test_attention_and_its_gradient_are_those_of_the_fused_kernel(causal):
    torch.manual_seed(0)
    qkv = [torch.randn(3, 2, 7, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    outcomes = []
    for bf16 in (True, False):
        with attention_kernel(CPU, 7, bf16):
            out = scaled_dot_product_attention(*qkv, is_causal=causal)
            outcomes.append([out, *torch.autograd.grad(out.square().sum(), qkv)])
    for short, long in zip(*outcomes, strict=True):
        torch.testing.assert_close(short, long, rtol=1e-9, atol=1e-12)


FAULTS = """
import resource, sys, torch
from rlhf_dialog.cpu import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(12):  # until every piece of memory that there will be is there
    torch.zeros(2**24).add_(1)  # 64 MiB, made, filled and freed
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.zeros(2**24).add_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"),
    reason="it is glibc's allocator that gives memory back",
)
def test_freed_memory_is_not_mapped_again():
    def pages(how):
        command = [sys.executable, "-c", FAULTS, how]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout.split()[-1])

    given_back = pages("given back")
    if given_back < 1000:
        pytest.skip("this allocator keeps freed memory by itself")
    assert pages("kept") < given_back / 20


def test_the_trainer_keeps_freed_memory(build, monkeypatch):
    asked = []
    monkeypatch.setattr("rlhf_dialog.ppo.trainer.keep_freed_memory", lambda: asked.append(True))
    build()
    assert asked


@pytest.mark.parametrize("products", ["medium", "highest", None])
def test_the_precision_of_products_is_that_of_the_configuration(tmp_path, precision, products):
    precision("high")
    SeqGANPPOConfig(output_dir=str(tmp_path), float32_matmul_precision=products)
    assert torch.get_float32_matmul_precision() == (products or "high")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"float32_matmul_precision": "low"}, "float32_matmul_precision: 'low' is not one of"),
        ({"float32_matmul_precision": "high", "tf32": False}, "tf32: float32_matmul_precision"),
    ],
)
def test_a_precision_that_cannot_be_is_refused(tmp_path, values, told):
    with pytest.raises(UserError, match=told):
        SeqGANPPOConfig(output_dir=str(tmp_path), **values)
