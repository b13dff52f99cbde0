"""A training run that was killed or stopped, and started again, equals one that never was.

Runs the real train.py as a gang of two processes, as Penstock does, on a fake feed.
"""

import json
import math
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from typing import Callable

CODE = Path(__file__).resolve().parent.parent / "code"
sys.path.insert(0, str(CODE))

from fake_feed import FakeFeed

WORLD, STEPS, EVERY, WINDOW, BATCH = 2, 40, 7, 65, 4
DEADLINE = 120
"""Seconds that a gang may take at most."""


def free_port() -> int:
    """A port that the kernel says is free."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Gang:
    """One attempt: a process, a folder and a feed for each rank, as Penstock's agents make them."""

    def __init__(self, folder: Path, tokens: list[int], restore: Path | None = None,
                 on_step: Callable[[int], None] = lambda step: None) -> None:
        self.folders = [folder / str(rank) for rank in range(WORLD)]
        self.feeds, self.processes, port = [], [], free_port()
        for rank, task in enumerate(self.folders):
            (task / "checkpoints").mkdir(parents=True)
            if restore is not None:
                shutil.copytree(restore, task / "checkpoints" / restore.name)
            listen = on_step if rank == 0 else lambda step: None
            self.feeds.append(FakeFeed(task / "feed", tokens, rank, WORLD, WINDOW, BATCH, listen))
            self.processes.append(self.start(rank, task, port))

    def start(self, rank: int, task: Path, port: int) -> subprocess.Popen:
        """Start one rank with nothing in its environment but the contract."""
        environment = {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(WORLD),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
            "PENSTOCK_FEED": str(task / "feed"), "PENSTOCK_CHECKPOINTS": str(task / "checkpoints"),
            "PENSTOCK_OUTPUTS": str(task / "outputs"), "PENSTOCK_METRICS": str(task / "metrics.jsonl"),
            "PENSTOCK_PARAM_STEPS": str(STEPS), "PENSTOCK_PARAM_CHECKPOINT_EVERY": str(EVERY),
        }
        with open(task / "log", "wb") as log:
            command = [sys.executable, "-B", "train.py"]
            return subprocess.Popen(command, cwd=CODE, env=environment, stdout=log, stderr=log)

    def wait(self) -> list[int]:
        """The exit statuses, once every process has ended."""
        try:
            return [process.wait(DEADLINE) for process in self.processes]
        finally:
            self.kill()
            for feed in self.feeds:
                feed.close()

    def kill(self) -> None:
        """kill -9 to whatever still runs."""
        for process in self.processes:
            process.kill()
            process.wait()

    def losses(self) -> dict[int, float]:
        """The loss of each step that rank 0 reported."""
        lines = (self.folders[0] / "metrics.jsonl").read_text().splitlines()
        return {line["step"]: line["loss"] for line in map(json.loads, lines)}

    def newest(self) -> Path:
        """The newest whole checkpoint of rank 0."""
        return max((self.folders[0] / "checkpoints").glob("step-*[0-9]"), key=lambda path: int(path.name[5:]))

    def model(self) -> Path:
        """The output."""
        return self.folders[0] / "outputs" / "model"

    def logs(self) -> str:
        """What the processes wrote, for a failing test."""
        return "\n".join((folder / "log").read_text() for folder in self.folders)


class TestResume(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        text = b"".join(path.read_bytes() for path in sorted(CODE.glob("*.py")))
        cls.tokens = [byte + 3 for byte in text]
        cls.unbroken = Gang(cls.folder / "unbroken", cls.tokens)
        assert cls.unbroken.wait() == [0, 0], cls.unbroken.logs()

    def interrupt(self, name: str, step: int, act: Callable[[Gang], None]) -> tuple[Gang, list[int]]:
        """A gang on which act is called when rank 0 asks for the samples of step."""
        reached, acted = threading.Event(), threading.Event()

        def on_step(asked: int) -> None:
            if asked == step:
                reached.set()
                acted.wait(DEADLINE)

        gang = Gang(self.folder / name, self.tokens, on_step=on_step)
        self.addCleanup(gang.kill)
        self.assertTrue(reached.wait(DEADLINE), gang.logs())
        act(gang)
        acted.set()
        return gang, gang.wait()

    def resume(self, name: str, first: Gang) -> None:
        """Start again from first's newest checkpoint, and compare all with the unbroken run."""
        second = Gang(self.folder / name, self.tokens, restore=first.newest())
        self.assertEqual(second.wait(), [0, 0], second.logs())
        start = int(first.newest().name[5:])
        self.assertEqual(sorted(second.losses()), list(range(start + 1, STEPS + 1)))
        expected = self.unbroken.losses()
        for losses in first.losses(), second.losses():
            self.assertEqual(losses, {step: expected[step] for step in losses})
        for file in "model.safetensors", "model.gguf", "config.json":
            self.assertEqual((second.model() / file).read_bytes(), (self.unbroken.model() / file).read_bytes(), file)

    def test_the_loss_falls(self) -> None:
        losses = self.unbroken.losses()
        self.assertEqual(sorted(losses), list(range(1, STEPS + 1)))
        self.assertAlmostEqual(losses[1], math.log(259), delta=0.2)
        self.assertLess(losses[STEPS], 3.9)

    def test_a_run_killed_at_any_step_goes_on_as_if_it_had_not_been(self) -> None:
        step = random.SystemRandom().randrange(EVERY + 1, STEPS)
        with self.subTest(killed_at=step):
            first, _ = self.interrupt("killed", step, Gang.kill)
            self.assertEqual(first.newest().name, f"step-{step // EVERY * EVERY}")
            self.resume("killed-again", first)

    def test_sigterm_to_one_rank_ends_the_gang_with_a_checkpoint_and_status_75(self) -> None:
        step = random.SystemRandom().randrange(1, STEPS - 1)
        with self.subTest(stopped_at=step):
            stop = lambda gang: gang.processes[1].send_signal(signal.SIGTERM)
            first, statuses = self.interrupt("stopped", step, stop)
            self.assertEqual(statuses, [75, 75], first.logs())
            last = max(first.losses())
            self.assertIn(last, (step, step + 1))
            self.assertEqual(first.newest().name, f"step-{last}")
            self.resume("stopped-again", first)

    def test_the_evaluation_reads_what_training_wrote(self) -> None:
        folder = self.folder / "evaluation"
        for name in "models", "data/heldout":
            (folder / name).mkdir(parents=True)
        (folder / "models" / "model").symlink_to(self.unbroken.model())
        raw = b"".join(token.to_bytes(2, "little") for token in self.tokens)
        (folder / "data" / "heldout" / "shard-0").write_bytes(raw)
        environment = {"PENSTOCK_MODELS": f"{folder}/models", "PENSTOCK_DATA": f"{folder}/data",
                       "PENSTOCK_OUTPUTS": f"{folder}/outputs"}
        subprocess.run([sys.executable, "-B", "evaluate.py"], cwd=CODE, env=environment, check=True,
                       stdout=subprocess.DEVNULL, timeout=DEADLINE)
        metrics = json.loads((folder / "outputs" / "evaluation" / "metrics.json").read_text())
        self.assertAlmostEqual(metrics["heldout_loss"], self.unbroken.losses()[STEPS], delta=0.4)
        self.assertAlmostEqual(metrics["heldout_perplexity"], math.exp(metrics["heldout_loss"]))


if __name__ == "__main__":
    unittest.main()
