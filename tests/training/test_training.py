import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from tests.training_trial import Numbers, Trial, make_args, make_model, whole_and_resumed
from utils.training.checkpoints import list_checkpoints
from utils.training.loop import fit


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, workers):
    flags = ["--use_ema", "--gradient_accumulation_steps", 2, "--checkpointing_steps", 4, "--lr_scheduler", "cosine"]
    flags += ["--dataloader_num_workers", workers]
    whole, resumed, saved = whole_and_resumed(tmp_path, *flags)
    assert 0 < len(resumed.seen) < len(whole.seen)
    assert all(torch.equal(a, b) for a, b in zip(resumed.seen, whole.seen[-len(resumed.seen) :], strict=True))
    assert torch.equal(resumed.weights(), whole.weights())
    assert torch.equal(saved["resumed"], saved["whole"])
    assert not torch.equal(saved["whole"], whole.weights())
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def losses(folder):
    return [(line["step"], line["loss"]) for line in map(json.loads, (folder / "log.jsonl").read_text().splitlines())]


def test_an_epoch_shows_each_sample_once_and_the_next_in_another_order_with_other_augmentation(tmp_path):
    seen = Trial(tmp_path / "run", "--max_train_steps", 12).seen
    epochs = [[index for batch in part for index in order(batch)] for part in (seen[:6], seen[6:])]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(11))
    assert epochs[0] != epochs[1]
    noise = torch.cat([batch[count(batch) : -3] for batch in seen])
    assert len(noise.unique()) == len(noise)


def count(batch):
    return (len(batch) - 3) // 4


def order(batch):
    return batch[: count(batch)].int().tolist()


def test_validation_does_not_change_the_training(tmp_path):
    plain = Trial(tmp_path / "plain")
    validated = Trial(tmp_path / "validated", "--validation_steps", 2, "--use_ema", validate=draw)
    assert torch.equal(plain.weights(), validated.weights())
    pictures = sorted(path.name for path in (tmp_path / "validated" / "validation").iterdir())
    assert pictures == [f"{step:06d}_noise.png" for step in (2, 4, 6, 8, 10)]


def draw(model, step):
    assert not model.training
    return {"noise": Image.fromarray(torch.randint(255, (4, 4), dtype=torch.uint8).numpy())}


def test_a_checkpoint_holds_trained_weights_and_no_frozen_one(tmp_path):
    Trial(tmp_path / "run")
    stored = load_file(tmp_path / "run" / "checkpoint-10" / "trained.safetensors")
    assert set(stored) == {"head.1.weight", "head.1.bias"}


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    Trial(tmp_path / "run", "--checkpointing_steps", 2, "--checkpoints_total_limit", 2)
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == ["checkpoint-8", "checkpoint-10"]
    assert not list((tmp_path / "run").glob("*.tmp"))


def test_parameters_given_are_trained_and_all_others_stay(tmp_path):
    model = make_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    groups = [{"params": [model.head[1].weight], "lr": 1e-1}]
    fit(make_args(tmp_path / "run"), model, Numbers(), square, parameters=groups)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"head.1.weight"}


def square(model, batch):
    return (model(batch["value"]) ** 2).mean()


