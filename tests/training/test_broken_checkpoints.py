"""Broken checkpoints, and folders that only look like some, are passed over or refused, and named."""

import json
import shutil

import pytest
import torch

from tests.training_trial import LATEST, STEPS, Trial, interrupt, lines, start
from utils.training.checkpoints import PROGRESS, WEIGHTS, damage, list_checkpoints


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Weights after an uninterrupted run."""
    return Trial(tmp_path_factory.mktemp("whole") / "run", *STEPS).weights()


def cut(path, name):
    """Half of a file is left."""
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: len(content) // 2])


def empty(path, name):
    (path / name).write_bytes(b"")


def garble(path, name):
    """As long as before, and zeros, as after a power failure."""
    (path / name).write_bytes(bytes(len((path / name).read_bytes())))


def remove(path, name):
    (path / name).unlink()


FILES = [WEIGHTS, "optimizer.bin", "custom_checkpoint_0.pkl", "random_states_0.pkl", PROGRESS]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("harm", [cut, empty, garble, remove])
def test_latest_is_the_last_whole_checkpoint_and_the_broken_one_is_named(whole, tmp_path, capsys, harm, file):
    run = start(tmp_path / "run")
    harm(run / "checkpoint-4", file)
    resumed = Trial(run, *STEPS, *LATEST)
    said = capsys.readouterr().out
    assert f"Resuming from {run / 'checkpoint-2'}." in said
    assert f"{run / 'checkpoint-4'} is passed over: " in said and file in said
    assert torch.equal(resumed.weights(), whole)
    assert all(damage(path) is None for path in list_checkpoints(run))


def test_an_empty_folder_of_a_later_step_does_not_block_a_run_or_cost_its_checkpoints(tmp_path, capsys):
    run = start(tmp_path / "run")
    (run / "checkpoint-900").mkdir()
    Trial(run, *STEPS, *LATEST, "--checkpoints_total_limit", 1)
    assert "checkpoint-900 is passed over: it is empty" in capsys.readouterr().out
    assert [path.name for path in list_checkpoints(run)] == ["checkpoint-10"]


def test_an_empty_folder_alone_starts_anew(tmp_path, capsys):
    (tmp_path / "checkpoint-900").mkdir()
    Trial(tmp_path, *STEPS, *LATEST)
    assert "no whole checkpoint; starting from the first step" in capsys.readouterr().out
    assert len(lines(tmp_path)) == 10


@pytest.mark.parametrize(
    "name", ["checkpoint-9-old", "checkpoint-abc", "checkpoint-", "checkpoint-²", "checkpoint-09", "checkpoint"]
)
def test_folders_of_other_names_are_left_alone(tmp_path, name):
    run = start(tmp_path / "run")
    shutil.copytree(run / "checkpoint-2", run / name)
    Trial(run, *STEPS, *LATEST, "--checkpoints_total_limit", 1)
    assert damage(run / name) is None
    assert [path.name for path in list_checkpoints(run)] == ["checkpoint-10"]


def test_a_renamed_checkpoint_is_no_later_one(tmp_path, capsys):
    run = start(tmp_path / "run")
    shutil.copytree(run / "checkpoint-2", run / "checkpoint-900")
    Trial(run, *STEPS, *LATEST)
    assert f"Resuming from {run / 'checkpoint-4'}" in capsys.readouterr().out


def test_a_users_own_folder_of_such_a_name_is_kept(tmp_path):
    run = start(tmp_path / "run")
    for step in (8, 900):
        (run / f"checkpoint-{step}").mkdir()
        (run / f"checkpoint-{step}/notes.txt").write_text("mine")
    Trial(run, *STEPS, *LATEST, "--checkpoints_total_limit", 2)
    assert (run / "checkpoint-900/notes.txt").read_text() == (run / "checkpoint-8.old/notes.txt").read_text() == "mine"
    assert [path.name for path in list_checkpoints(run)] == ["checkpoint-8", "checkpoint-10", "checkpoint-900"]


def test_a_file_in_the_place_of_a_checkpoint_is_passed_over(tmp_path):
    run = start(tmp_path / "run")
    (run / "checkpoint-6").write_text("mine")
    Trial(run, *STEPS, *LATEST)
    assert (run / "checkpoint-6.old").read_text() == "mine"


@pytest.mark.parametrize("text", ["", "null", "[]", '{"step": "four"}', '{"layout": {}}', "[" * 100_000])
def test_progress_that_says_nothing_is_no_checkpoint(tmp_path, text):
    run = start(tmp_path / "run")
    (run / "checkpoint-4" / PROGRESS).write_text(text)
    Trial(run, *STEPS, *LATEST)
    assert len(lines(run)) == 10


def test_a_broken_checkpoint_that_is_asked_for_is_refused_and_the_last_whole_one_named(tmp_path):
    run = start(tmp_path / "run")
    cut(run / "checkpoint-4", "optimizer.bin")
    with pytest.raises(ValueError, match=r"optimizer.bin has \d+ of \d+ bytes; take .*checkpoint-2, which is whole"):
        Trial(run, "--resume_from_checkpoint", run / "checkpoint-4")
    Trial(run, "--resume_from_checkpoint", run / "checkpoint-2")  # the later one is none


def test_a_checkpoint_of_another_name_can_be_asked_for(whole, tmp_path):
    run = start(tmp_path / "run")
    shutil.copytree(run / "checkpoint-4", tmp_path / "best")
    trial = Trial(tmp_path / "new", *STEPS, "--resume_from_checkpoint", tmp_path / "best")
    assert torch.equal(trial.weights(), whole)


def test_a_checkpoint_that_lists_no_files_is_resumed(tmp_path):
    """As runs before this one wrote them."""
    run = start(tmp_path / "run")
    path = run / "checkpoint-4" / PROGRESS
    progress = json.loads(path.read_text())
    layout = {name: progress["layout"][name] for name in ("seed", "samples", "train_batch_size")}
    path.write_text(json.dumps({"step": 4, "layout": layout}))
    Trial(run, *STEPS, *LATEST)
    assert len(lines(run)) == 10


@pytest.mark.parametrize("name", ["weights.safetensors", "motion_buckets.json", "unet", "notes.txt"])
def test_latest_does_not_begin_anew_over_results_without_a_checkpoint(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=rf"has {name} and no checkpoint to resume; pass --overwrite"):
        Trial(tmp_path, *LATEST)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    Trial(tmp_path, *LATEST, "--overwrite")
    assert (tmp_path / name).read_text() == "mine"


def test_latest_begins_anew_where_a_run_wrote_no_checkpoint(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Trial(tmp_path, "--logging_steps", 1, "--validation_steps", 5, validate=interrupt)
    (tmp_path / "checkpoint-500.tmp").mkdir()
    (tmp_path / ".tmp-123-adapter.safetensors").write_text("")
    with pytest.raises(FileExistsError, match="--resume_from_checkpoint latest"):
        Trial(tmp_path)
    Trial(tmp_path, *STEPS, *LATEST)
    assert len(lines(tmp_path)) == 10 and not (tmp_path / "checkpoint-500.tmp").exists()


def test_a_run_without_a_first_step_is_no_content(tmp_path):
    def fail(model, step, kept_step):
        (tmp_path / "validation").mkdir()
        (tmp_path / "validation/loss.jsonl").write_text('{"step": 0, "loss": 1.0}\n')
        raise ValueError("a clip is too short")

    with pytest.raises(ValueError, match="too short"):
        Trial(tmp_path, start=fail)
    assert (tmp_path / "args.json").exists()
    Trial(tmp_path)


def test_broken_checkpoints_alone_are_not_dropped_silently(tmp_path):
    run = start(tmp_path / "run")
    for step in (2, 4):
        cut(run / f"checkpoint-{step}", "optimizer.bin")
    with pytest.raises(FileExistsError, match=r"checkpoint-4 cannot be resumed: optimizer.bin has .*pass --overwrite"):
        Trial(run, *STEPS, *LATEST)
    assert len(list_checkpoints(run)) == 2
    Trial(run, *STEPS, *LATEST, "--overwrite", "--max_train_steps", 2)
    assert [path.name for path in list_checkpoints(run)] == ["checkpoint-2"]
