"""Keeps the state of training as Penstock's contract has it: whole steps, or nothing.

A step is written as step-<n>.tmp/ and renamed to step-<n>/, which Penstock then
stores while training goes on. After a restart the newest stored step is there again.
"""

import os
import re
import shutil
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import safetensors

FILE = "state.safetensors"
KEEP = 2
"""How many steps stay in the folder."""


def sync(path: Path) -> None:
    """Make sure that a file, or the names in a folder, would outlive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save(folder: Path, step: int, model: nn.Module, optimizer: Optimizer) -> None:
    """Write the state after step steps. A step that stands already is left as it is."""
    final, temporary = folder / f"step-{step}", folder / f"step-{step}.tmp"
    if final.exists():
        return
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors.update({f"optimizer.{index}.{name}": tensor for name, tensor in moments.items()})
    tensors["rng"] = torch.get_rng_state()
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    safetensors.save(temporary / FILE, tensors, {"step": str(step)})
    sync(temporary / FILE)
    sync(temporary)
    temporary.rename(final)
    sync(folder)
    prune(folder)


def steps(folder: Path) -> list[int]:
    """The numbers of the whole steps in folder, ascending."""
    names = [entry.name for entry in folder.iterdir() if entry.is_dir()] if folder.exists() else []
    return sorted(int(name[5:]) for name in names if re.fullmatch(r"step-\d+", name))


def newest(folder: Path) -> int:
    """The number of the newest whole step in folder, or 0 where there is none."""
    return max(steps(folder), default=0)


def prune(folder: Path) -> None:
    """Delete all but the newest KEEP steps: Penstock has stored the ones that it wants."""
    for step in steps(folder)[:-KEEP]:
        # First the name, so that no half of a step is ever taken for a whole one.
        doomed = folder / f"step-{step}.tmp"
        (folder / f"step-{step}").rename(doomed)
        shutil.rmtree(doomed)


def restore(folder: Path, step: int, model: nn.Module, optimizer: Optimizer) -> None:
    """Put model, optimizer and random numbers back to what they were after step steps."""
    tensors, metadata = safetensors.load(folder / f"step-{step}" / FILE)
    if metadata.get("step") != str(step):
        raise ValueError(f"{folder}/step-{step} holds step {metadata.get('step')}")
    model.load_state_dict(below("model.", tensors))
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in below("optimizer.", tensors).items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    torch.set_rng_state(tensors["rng"])


def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with prefix, without it."""
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
