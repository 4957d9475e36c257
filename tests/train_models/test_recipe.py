"""What all trainings on Stable Video Diffusion promise alike."""

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.flags import flags
from tests.small_trainings import F, arguments
from train_models import train_flow_video, train_svd, train_svd_flow, train_svd_trans, train_trajectory, train_trip
from utils.data.videos import VideoDataset
from utils.training import loop
from utils.training.svd import make_dataset, read_clips, read_held_out, start_svd
from utils.training.svd_arguments import svd_parser
from utils.training.svd_losses import encode_clips
from utils.weights.lora import LORA_FILE, add_lora, save_lora

SCRIPTS = [train_svd, train_svd_flow, train_flow_video, train_trajectory, train_svd_trans, train_trip]
VALIDATION = {"held_out_clips": 1, "validation_steps": 2, "checkpointing_steps": 1}


def name_of(script):
    return script.__name__.split(".")[-1]


def losses(folder):
    return [json.loads(line) for line in (folder / "validation/loss.jsonl").read_text().splitlines()]


def kill_after(monkeypatch, steps):
    """Let the training end as by Ctrl-C when it has made so many steps."""
    go_on, made = loop._train_on, []

    def train_on(*known):
        if len(made) == steps:
            raise KeyboardInterrupt
        made.append(1)
        return go_on(*known)

    monkeypatch.setattr(loop, "_train_on", train_on)


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_a_run_that_is_killed_before_its_first_validation_keeps_the_loss_before_the_training(
    script, train, tmp_path, monkeypatch
):
    kill_after(monkeypatch, 0)
    with pytest.raises(KeyboardInterrupt):
        train(script, tmp_path, **VALIDATION)
    (line,) = losses(tmp_path)
    assert line["step"] == 0 and line["loss"] > 0


def test_the_loss_before_the_training_outlives_a_resumption_and_a_new_start(train, tmp_path, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        kill_after(patched, 1)
        train(train_svd, tmp_path, **VALIDATION)
    (first,) = losses(tmp_path)
    train(train_svd, tmp_path, resume_from_checkpoint="latest", **VALIDATION)
    assert losses(tmp_path)[0] == first and [line["step"] for line in losses(tmp_path)] == [0, 2]
    train(train_svd, tmp_path, "--overwrite", **VALIDATION)
    assert losses(tmp_path)[0] == first and [line["step"] for line in losses(tmp_path)] == [0, 2]


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_a_training_ends_with_a_line_that_names_what_it_wrote(script, train, tmp_path, capsys):
    train(script, tmp_path / "run", max_train_steps=1)
    *_, last = capsys.readouterr().out.splitlines()
    path = last.removeprefix("Written: ")
    assert path.startswith(str(tmp_path / "run")) and (path == str(tmp_path / "run") or path.endswith(".safetensors"))


def test_size_and_number_of_frames_are_by_default_those_of_the_base(train, tmp_path):
    train(train_svd, tmp_path / "own", height=None, width=None, num_frames=None, max_train_steps=1)
    train(train_svd, tmp_path / "given", width=None, max_train_steps=1)
    own, given = (json.loads((tmp_path / name / "args.json").read_text()) for name in ("own", "given"))
    assert [own[name] for name in ("height", "width", "num_frames")] == [64, 64, 4]
    assert [given[name] for name in ("height", "width", "num_frames")] == [32, 64, F]


class Variant:
    """A train script as short as the recipe promises: arguments, loss, save."""

    @staticmethod
    def make_parser():
        return svd_parser(__doc__)

    @classmethod
    def main(cls, argv):
        args = cls.make_parser().parse_args(argv)
        svd = start_svd(args)
        parameters = add_lora(svd.pipe.unet, 2)

        def loss(unet, batch):
            x_0 = encode_clips(batch, svd.pipe.vae)
            ids = torch.stack([batch[name] for name in ("fps", "motion_bucket_id", "fps")], dim=1).float()
            embeddings = svd.encoder.embed(batch["image"])
            noisy = torch.cat([x_0 + torch.randn_like(x_0), x_0], dim=2)
            return unet(noisy, torch.zeros(len(x_0)), embeddings, ids, return_dict=False)[0].square().mean()

        svd.fit(loss, save=save_lora, parameters=parameters)


def test_a_variant_is_validated_by_its_own_loss(train, tmp_path):
    train(Variant, tmp_path / "run", held_out_clips=1, validation_steps=1)
    train(Variant, tmp_path / "still", held_out_clips=1, validation_steps=1, learning_rate=0)
    learned, still = (losses(tmp_path / name) for name in ("run", "still"))
    assert learned[0] == still[0] and learned[2]["loss"] < learned[0]["loss"]
    assert len({line["loss"] for line in still}) == 1


def test_validation_does_not_change_a_training(train, tmp_path):
    train(Variant, tmp_path / "plain", max_train_samples=2)
    train(Variant, tmp_path / "validated", held_out_clips=1, validation_steps=1)
    plain, validated = (load_file(tmp_path / name / LORA_FILE) for name in ("plain", "validated"))
    assert all(torch.equal(plain[name], value) for name, value in validated.items())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"held_out_clips": 1, "held_out_frames": 3}, "two ways to validate; choose one"),
        ({"held_out_clips": 1, "validation_data_dir": "x"}, "two ways to validate; choose one"),
        ({"validation_steps": 1}, "needs --held_out_clips, --held_out_frames or --validation_data_dir"),
        ({"clip_frames": 6}, "--clip_frames 6 needs --cache_latents"),
    ],
)
def test_flags_that_contradict_each_other_are_refused_before_anything_is_read(more, message, tmp_path):
    known = {"train_data_dir": "nowhere", "output_dir": tmp_path / "run", "num_frames": 3, "height": 32, "width": 32}
    with pytest.raises(ValueError, match=message):
        start_svd(svd_parser("").parse_args(flags(**known | more)))


@pytest.mark.parametrize("cached", [False, True])
def test_a_clip_that_cannot_be_decoded_is_never_replaced_by_one_held_out(
    clips, tiny_svd, tmp_path, monkeypatch, cached
):
    more = ["--skip_bad_clips", "--held_out_clips", 1] + ["--cache_latents", "--cache_dir", tmp_path] * cached
    args = arguments(train_svd, *more, train_data_dir=clips)
    whole = read_clips(args)
    names, read = [record.key for record in whole.records], VideoDataset._sample

    def fail(self, record, *others):
        if record.key in bad:
            raise ValueError("a frame is damaged")
        return read(self, record, *others)

    monkeypatch.setattr(VideoDataset, "_sample", fail)
    bad = {names[1]}
    dataset = make_dataset(whole, tiny_svd.vae, None, [], args)
    if cached:
        assert len(dataset) == 1 and dataset.dataset.clips.rows == [0, 2]
    else:
        assert [dataset.clips[index]["key"] for index in range(len(dataset))] == [names[0]] * 2
    bad = {names[2]}
    with pytest.raises(ValueError, match="No clip to validate on is good"):
        read_held_out(whole, None, [], args)
