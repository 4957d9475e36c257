"""What a resumed run takes from its checkpoint and what from its flags, and what it keeps of the log."""

import json
from argparse import Namespace

import pytest
import torch
from safetensors.torch import load_file

from tests.training_trial import LATEST, STEPS, Trial, interrupt, lines, make_args, make_model, start
from utils.latents import LatentScale
from utils.training.checkpoints import WEIGHTS, list_checkpoints
from utils.training.logs import JsonLog
from utils.training.resume import check_output_dir, kept_scale


def flags_of(folder):
    return json.loads((folder / "args.json").read_text())


def test_another_learning_rate_is_used_from_the_resumed_step_on_and_is_what_args_json_says(tmp_path, capsys):
    run = start(tmp_path / "run")
    Trial(run, *STEPS, *LATEST, "--learning_rate", 1e-4)
    assert [line["lr"] for line in lines(run)] == [1e-2] * 4 + [1e-4] * 6
    assert flags_of(run)["learning_rate"] == 1e-4
    assert flags_of(run)["resumed"] == [{"step": 4, "changed": {"learning_rate": [1e-2, 1e-4]}}]
    assert "with --learning_rate 0.0001 in place of 0.01" in capsys.readouterr().out


def test_another_learning_rate_is_used_in_the_first_resumed_step(tmp_path):
    run = start(tmp_path / "run")
    before = load_file(run / "checkpoint-4" / WEIGHTS)
    Trial(run, *STEPS, *LATEST, "--learning_rate", 0, "--max_train_steps", 6)
    after = load_file(run / "checkpoint-6" / WEIGHTS)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    "flags",
    [
        ["--lr_scheduler", "cosine"],
        ["--lr_scheduler", "linear", "--lr_warmup_steps", 3],
        ["--lr_scheduler", "cosine", "--max_train_steps", 20],
        ["--lr_scheduler", "polynomial", "--learning_rate", 1e-3],
    ],
)
def test_another_schedule_is_that_of_a_run_that_had_it_from_the_start(tmp_path, flags):
    run = start(tmp_path / "run")
    Trial(run, *STEPS, *LATEST, *flags)
    Trial(tmp_path / "whole", *STEPS, *flags)
    rates = [[line["lr"] for line in lines(folder)] for folder in (run, tmp_path / "whole")]
    assert rates[0][4:] == rates[1][4:] and len(set(rates[0][4:])) > 1


@pytest.mark.parametrize(
    ("flag", "value", "key"),
    [
        ("--adam_beta1", 0.5, "betas"),
        ("--adam_beta2", 0.5, "betas"),
        ("--adam_weight_decay", 0.5, "weight_decay"),
        ("--adam_epsilon", 0.5, "eps"),
    ],
)
def test_the_optimizers_numbers_are_those_of_the_flags(tmp_path, flag, value, key):
    run = start(tmp_path / "run")
    Trial(run, *STEPS, *LATEST, flag, value)
    (group,) = torch.load(run / "checkpoint-10" / "optimizer.bin")["param_groups"]
    assert value in (group[key] if isinstance(group[key], tuple | list) else [group[key]])


def test_the_decay_of_the_average_is_that_of_the_flags(tmp_path):
    run = start(tmp_path / "run", "--use_ema")
    Trial(run, *STEPS, *LATEST, "--use_ema", "--ema_decay", 0.5)
    assert torch.load(run / "checkpoint-10" / "custom_checkpoint_1.pkl")["decay"] == 0.5


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ([], ["--use_ema"], "use_ema False, not True"),
        (["--use_ema"], [], "use_ema True, not False"),
        ([], ["--optimizer", "muon"], "optimizer AdamW, not Muon"),
        ([], ["--seed", 5], "seed 0, not 5"),
        ([], ["--gradient_accumulation_steps", 2], "gradient_accumulation_steps 1, not 2"),
        ([], ["--mixed_precision", "fp16"], "has no loss scale for fp16"),
    ],
)
def test_a_flag_that_the_state_depends_on_is_refused_in_one_sentence(tmp_path, first, then, message):
    run = start(tmp_path / "run", *first)
    with pytest.raises(ValueError, match=message) as caught:
        Trial(run, *STEPS, *LATEST, *then)
    assert "\n" not in str(caught.value)
    assert [path.name for path in list_checkpoints(run)] == ["checkpoint-2", "checkpoint-4"]


def checkpoint_of(folder, **flags):
    """A folder with the progress of a run with these flags, and what such a run is asked to go on with."""
    (folder / "checkpoint-1").mkdir(parents=True)
    progress = {"step": 1, "layout": {}, "args": flags, "files": {"args.json": [0, 0]}, "kept": {}}
    (folder / "checkpoint-1" / "args.json").write_text("")
    (folder / "checkpoint-1" / "progress.json").write_text(json.dumps(progress))
    return {"output_dir": str(folder), "resume_from_checkpoint": "latest", "mixed_precision": None, "overwrite": False}


