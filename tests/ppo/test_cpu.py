"""What makes a CPU faster changes nothing that is computed."""

import ctypes
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from rlhf_dialog.cpu import SHORT, FreedMemory, attention, attention_kernel
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


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("scale", [0.3, None])
def test_attention_in_batches_is_that_of_the_fused_kernel(precision, scale, biased):
    """In float64, where no kernel rounds; its gradient too."""
    precision("medium")
    torch.manual_seed(0)
    shapes = [(2, 2, 3 if biased else 7, 8), (2, 2, 7, 8), (2, 2, 7, 8)]
    qkv = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    bias = torch.randn(2, 1, 3, 7, dtype=torch.float64) if biased else None
    if biased:
        bias[1, :, :, -2:] = -torch.inf
    outcomes = []
    for out in (
        attention(*qkv, scale=scale, bias=bias),
        scaled_dot_product_attention(*qkv, attn_mask=bias, is_causal=not biased, scale=scale),
    ):
        outcomes.append([out, *torch.autograd.grad(out.square().sum(), qkv)])
    for ours, theirs in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "width", "products", "expected"),
    [
        (torch.float32, SHORT, "highest", "fused"),
        (torch.float32, SHORT, "medium", "batches"),
        (torch.bfloat16, SHORT, "highest", "batches"),
        (torch.bfloat16, SHORT + 1, "medium", "fused"),
    ],
)
def test_attention_is_in_batches_where_oneDNN_multiplies(
    precision, monkeypatch, dtype, width, products, expected
):
    precision(products)
    used, bmm, fused = [], torch.bmm, torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(torch, "bmm", lambda *a: used.append("batches") or bmm(*a))
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *a, **k: used.append("fused") or fused(*a, **k),
    )
    qkv = torch.ones(3, 1, 2, width, 8, dtype=dtype)
    assert attention(*qkv, scale=None).mean() == 1
    assert not attention(*qkv, scale=None, dropout=1.0).any()
    assert used == [expected] * 2


def test_a_precision_that_was_set_by_newer_names_is_no_obstacle():
    script = """
import torch
torch.backends.mkldnn.matmul.fp32_precision = "bf16"
from rlhf_dialog.cpu import attention
print(attention(*torch.ones(3, 1, 1, 4, 8), scale=None).sum().item())
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.stdout.strip() == "32.0", ran.stderr


MEMORY = """
import resource, sys, torch
from types import SimpleNamespace
from rlhf_dialog import cpu

def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

cpu.LOOSE = int(sys.argv[2])
memory = cpu.FreedMemory() if sys.argv[1] == "kept" else None
for _ in range(12):  # until every piece of memory that there will be is there
    torch.zeros(2**24).add_(1)  # 64 MiB, made, filled and freed
before, held = pages(), resident()
for _ in range(4):
    torch.zeros(2**24).add_(1)
mapped = pages() - before
if memory:
    for step in range(1, cpu.UPDATES_KEPT + 1):
        memory.on_step_end(None, SimpleNamespace(global_step=step), None)
print(mapped, held - resident())
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"),
    reason="it is glibc's allocator that gives memory back",
)
def test_freed_memory_is_not_mapped_again_and_much_of_it_is_given_back_now_and_then():
    def told(how, loose=0):
        command = [sys.executable, "-c", MEMORY, how, str(loose)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [float(word) for word in done.stdout.split()[-2:]]

    mapped, _ = told("as it is")
    if mapped < 1000:
        pytest.skip("this allocator keeps freed memory by itself")
    mapped_of_kept, given_back = told("kept")
    assert mapped_of_kept < mapped / 20
    assert given_back > 60  # MiB
    assert told("kept", 2**34)[1] < 10  # the process has not grown by so much


def test_the_trainer_keeps_freed_memory_on_a_cpu(build):
    trainer, _ = build()
    kept = [c for c in trainer.callback_handler.callbacks if isinstance(c, FreedMemory)]
    assert len(kept) == 1


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
