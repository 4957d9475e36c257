"""The evaluation end to end on random models: its files, and going on where it was stopped."""

import json
import shutil

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image

import patch
from benchmarks import depth_image_tasks
from benchmarks.depth_image_tasks import Bench
from benchmarks.eval_depth_image import TASKS, main, parser
from models.tiny_sd import make_scheduler
from tests.flags import flags
from utils.judges import DepthJudge, save_judge
from utils.scenes import caption, sample_scene


@pytest.fixture
def command(folders, judges_dir, tmp_path):
    """Arguments of a small evaluation on random models."""
    values = {f"{name}_adapter": folders.adapters / f"{name}.safetensors" for name in ("depth", "edge")}
    values |= {"one_step_adapter": folders.estimator}
    values |= {"pretrained_model_name_or_path": folders.model, "judges_dir": judges_dir, "output_dir": tmp_path / "out"}
    values |= {"num_scenes": 3, "num_captions": 3, "batch_size": 2, "num_inference_steps": 2}
    return lambda *more: flags(*more, **values)


def test_all_tasks_give_a_table_a_json_and_a_sheet(command, read, capsys):
    folder = main(command())
    results = read(folder)
    assert set(results) == {*TASKS, "obedience_joint - obedience_base"}
    assert set(results["depth_edge_to_image"]) == {"abs_rel", "delta1", "edge_f1"}
    assert set(results["obedience_base"]) == {"color", "shape", "count"}
    assert all(v["low"] <= v["mean"] <= v["high"] for values in results.values() for v in values.values())
    table = (folder / "results.md").read_text()
    assert table in capsys.readouterr().out
    assert all(f"| {task} |" in table for task in results)
    Image.open(folder / "results.png").verify()
    assert not list(folder.rglob(".tmp*"))


def test_new_weights_under_an_old_name_are_other_settings(command, judges_dir, tmp_path):
    copy = tmp_path / "judges"
    shutil.copytree(judges_dir, copy)
    arguments = command("--tasks", "judges", "--judges_dir", copy)
    main(arguments)
    save_judge(copy / "depth.safetensors", DepthJudge((8, 8, 8)))
    with pytest.raises(FileExistsError, match="judges_dir_hash"):
        main(arguments)


def test_a_missing_file_is_named_before_any_work(command, tmp_path):
    absent = tmp_path / "absent.safetensors"
    with pytest.raises(FileNotFoundError, match="absent.safetensors"):
        main(command("--depth_adapter", absent))
    assert not (tmp_path / "out").exists()
    main(command("--depth_adapter", absent, "--tasks", "obedience_base"))


def test_a_result_does_not_depend_on_the_batch(command):
    bench = Bench(parser().parse_args(command()))
    together, _ = depth_image_tasks.joint(bench, range(3))
    alone, _ = depth_image_tasks.joint(bench, range(2, 3))
    assert alone[0]["abs_rel"] == pytest.approx(together[2]["abs_rel"], rel=1e-3)


def test_joint_attention_off_is_the_base_alone(command):
    """So that the base stands for "off" in the comparison of obedience."""
    bench = Bench(parser().parse_args(command()))
    words, pipe = bench.captions(range(2)), bench.joint("depth", "edge")
    base = bench.base(words, **bench.sampling(range(2))).images
    with patch.disabled(pipe.unet):
        off = pipe(words, adapters="depth", **bench.sampling(range(2))).images
    on = pipe(words, adapters="depth", **bench.sampling(range(2))).images
    torch.testing.assert_close(off, base, atol=1e-4, rtol=0)
    assert (on - base).abs().max() > 1e-2


def test_an_idle_adapter_changes_nothing(command):
    alone, both = (Bench(parser().parse_args(command())) for _ in range(2))
    both.joint("depth", "edge")
    rows = [depth_image_tasks.image_to_depth(bench, range(2))[0] for bench in (alone, both)]
    assert rows[0][0]["abs_rel"] == pytest.approx(rows[1][0]["abs_rel"], rel=1e-4)


def test_the_sampler_keeps_prediction_type_and_spacing_of_the_base(folders, command, tmp_path):
    base = StableDiffusionPipeline.from_pretrained(folders.model)
    base.scheduler = make_scheduler()
    base.save_pretrained(tmp_path / "base")
    bench = Bench(parser().parse_args(command("--pretrained_model_name_or_path", tmp_path / "base")))
    sampler = bench.base.scheduler
    assert isinstance(sampler, DPMSolverMultistepScheduler)
    assert (sampler.config.prediction_type, sampler.config.timestep_spacing) == ("v_prediction", "trailing")
    sampler.set_timesteps(10)
    assert sampler.timesteps[0] == 999


def test_captions_of_the_training_data_are_left_out(command, tmp_path):
    seeds = [2_000_000, 2_000_002]
    (tmp_path / "data").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "data/0.png")
    rows = [{"file_name": "0.png", "text": caption(sample_scene(seed))} for seed in seeds]
    (tmp_path / "data/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bench = Bench(parser().parse_args(command("--train_data_dir", tmp_path / "data")))
    assert [caption(scene) for scene in bench.unseen_scenes] == [
        caption(sample_scene(2_000_000 + i)) for i in (1, 3, 4)
    ]