def test_gradients_are_clipped(tmp_path):
    norms = []

    class Recorder(torch.optim.SGD):
        def step(self, closure=None):
            grads = [p.grad for group in self.param_groups for p in group["params"]]
            norms.append(torch.nn.utils.get_total_norm(grads).item())
            return super().step(closure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utils.training.run._optimizer_class", lambda args: lambda groups, lr, **_: Recorder(groups, lr))
        fit(make_args(tmp_path / "run", "--max_grad_norm", 1e-3), make_model(), Numbers(), square)
        fit(make_args(tmp_path / "free", "--max_grad_norm", 0), make_model(), Numbers(), square)
    assert len(norms) == 20 and max(norms[:10]) <= 1.001e-3 < min(norms[10:])


def test_accumulated_batches_equal_one_large_batch(tmp_path):
    def train(folder, *flags):
        model = make_model()
        model.head[0].p = 0.0
        fit(make_args(folder, "--max_train_steps", 2, "--max_grad_norm", 1e9, *flags), model, Numbers(), square)
        return model.head[1].weight

    large = train(tmp_path / "large", "--train_batch_size", 4)
    small = train(tmp_path / "small", "--train_batch_size", 2, "--gradient_accumulation_steps", 2)
    torch.testing.assert_close(large, small, atol=1e-5, rtol=1e-4)


def test_a_last_group_of_fewer_batches_equals_one_batch_as_well(tmp_path):
    def train(folder, *flags):
        model, data = make_model(), torch.utils.data.Subset(Numbers(), range(10))
        model.head[0].p = 0.0
        fit(make_args(folder, "--max_train_steps", 2, "--max_grad_norm", 0, *flags), model, data, square)
        return torch.load(folder / "checkpoint-2" / "optimizer.bin")["state"][0]["exp_avg"]

    large = train(tmp_path / "large", "--train_batch_size", 8)
    small = train(tmp_path / "small", "--train_batch_size", 2, "--gradient_accumulation_steps", 4)
    torch.testing.assert_close(large, small, atol=1e-6, rtol=1e-4)


def test_a_scalar_is_a_mean_over_the_batches_that_have_it(tmp_path):
    values = iter([1.0, None, 3.0, None, None])

    def loss(model, batch):
        return square(model, batch), {"video": next(values)}

    fit(make_args(tmp_path, "--max_train_steps", 5, "--logging_steps", 3), make_model(), Numbers(), loss)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line.get("video") for line in lines] == [2.0, None]


def test_checkpoints_have_the_permissions_of_other_new_files(tmp_path):
    Trial(tmp_path / "run")
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "run/checkpoint-10").iterdir()}
    assert modes == {(tmp_path / "run/args.json").stat().st_mode & 0o777}


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_the_model_comes_back_without_a_trace_of_the_loop(tmp_path, precision):
    model = make_model()
    attributes, strides = set(vars(model)), [p.stride() for p in model.parameters()]
    fit(make_args(tmp_path / "run", "--mixed_precision", precision, "--channels_last"), model, Numbers(), square)
    assert set(vars(model)) == attributes
    assert [p.stride() for p in model.parameters()] == strides


def test_an_output_dir_with_content_is_refused_unless_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="--overwrite"):
        Trial(tmp_path)
    Trial(tmp_path, "--overwrite")
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_overwriting_drops_the_checkpoints_and_the_log_of_the_earlier_run(tmp_path):
    Trial(tmp_path / "run", "--checkpointing_steps", 5)
    Trial(tmp_path / "run", "--checkpointing_steps", 3, "--max_train_steps", 3, "--overwrite")
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == ["checkpoint-3"]
    assert [step for step, _ in losses(tmp_path / "run")] == [3]


def test_a_later_checkpoint_is_not_dropped_silently(tmp_path):
    Trial(tmp_path / "run", "--checkpointing_steps", 5)
    early = tmp_path / "run" / "checkpoint-5"
    with pytest.raises(FileExistsError, match="checkpoint-10 is later"):
        Trial(tmp_path / "run", "--resume_from_checkpoint", early)
    assert (tmp_path / "run" / "checkpoint-10").exists()


def test_a_checkpoint_of_another_batch_size_is_refused(tmp_path):
    Trial(tmp_path / "run")
    with pytest.raises(ValueError, match="train_batch_size 2, not 3"):
        Trial(tmp_path / "run", "--resume_from_checkpoint", "latest", "--train_batch_size", 3, "--max_train_steps", 20)


