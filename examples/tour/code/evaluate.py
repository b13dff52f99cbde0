"""Measures a model on held-out data: reads PENSTOCK_MODELS/model and the tokens-u16 shards of
PENSTOCK_DATA/heldout, writes PENSTOCK_OUTPUTS/evaluation/metrics.json.

Parameter of the job: windows, how many are measured, spread evenly over the data.
"""

import json
import math
import os
import sys
from pathlib import Path

import torch
from torch import Tensor

import safetensors
from model import Config, Llama, next_token_loss

BATCH = 8


def load_model(folder: Path) -> Llama:
    """The model that train.py wrote to folder."""
    config = Config.from_json(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    model = Llama(config)
    tensors, _ = safetensors.load(folder / "model.safetensors")
    model.load_state_dict(tensors)
    return model.eval()


def load_tokens(folder: Path) -> Tensor:
    """All tokens of the shards below folder, in the order of their names: int64 [tokens]."""
    raw = b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
    if not raw or len(raw) % 2:
        raise ValueError(f"{folder} holds {len(raw)} bytes: not the uint16 tokens of a dataset")
    return torch.frombuffer(bytearray(raw), dtype=torch.int16).long() & 0xFFFF


def spread(tokens: Tensor, length: int, windows: int) -> Tensor:
    """At most windows windows of length + 1 tokens, evenly spaced: int64 [windows, length + 1].
    Neighbours share one token, which is predicted once."""
    whole = (len(tokens) - 1) // length
    if whole < 1:
        raise ValueError(f"{len(tokens)} held-out tokens don't fill one window of {length + 1}")
    count = min(windows, whole)
    starts = [i * whole // count * length for i in range(count)]
    return torch.stack([tokens[start : start + length + 1] for start in starts])


@torch.no_grad()
def mean_loss(model: Llama, windows: Tensor) -> float:
    """Mean loss in nats a token."""
    total = sum(next_token_loss(model, part).item() * len(part) for part in windows.split(BATCH))
    return total / len(windows)


def main() -> int:
    """Evaluate, and return the exit status."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    model = load_model(Path(os.environ["PENSTOCK_MODELS"]) / "model")
    tokens = load_tokens(Path(os.environ["PENSTOCK_DATA"]) / "heldout")
    windows = spread(tokens, model.config.context, int(os.environ.get("PENSTOCK_PARAM_WINDOWS", "256")))
    loss = mean_loss(model, windows)
    folder = Path(os.environ["PENSTOCK_OUTPUTS"]) / "evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {"heldout_loss": loss, "heldout_perplexity": math.exp(loss)}
    (folder / "metrics.json").write_text(json.dumps(metrics) + "\n", encoding="utf-8")
    print(f"held-out loss {loss:.4f} nats a token over {len(windows)} windows, perplexity {math.exp(loss):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
