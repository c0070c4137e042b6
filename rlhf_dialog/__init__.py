"""Reinforcement learning from reward, for dialogue, on TRL."""

import os

# Read by TRL and huggingface_hub when they are imported, so it has to stand before they are:
# PPOTrainer lives in trl.experimental for good, and nothing about a run is anybody else's business.
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

__version__ = "0.1.0"
