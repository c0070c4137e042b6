"""The least that a PPO update can take here: operations that it needs ÷ the measured matrix rate.

Counted are the matrix products of one sampling pass, one reference pass and the update's passes
(each backward twice its forward) over real prompt and reply tokens, and of the head over reply
tokens; a critic with a trunk of its own adds its passes. Attention scores, activations, norms,
softmax, drawing, the optimizer and the reward model are not counted.
"""

from __future__ import annotations

import time

import torch
from ppo_shapes import Shape

EPOCHS = 2


def operations(shape: Shape, prompt: float, reply: float, *, separate_critic: bool) -> float:
    """Floating-point operations of an update with so many prompt and reply tokens in all."""
    square = shape.width**2
    if shape.encoder_decoder:
        # encoder: attention 4, feed-forward 8; cross-attention's keys and values 2 a prompt token
        trunk = shape.layers * square * ((12 + 2) * prompt + (4 + 2 + 8) * reply)
    else:
        trunk = shape.layers * 12 * square * (prompt + reply)
    head = shape.width * shape.vocabulary * reply
    passes = 2 + 3 * EPOCHS  # sampling, reference, update
    critic = (1 + 3 * EPOCHS) * trunk if separate_critic else 0.0
    return 2 * (passes * (trunk + head) + critic)


def matrix_rate(shape: Shape, dtype: str, device: str, matmul: str, seconds: float = 1.0) -> float:
    """Operations a second of a product (1024, width) by (width, 4 width), the size of the model."""
    torch.set_float32_matmul_precision(matmul)
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    a = torch.randn(1024, shape.width, dtype=kind, device=device)
    b = torch.randn(shape.width, 4 * shape.width, dtype=kind, device=device)

    def clock() -> float:
        if device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    (a @ b).sum()  # the first one sets things up
    rounds, start = 0, clock()
    while (spent := clock() - start) < seconds:
        a @ b
        rounds += 1
    return 2 * 1024 * shape.width * 4 * shape.width * rounds / spent
