"""Flow out of an image, and flow with its video: the losses, and whole runs from clips to files."""

import json

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder
from PIL import Image
from safetensors.torch import load_file

import patch
from pipelines.flow_adapter import FlowAdapter
from run_models import run_flow_video, run_svd_flow
from tests.small_trainings import SIZE, F, arguments
from train_models import train_flow_video, train_svd_flow
from utils.data.flow_images import FlowImages
from utils.data.svd_clips import SVDClips
from utils.flow.code import FlowCode
from utils.flow.files import read_flo
from utils.flow.images import FlowEncoding
from utils.images import to_image
from utils.latents import LatentScale
from utils.motion_helper import PROCEDURAL
from utils.training.svd import make_dataset, read_clips, read_held_out
from utils.video import index_frames
from utils.weights.lora import LORA_FILE, read_training

FLOW = [FlowImages(FlowCode())]


def run(script, base, output_dir, *flags):
    fixed = ["--model_dir", base, "--output_dir", output_dir, "--device", "cpu", "--num_inference_steps", 1, *flags]
    return script.main([str(flag) for flag in fixed])


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "first.png"
    to_image(torch.rand(3, SIZE, SIZE) * 2 - 1).save(path)
    return path


def test_a_flow_is_in_the_frame_that_it_starts_from_and_the_last_is_repeated():
    flow = torch.randn(2, F - 1, 2, 4, 4)
    pictures = FlowCode().to_images(flow)
    assert pictures.shape == (2, F, 3, 4, 4)
    assert torch.equal(pictures[:, 0], FlowEncoding().encode(flow[:, 0]))
    assert torch.equal(pictures[:, -1], pictures[:, -2])
    assert torch.allclose(FlowCode().to_flow(pictures), flow, atol=1e-4)


def test_a_code_survives_its_header():
    code = FlowCode(FlowEncoding(8.0, 1.0))
    assert FlowCode.from_training(json.loads(json.dumps(code.to_training()))) == code


def test_samples_have_the_exact_flow_of_their_frames_as_images(clips):
    args = arguments(train_svd_flow, "--first_frames", train_data_dir=clips, num_frames=4)
    dataset = read_clips(args, FLOW)
    sample = SVDClips(dataset, PROCEDURAL, FLOW)[0]
    assert torch.equal(sample["flow_pixel_values"], FlowCode().to_images(dataset[0]["flow"]))
    assert torch.equal(sample["image"], sample["pixel_values"][0])


def learned(training):
    adapter = FlowAdapter.from_training("flow", FlowCode(), training)
    return adapter.one_way, adapter.flow_alone, adapter.moved_image, adapter.seen_video


def test_an_adapter_says_how_it_was_trained(flow_video):
    training = patch.read_config(flow_video)["training"]
    assert learned(training) == (True, True, True, True)
    assert learned(training | {"one_way_share": 0}) == (False, True, True, True)
    assert learned({"one_way_share": 0.4}) == (True, False, False, False)
    older = {"one_way_share": 0.6, "flow_alone_share": 0.6, "moved_picture": True}
    assert learned(older) == (True, True, True, False)
    scales = [
        FlowAdapter.from_training("flow", FlowCode(), training | {"fixed_motion_bucket": fixed}).flow_guidance_scale
        for fixed in (False, True)
    ]
    assert scales == [1.1, 1.0]


def test_weights_too_small_for_eight_bits_are_named(train, tmp_path, recwarn):
    for dtype, warned in (("float16", 0), ("float8_e4m3fn", 1)):
        train(train_flow_video, tmp_path / dtype, "--save_dtype", dtype)
        assert sum("too small or too large for it" in str(warning.message) for warning in recwarn) == warned
        tensors = load_file(tmp_path / dtype / "flow.safetensors")
        assert {str(value.dtype) for value in tensors.values()} == {f"torch.{dtype}"}


def test_flow_learned_alone_is_kept_by_what_trains_after_it_and_pairs_are_as_trained_last(flow_video):
    training = patch.read_config(flow_video)["training"]
    alone = training | {"flow_alone_share": 1}
    pairs = training | {"flow_alone_share": 0, "moved_picture": False}
    assert learned(alone) == (False, True, False, False)
    assert learned(pairs) == (True, False, False, True)
    assert learned(pairs | {"began_as": alone}) == (True, True, False, True)
    assert learned(alone | {"began_as": training}) == (True, True, True, True)


def test_a_lora_of_flow_is_trained_and_says_how_flow_is_encoded(svd_flow):
    tensors = load_file(svd_flow / LORA_FILE)
    assert any(value.abs().max() > 0 for name, value in tensors.items() if "lora_B" in name)
    assert FlowCode.from_training(read_training(svd_flow)).scale != LatentScale()