@pytest.mark.parametrize("change", ["narrower", "more"])
def test_a_checkpoint_of_another_network_is_refused_in_one_sentence(tmp_path, change):
    Trial(tmp_path / "run")
    model = make_model()
    if change == "more":
        model.head.append(nn.Linear(3, 3))
    else:
        model.base, model.head[1] = nn.Linear(3, 32), nn.Linear(32, 3)
    args = make_args(tmp_path / "run", "--resume_from_checkpoint", "latest", "--max_train_steps", 20)
    with pytest.raises(ValueError, match="made with other trained weights .* here") as caught:
        fit(args, model, Numbers(), square)
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_not_finite_stops_the_run_before_a_checkpoint_is_written(tmp_path):
    with pytest.raises(FloatingPointError, match="nan at step 5"):
        fit(
            make_args(tmp_path / "run", "--checkpointing_steps", 5),
            make_model(),
            Numbers(),
            lambda model, batch: square(model, batch) * float("nan"),
        )
    assert not list_checkpoints(tmp_path / "run")


def test_a_model_without_trainable_parameters_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no parameter to train"):
        fit(make_args(tmp_path / "run"), make_model().requires_grad_(False), Numbers(), square)


def test_a_parameter_outside_of_the_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not part of the model"):
        fit(make_args(tmp_path / "run"), make_model(), Numbers(), square, parameters=[nn.Parameter(torch.ones(1))])


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        (["--gradient_checkpointing"], "Model has no gradient checkpointing"),
        (["--use_8bit_adam"], "needs that package: pip install bitsandbytes"),
        (["--report_to", "wandb"], "needs that package: pip install wandb"),
        (["--resume_from_checkpoint", "nowhere"], "nowhere is not a checkpoint"),
    ],
)
def test_a_flag_that_cannot_be_obeyed_is_refused_in_one_sentence(tmp_path, monkeypatch, flag, sentence):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        Trial(tmp_path / "run", *flag)
    assert not (tmp_path / "run").exists()


def test_channels_last_and_bfloat16_reach_the_network(tmp_path):
    conv, seen = nn.Conv2d(2, 2, 3), {}
    model = nn.Sequential(conv)

    def loss(model, batch):
        output = model(torch.zeros(1, 2, 4, 4))
        seen.update(strides=conv.weight.stride())
        return output.sum()

    conv.register_forward_hook(lambda module, inputs, output: seen.update(dtype=output.dtype))
    fit(make_args(tmp_path / "run", "--channels_last", "--mixed_precision", "bf16"), model, Numbers(), loss)
    assert seen["dtype"] == torch.bfloat16 and seen["strides"] == (18, 1, 6, 2)


PROCESS = """
import sys
import torch
from tests.training_trial import Trial
trial = Trial(sys.argv[1], "--max_train_steps", 4, "--use_ema", "--checkpointing_steps", 2, *sys.argv[2:])
torch.save([trial.seen, trial.weights()], sys.argv[1] + f"/seen-{{trial_rank()}}.pt")
""".replace("trial_rank()", "__import__('os').environ['RANK']")


def launch(folder, *flags):
    (folder.parent / "script.py").write_text(PROCESS.format())
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", str(folder.parent / "script.py"), str(folder)]
    environment = {**__import__("os").environ, "PYTHONPATH": str(Path(__file__).parents[2]), "ACCELERATE_USE_CPU": "1"}
    subprocess.run([*command, *flags], check=True, env=environment, capture_output=True, text=True)
    return [torch.load(folder / f"seen-{rank}.pt") for rank in (0, 1)]


def test_two_processes_share_the_data_draw_other_noise_and_agree_on_the_weights(tmp_path):
    (first, weights), (second, same) = launch(tmp_path / "run")
    assert torch.equal(weights, same)
    indices = [index for batch in first[:3] + second[:3] for index in order(batch)]
    assert set(indices) == set(range(11))
    assert not torch.equal(first[0][-3:], second[0][-3:])
    (resumed, again), _ = launch(
        tmp_path / "run", "--resume_from_checkpoint", str(tmp_path / "run" / "checkpoint-2"), "--overwrite"
    )
    assert torch.equal(again, weights)
    assert all(torch.equal(a, b) for a, b in zip(resumed, first[-len(resumed) :], strict=True))
