"""A run that is stopped by a signal, or by a full disk, loses no step and leaves no half of a file."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from tests.training_trial import LATEST, Trial, lines
from utils.training.checkpoints import damage, list_checkpoints
from utils.training.stop import listening


class Stopped(Trial):
    """A run to which a signal is sent while it is at a batch."""

    def __init__(self, folder, number, at, *flags):
        self.number, self.at = number, at
        super().__init__(folder, *flags)

    def loss(self, model, batch):
        if len(self.seen) == self.at:
            os.kill(os.getpid(), self.number)
        return super().loss(model, batch)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 0), (signal.SIGTERM, 2)])
def test_a_signal_ends_a_run_after_its_step_with_a_checkpoint(tmp_path, number, workers):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        Stopped(tmp_path / "run", number, 3, "--dataloader_num_workers", workers)
    assert ended.value.code == "Stopped at step 4; go on with --resume_from_checkpoint latest."
    assert signal.getsignal(number) is before
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == ["checkpoint-4"]
    assert [line["step"] for line in lines(tmp_path / "run")] == [4]
    resumed = Trial(tmp_path / "run", *LATEST)
    assert len(resumed.seen) == 6
    assert torch.equal(resumed.weights(), Trial(tmp_path / "whole").weights())


def test_a_signal_within_accumulated_batches_waits_for_their_step(tmp_path):
    with pytest.raises(SystemExit, match="Stopped at step 2"):
        Stopped(tmp_path / "run", signal.SIGINT, 2, "--gradient_accumulation_steps", 2)


def test_a_second_signal_ends_at_once_unless_it_comes_with_the_first(capfd):
    with pytest.raises(SystemExit) as ended, listening() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        stop.asked_at -= 2
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143
    assert capfd.readouterr().err.count("Stopping after this step") == 1


def test_another_thread_trains_without_handlers(tmp_path):
    from threading import Thread

    thread = Thread(target=lambda: Trial(tmp_path / "run", "--max_train_steps", 1))
    thread.start()
    thread.join()
    assert list_checkpoints(tmp_path / "run")


SCRIPT = """
import os, signal, sys
from tests.training_trial import Trial
class Stopped(Trial):
    def loss(self, model, batch):
        if len(self.seen) == 1 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGTERM)
        return super().loss(model, batch)
Stopped(sys.argv[1])
"""


def test_a_signal_to_one_of_two_processes_ends_both_after_the_same_step(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv-backend=c10d"]
    command += ["--rdzv-endpoint=localhost:0", str(tmp_path / "script.py"), str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "ACCELERATE_USE_CPU": "1"}
    ended = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode != 0
    assert ended.stderr.count("Stopped at step 2; go on with --resume_from_checkpoint latest.") == 1
    assert [damage(path) for path in list_checkpoints(tmp_path / "run")] == [None]


FULL = [
    OSError(28, "No space left on device"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
]


@pytest.mark.parametrize("error", FULL)
def test_a_full_disk_is_named_and_leaves_no_half_of_a_checkpoint(tmp_path, monkeypatch, error):
    def fail(*args):
        raise error

    monkeypatch.setattr("utils.training.checkpoints.save_file", fail)
    with pytest.raises(OSError, match=r"checkpoint-10 cannot be written: No space left on device; make room"):
        Trial(tmp_path / "run")
    assert not list((tmp_path / "run").glob("checkpoint-*"))
    monkeypatch.undo()
    with pytest.raises(OSError, match=r"run cannot be written: No space left on device; make room"):
        Trial(tmp_path / "run", *LATEST, save=fail)


def test_what_torch_cannot_write_is_the_disks_error(tmp_path, monkeypatch):
    def fail(self, output_dir):
        Path(output_dir).mkdir()
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        try:
            torch.save(torch.zeros(10_000), Path(output_dir) / "optimizer.bin")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    monkeypatch.setattr("accelerate.Accelerator.save_state", fail)
    with pytest.raises(OSError, match=r"checkpoint-10 cannot be written: the disk refused"):
        Trial(tmp_path / "run")


def test_another_error_of_a_save_stays_what_it_is(tmp_path):
    def fail(model, folder):
        raise FileNotFoundError("There is no base.")

    with pytest.raises(FileNotFoundError, match="There is no base"):
        Trial(tmp_path / "run", save=fail)