def test_flow_is_drawn_into_files(svd_base, svd_flow, picture, tmp_path):
    flags = ["--lora", svd_flow, "--input_image", picture, "--num_frames", F, "--height", SIZE, "--width", SIZE]
    run(run_svd_flow, svd_base, tmp_path / "out", *flags)
    flows = [read_flo(tmp_path / "out" / f"flow_{k:03d}.flo") for k in range(F - 1)]
    assert {flow.shape[0] for flow in flows} == {2}
    assert len(index_frames(tmp_path / "out/flow.mp4")) == F - 1
    assert (tmp_path / "out/flow.png").is_file()
    with pytest.raises(FileExistsError, match="--overwrite"):
        run(run_svd_flow, svd_base, tmp_path / "out", *flags)


def test_a_joint_run_resumes_exactly(train, flow_video, tmp_path, monkeypatch):
    train(train_flow_video, tmp_path / "again", "--checkpointing_steps", 1, "--max_train_steps", 1)
    monkeypatch.setattr(train_flow_video, "measure_flow_scale", None)  # the scale is the checkpoint's
    train(train_flow_video, tmp_path / "again", "--resume_from_checkpoint", "latest")
    whole, resumed = (load_file(folder / "flow.safetensors") for folder in (flow_video, tmp_path / "again"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert any(value.abs().max() > 0 for name, value in whole.items() if name.startswith("post.") and ".up_" in name)


def test_a_run_goes_on_from_an_adapter(train, flow_video, tmp_path):
    started = ["--init_adapter", flow_video]
    train(train_flow_video, tmp_path / "same", *started, "--learning_rate", 0, "--seed", 5)
    train(train_flow_video, tmp_path / "cut", *started, "--rank", 1)
    first, same, cut = (load_file(f / "flow.safetensors") for f in (flow_video, tmp_path / "same", tmp_path / "cut"))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert {len(value) for name, value in cut.items() if name.endswith("lora_A.weight")} == {1}
    assert any(not torch.equal(first[name], cut[name]) for name in first if name.startswith("post."))
    trained = [patch.read_config(folder)["training"] for folder in (flow_video, tmp_path / "same")]
    assert trained[0]["flow_code"] == trained[1]["flow_code"]
    assert trained[1]["began_as"] == trained[0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--post", "fuse"], "--post is fuse, but .* has aligned"),
        (["--temporal"], "--temporal is True, but .* has False"),
        (["--max_flow", 8], "--max_flow is 8"),
        (["--lora_alpha", 3], "--init_adapter keeps its own"),
    ],
)
def test_an_adapter_of_another_kind_is_not_gone_on_from(train, flow_video, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        train(train_flow_video, tmp_path / "out", "--init_adapter", flow_video, *flags)


def test_all_modes_write_their_files(svd_base, flow_video, picture, tmp_path):
    adapter = ["--adapter", flow_video, "--num_frames", F]
    image, flow = ["--input_image", picture], ["--input_flow", tmp_path / "joint"]
    side = ["--height", SIZE, "--width", SIZE]
    run(run_flow_video, svd_base, tmp_path / "joint", *adapter, *image, *side)
    assert len(index_frames(tmp_path / "joint/video.mp4")) == F
    run(run_flow_video, svd_base, tmp_path / "together", *adapter, *image, *side, "--no-flow_first")
    run(run_flow_video, svd_base, tmp_path / "unguided", *adapter, *image, *side, "--flow_guidance_scale", 1)
    first, *others = (read_flo(tmp_path / folder / "flow_000.flo") for folder in ("joint", "together", "unguided"))
    assert not any(np.allclose(first, other, atol=1e-3) for other in others)
    run(run_flow_video, svd_base, tmp_path / "given", *adapter, *image, *flow, "--mode", "flow_to_video")
    for k in range(F - 1):
        wanted, found = (read_flo(tmp_path / folder / f"flow_{k:03d}.flo") for folder in ("joint", "given"))
        assert (wanted == found).all()
    run(run_flow_video, svd_base, tmp_path / "coarse", *adapter, *image, *flow, "--mode", "coarse")
    video = ["--input_video", tmp_path / "joint/video.mp4"]
    run(run_flow_video, svd_base, tmp_path / "estimate", *adapter, *video, "--mode", "video_to_flow")
    assert len(list((tmp_path / "estimate").glob("*.flo"))) == F - 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--clean_video_share", 0.7, "--clean_flow_share", 0.7], "add up to"),
        (["--one_way_share", 1.5], "is not a share: pass 0 to 1"),
        (["--max_flow", 0], "positive"),
        (["--num_frames", 1], "pass 2 or more"),
        (["--height", 30], "multiples of"),
        (["--frame_stride", 2], "flow"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(train, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        train(train_flow_video, tmp_path / "out", *flags)


def read_dataset(script, base, clips, cache_dir, *flags):
    """What is trained on, and the autoencoder that encodes it."""
    args = arguments(script, *flags, train_data_dir=clips, cache_dir=cache_dir)
    vae = AutoencoderKLTemporalDecoder.from_pretrained(base / "vae")
    return make_dataset(read_clips(args, FLOW), vae, PROCEDURAL, FLOW, args), vae


def test_cached_stretches_have_the_latents_of_their_own_frames_and_flow(svd_base, clips, tmp_path):
    flags = ["--cache_latents", "--clip_frames", 4]
    cached, vae = read_dataset(train_flow_video, svd_base, clips, tmp_path, *flags)
    whole, _ = read_dataset(train_flow_video, svd_base, clips, tmp_path, "--num_frames", 4, "--first_frames")
    videos = [whole[i]["pixel_values"] for i in range(2)]
    flows = [FlowCode().to_flow(whole[i]["flow_pixel_values"]) for i in range(2)]
    starts = set()
    for index in [0, 1] * 8:
        sample = cached[index]
        video = videos[index]
        start = min(range(2), key=lambda s: float((video[s] - sample["image"]).abs().max()))
        starts.add(start)
        stretch = {
            "pixel_values": video[start : start + F],
            "flow_pixel_values": FlowCode().to_images(flows[index][start : start + F - 1]),
        }
        for pictures, latents in (("pixel_values", "latents"), ("flow_pixel_values", "flow_latents")):
            mode = vae.encode(stretch[pictures]).latent_dist.mode()
            torch.testing.assert_close(sample[latents], mode, rtol=1e-3, atol=2e-3)
        assert float((sample["image"] - video[start]).abs().max()) < 0.01
    assert starts == {0, 1}


def test_a_cache_of_other_flow_images_is_another(svd_base, clips, tmp_path):
    for flags in ([], ["--random_flip"]):
        read_dataset(train_svd_flow, svd_base, clips, tmp_path, "--cache_latents", *flags)
    assert len(list(tmp_path.glob("flow-*"))) == 2
    args = arguments(train_svd_flow, "--cache_latents", train_data_dir=clips, cache_dir=tmp_path)
    vae = AutoencoderKLTemporalDecoder.from_pretrained(svd_base / "vae")
    other = [FlowImages(FlowCode(FlowEncoding(8.0)))]
    make_dataset(read_clips(args, other), vae, PROCEDURAL, other, args)
    assert len(list(tmp_path.glob("flow-*"))) == 3


@pytest.mark.parametrize("script", [train_svd_flow, train_flow_video])
def test_a_run_with_a_cache_validates_on_clips_held_out(train, script, tmp_path):
    flags = ["--cache_latents", "--clip_frames", 4, "--cache_dir", tmp_path / "cache", "--held_out_clips", 1]
    flags += ["--validation_steps", 1, "--num_inference_steps", 1, "--random_flip"]
    train(script, tmp_path / "out", *flags)
    log = [json.loads(line) for line in (tmp_path / "out/validation/loss.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [0, 1, 2]
    assert log[0]["loss"] != log[2]["loss"]
    rows = {train_svd_flow: 3, train_flow_video: 4}[script]
    assert Image.open(tmp_path / "out/validation/000002_samples.png").size == (F * SIZE, rows * SIZE)
    if script is train_flow_video:
        means = [log[0][name] for name in train_flow_video.MODES]
        assert log[0]["loss"] == pytest.approx(sum(means) / 4, rel=1e-4)


def test_clips_held_out_are_not_trained_on(svd_base, clips, tmp_path):
    fixed = ["--first_frames", "--center_crop"]
    every, _ = read_dataset(train_svd_flow, svd_base, clips, tmp_path, *fixed)
    kept, _ = read_dataset(train_svd_flow, svd_base, clips, tmp_path, *fixed, "--held_out_clips", 1)
    args = arguments(train_svd_flow, train_data_dir=clips, held_out_clips=1)
    held_out = read_held_out(read_clips(args, FLOW), PROCEDURAL, FLOW, args)
    assert (len(every), len(kept), len(held_out)) == (3, 2, 1)
    assert torch.equal(kept[0]["pixel_values"], every[0]["pixel_values"])
    assert torch.equal(held_out[0]["pixel_values"], every[2]["pixel_values"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--clip_frames", 4], "clip_frames 4 needs --cache_latents"),
        (["--cache_latents", "--clip_frames", 2], "no room"),
        (["--cache_latents", "--clip_frames", 4, "--first_frames"], "leave --clip_frames"),
        (["--validation_steps", 1], "needs --held_out_clips"),
        (["--held_out_clips", 3], "to train on"),
    ],
)
def test_caches_and_validation_that_cannot_be_are_refused(train, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        train(train_svd_flow, tmp_path / "out", *flags)
