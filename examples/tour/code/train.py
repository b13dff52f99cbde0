"""Trains a byte-level Llama on Penstock's feed, on any number of ranks, stopping and going on at any step.

Takes no arguments: everything comes from the environment that Penstock gives each
task (RANK, WORLD_SIZE, PENSTOCK_FEED, ...). Parameters of the job:
steps, checkpoint_every (in steps), learning_rate.
"""

import json
import math
import os
import signal
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW, Optimizer

import checkpoint
import gguf
import safetensors
from feed import Feed
from model import Config, Llama, next_token_loss


@dataclass(frozen=True)
class Task:
    """What the environment says."""

    rank: int
    world: int
    feed: str
    checkpoints: Path
    outputs: Path
    metrics: Path
    steps: int
    checkpoint_every: int
    learning_rate: float

    @classmethod
    def from_environment(cls) -> "Task":
        """Read it; a missing variable ends the program with its name."""

        def need(name: str) -> str:
            """A variable of the contract."""
            if name not in os.environ:
                sys.exit(f"train.py: {name} is not set; start this as a job of Penstock (see train.yaml)")
            return os.environ[name]

        return cls(
            rank=int(need("RANK")),
            world=int(need("WORLD_SIZE")),
            feed=need("PENSTOCK_FEED"),
            checkpoints=Path(need("PENSTOCK_CHECKPOINTS")),
            outputs=Path(need("PENSTOCK_OUTPUTS")),
            metrics=Path(need("PENSTOCK_METRICS")),
            steps=int(need("PENSTOCK_PARAM_STEPS")),
            checkpoint_every=int(os.environ.get("PENSTOCK_PARAM_CHECKPOINT_EVERY", "50")),
            learning_rate=float(os.environ.get("PENSTOCK_PARAM_LEARNING_RATE", "4e-3")),
        )


def learning_rate(task: Task, step: int) -> float:
    """Linear warm-up over a tenth of the steps (50 at most), then a cosine down to a tenth.

    A function of the step alone, so that a resumed run goes on as if nothing had been."""
    warm_up = max(1, min(50, task.steps // 10))
    cosine = 0.5 * (1 + math.cos(math.pi * step / task.steps))
    return task.learning_rate * min(1.0, (step + 1) / warm_up) * (0.1 + 0.9 * cosine)


def join(task: Task) -> None:
    """Meet the other ranks at MASTER_ADDR, and make equal inputs give equal bits."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.use_deterministic_algorithms(True)
    if os.environ.get("MASTER_ADDR", "").startswith("127."):
        # Else gloo asks for the address of this machine's name, which may have none.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", rank=task.rank, world_size=task.world, timeout=timedelta(minutes=2))


def agree_on_start(task: Task) -> int:
    """The step to go on from: the newest one that stands, which must be the same at every rank."""
    mine = torch.tensor([checkpoint.newest(task.checkpoints)])
    steps = [torch.zeros_like(mine) for _ in range(task.world)]
    dist.all_gather(steps, mine)
    found = sorted({int(step) for step in steps})
    if len(found) > 1:
        raise RuntimeError(f"the ranks stand at different steps: {found}")
    return found[0]


def take_step(model: nn.Module, optimizer: Optimizer, window: Tensor, rate: float) -> Tensor:
    """One step of AdamW on this rank's window; DistributedDataParallel averages the gradients.
    Returns this rank's loss before the step."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss = next_token_loss(model, window)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.detach()


def train(task: Task, feed: Feed, model: nn.Module, optimizer: Optimizer, start: int) -> bool:
    """Take the steps from start on. Returns whether all were taken; SIGTERM ends it earlier,
    after a whole step and with a checkpoint."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    wrapped = DistributedDataParallel(model)
    for step in range(start, task.steps):
        began, rate, window = time.perf_counter(), learning_rate(task, step), feed.batch(step)
        loss = take_step(wrapped, optimizer, window, rate)
        # Every rank must leave after the same step, whichever saw SIGTERM first.
        shared = torch.tensor([loss.item(), float(len(asked))], dtype=torch.float64)
        dist.all_reduce(shared)
        done, stop = step + 1, shared[1] > 0
        if task.rank == 0:
            spent = time.perf_counter() - began
            tokens = window[:, 1:].numel() * task.world
            report(task, done, shared[0].item() / task.world, rate, tokens / spent)
            if stop or done % task.checkpoint_every == 0 or done == task.steps:
                checkpoint.save(task.checkpoints, done, model, optimizer)
        if stop and done < task.steps:
            print(f"asked to stop: checkpoint of step {done} written", flush=True)
            return False
    return True


def report(task: Task, step: int, loss: float, rate: float, tokens_per_s: float) -> None:
    """Append one line of metrics, and now and then one for people."""
    line = {"step": step, "loss": loss, "lr": rate, "tokens_per_s": round(tokens_per_s, 1)}
    with open(task.metrics, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    if step % 10 == 0 or step == task.steps:
        print(f"step {step}/{task.steps}  loss {loss:.3f}  {tokens_per_s:,.0f} tokens/s", flush=True)


def export(task: Task, model: Llama) -> None:
    """Write the output "model": what trains further (safetensors) and what llama.cpp serves (GGUF)."""
    folder = task.outputs / "model"
    folder.mkdir(parents=True, exist_ok=True)
    state = model.state_dict()
    safetensors.save(folder / "model.safetensors", state, {"format": "pt"})
    gguf.save(folder / "model.gguf", "tiny-go", model.config, state)
    (folder / "config.json").write_text(json.dumps(model.config.to_json(), indent=2) + "\n", encoding="utf-8")


def main() -> int:
    """Train, and return the exit status."""
    task = Task.from_environment()
    join(task)
    feed = Feed(task.feed)
    if (feed.info["rank"], feed.info["world"]) != (task.rank, task.world):
        served = f"rank {feed.info['rank']} of {feed.info['world']}"
        sys.exit(f"train.py: the feed serves {served}, not rank {task.rank} of {task.world}")
    torch.manual_seed(feed.info["seed"])
    # A window of n + 1 tokens gives n predictions.
    model = Llama(Config(context=feed.info["window"] - 1))
    optimizer = AdamW(model.parameters(), lr=task.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    start = agree_on_start(task)
    if start > 0:
        checkpoint.restore(task.checkpoints, start, model, optimizer)
    print(f"rank {task.rank} of {task.world} starts at step {start} of {task.steps}", flush=True)
    if not train(task, feed, model, optimizer, start):
        return os.EX_TEMPFAIL  # 75 asks Penstock to start this job again
    if task.rank == 0:
        export(task, model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