@pytest.mark.parametrize(
    ("name", "then", "now"),
    [
        ("lora_alpha", 4.0, 8.0),
        ("lora_alpha", None, 8.0),
        ("condition", "depth", "edge"),
        ("max_flow", 16.0, 8.0),
        ("flow_power", 0.5, 1.0),
        ("adapter_name", "depth", "mine"),
        ("pretrained_model_name_or_path", "a/base", "b/base"),
        ("control", "depth", "flow"),
        ("trainable", "lora", "all"),
        ("y_layers", "all", "attention"),
        ("rank", 2, 4),
        ("lora_targets", "all", "temporal"),
        ("temporal", False, True),
        ("fusion_heads", 4, 2),
    ],
)
def test_a_flag_that_says_what_the_weights_are_is_refused_in_one_sentence(tmp_path, name, then, now):
    known = checkpoint_of(tmp_path / "run", **{name: then})
    check_output_dir(Namespace(**known, **{name: then}))
    with pytest.raises(ValueError, match=f"was made with --{name} {then}, not {now}; resume with the same"):
        check_output_dir(Namespace(**known, **{name: now}))


def test_a_base_that_has_moved_with_its_folders_is_the_same(tmp_path):
    (tmp_path / "new/base").mkdir(parents=True)
    known = checkpoint_of(tmp_path / "run", pretrained_model_name_or_path=str(tmp_path / "old/base"))
    check_output_dir(Namespace(**known, pretrained_model_name_or_path=str(tmp_path / "new/base")))
    with pytest.raises(ValueError, match="was made with --pretrained_model_name_or_path"):
        check_output_dir(Namespace(**known, pretrained_model_name_or_path=str(tmp_path / "new")))


def test_a_latent_scale_is_taken_from_the_checkpoint(tmp_path):
    scale = LatentScale(mean=(0.1, 1 / 3), std=(1.0, 2.0))
    run = start(tmp_path / "run", keep={"latent_scale": vars(scale)})
    assert kept_scale(make_args(run, *LATEST)) == scale
    assert kept_scale(make_args(run)) is kept_scale(make_args(tmp_path / "new", *LATEST)) is None


def test_a_checkpoint_after_the_last_step_is_refused(tmp_path):
    run = start(tmp_path / "run")
    with pytest.raises(ValueError, match="is of step 4, later than the last one, 3; raise --max_train_steps"):
        Trial(run, *LATEST, "--max_train_steps", 3)
    assert flags_of(run)["max_train_steps"] == 10


def test_a_precision_that_keeps_no_state_is_used(tmp_path):
    run = start(tmp_path / "run")
    Trial(run, *STEPS, *LATEST, "--mixed_precision", "bf16")
    assert flags_of(run)["resumed"][0]["changed"] == {"mixed_precision": [None, "bf16"]}


def test_the_record_of_changes_goes_on_over_several_resumptions(tmp_path):
    run = start(tmp_path / "run")
    Trial(run, *STEPS, *LATEST, "--learning_rate", 1e-3, "--max_train_steps", 6)
    Trial(run, *STEPS, *LATEST, "--learning_rate", 1e-4, "--max_train_steps", 8)
    assert [one["step"] for one in flags_of(run)["resumed"]] == [4, 6]


def test_nothing_is_recorded_where_nothing_changes(tmp_path):
    run = start(tmp_path / "run")
    Trial(run, *STEPS, *LATEST)
    assert "resumed" not in flags_of(run)


def test_lines_that_a_crash_left_in_a_log_are_dropped(tmp_path):
    run = start(tmp_path / "run")
    kept = (run / "log.jsonl").read_bytes().splitlines(keepends=True)
    (run / "log.jsonl").write_bytes(
        b"".join([kept[0], b"\0" * 20 + b"\n", b"\xff{\n", b"5\n", *kept[1:], b'{"step": 6'])
    )
    Trial(run, *STEPS, *LATEST)
    assert [line["step"] for line in lines(run)] == list(range(1, 11))


def test_a_log_keeps_its_lines_up_to_a_step(tmp_path):
    log = JsonLog(tmp_path / "log.jsonl", 0)
    for step in (0, 1, 2):
        log.write({"step": step})
    assert [line["step"] for line in JsonLog(tmp_path / "log.jsonl", 1).read()] == [0, 1]


def test_the_last_line_names_what_was_written(tmp_path, capsys):
    def save(model, folder):
        return folder / "weights.safetensors"

    Trial(tmp_path / "one", save=save)
    assert capsys.readouterr().out.splitlines()[-1] == f"Written: {tmp_path / 'one/weights.safetensors'}"
    Trial(tmp_path / "two", save=lambda model, folder: None)
    assert capsys.readouterr().out.splitlines()[-1] == f"Written: {tmp_path / 'two'}"


def test_start_is_called_before_the_first_step_with_the_weights_as_they_are(tmp_path):
    seen = []

    def begin(model, step, kept_step):
        seen.append((step, kept_step, model.training, torch.cat([p.flatten() for p in model.parameters()]).clone()))

    with pytest.raises(KeyboardInterrupt):
        Trial(tmp_path / "run", *STEPS, validate=interrupt, start=begin)
    Trial(tmp_path / "run", *STEPS, *LATEST, start=begin)
    Trial(tmp_path / "other", "--resume_from_checkpoint", tmp_path / "run/checkpoint-4", start=begin)
    assert [one[:3] for one in seen] == [(0, 0, False), (4, 4, False), (4, 0, False)]
    assert torch.equal(seen[0][3], torch.cat([p.flatten() for p in make_model().parameters()]))
