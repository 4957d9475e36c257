"""An image-to-video model from scratch, in a few steps, that plain diffusers loads."""

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder, StableVideoDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image

from models.tiny_sd import make_vae as make_image_vae
from models.tiny_svd import OneTokenProcessor, VideoAutoencoder, inherit_layers, make_unet, make_vae
from train_models.train_tiny_svd import main
from utils.data.clip_latents import CachedClips, Stretches
from utils.motion_helper import MotionBuckets


@pytest.fixture(scope="module")
def clips(make_clips):
    return make_clips(num_samples=6, num_frames=5, num_tracks=2, resolution=64)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("teacher")
    make_image_vae().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vae(clips, teacher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    main(["--stage", "vae", "--teacher", str(teacher), *common(clips, folder)])
    return folder / "vae"


@pytest.fixture(scope="module")
def pipeline(clips, vae, tmp_path_factory):
    folder = tmp_path_factory.mktemp("svd")
    main(["--stage", "unet", "--vae", str(vae), *common(clips, folder), "--cache_dir", str(folder.parent / "cache")])
    return folder


def common(clips, folder):
    options = ["--train_data_dir", clips, "--output_dir", folder, "--max_train_steps", 2, "--train_batch_size", 2]
    return [str(option) for option in [*options, "--num_frames", 3, "--clip_frames", 5]]


def test_plain_diffusers_loads_the_pipeline_and_draws_a_clip(pipeline):
    pipe = StableVideoDiffusionPipeline.from_pretrained(pipeline)
    assert isinstance(pipe.vae, AutoencoderKLTemporalDecoder)
    image = Image.new("RGB", (64, 64), "red")
    frames = pipe(image, height=64, width=64, num_frames=3, num_inference_steps=2).frames[0]
    assert len(frames) == 3 and frames[0].size == (64, 64)
    assert Image.open(pipeline / "validation/000002_samples.png").size == (3 * 64, 8 * 64)


def test_the_map_of_motion_buckets_lies_beside_the_weights(pipeline, clips):
    buckets = MotionBuckets.load(pipeline)
    assert (buckets.num_clips, buckets.data) == (6, str(clips))


def test_training_further_keeps_the_map_of_motion_buckets(pipeline, vae, clips, tmp_path):
    options = ["--stage", "unet", "--vae", str(vae), "--init_from", str(pipeline), "--max_train_samples", "5"]
    main([*options, *common(clips, tmp_path / "more"), "--cache_dir", str(tmp_path / "cache")])
    assert MotionBuckets.load(tmp_path / "more") == MotionBuckets.load(pipeline)


def test_stretches_have_the_rate_of_their_step_and_the_motion_of_their_clip(clips, pipeline):
    (folder,) = (pipeline.parent / "cache").glob("clips-*")
    dataset = CachedClips(folder, Stretches(3, [2]))
    sample = dataset[4]
    assert sample["fps"] == 4  # every second frame of 8 a second
    assert sample["latents"].shape == (3, 4, 16, 16)
    assert sample["motion_bucket_id"] == dataset.buckets.ids(torch.tensor(dataset.scores[4]))


def test_a_reversed_stretch_begins_with_the_image_of_its_own_first_frame(pipeline):
    (folder,) = (pipeline.parent / "cache").glob("clips-*")
    dataset = CachedClips(folder, Stretches(5, [1], random_reverse=True))
    ends = torch.from_numpy(dataset.frames[0, [0, 4]].copy()).permute(0, 3, 1, 2) / 127.5 - 1
    latents = torch.from_numpy(dataset.latents[0, [0, 4]].astype("float32"))
    seen = set()
    for seed in range(8):
        torch.manual_seed(seed)
        sample = dataset[0]
        number = int(torch.allclose(sample["image"], ends[1]))
        assert torch.allclose(sample["image"], ends[number])
        nearest = (sample["latents"][0] - latents).square().mean((1, 2, 3)).argmin()
        assert nearest == number
        seen.add(number)
    assert seen == {0, 1}


def test_too_short_clips_are_refused(pipeline):
    (folder,) = (pipeline.parent / "cache").glob("clips-*")
    with pytest.raises(ValueError, match="have 5 frames and 7 are needed"):
        CachedClips(folder, Stretches(4, [2]))


def test_the_decoder_alone_leaves_the_latents_as_they_were(clips, vae, teacher, tmp_path):
    options = ["--stage", "vae", "--teacher", str(teacher), "--init_from", str(vae), "--decoder_only"]
    main([*options, *common(clips, tmp_path / "more")])
    before, after = (AutoencoderKLTemporalDecoder.from_pretrained(f) for f in (vae, tmp_path / "more/vae"))
    assert all(torch.equal(after.encoder.state_dict()[k], v) for k, v in before.encoder.state_dict().items())
    assert not torch.equal(after.decoder.conv_in.weight, before.decoder.conv_in.weight)


def test_the_autoencoder_starts_with_the_teachers_layers_and_without_a_look_at_other_frames(teacher):
    image_vae, vae = AutoencoderKL.from_pretrained(teacher), make_vae()
    assert inherit_layers(vae, image_vae) > 80
    assert torch.equal(
        vae.encoder.mid_block.resnets[0].conv1.weight, image_vae.encoder.mid_block.resnets[0].conv1.weight
    )
    spatial = vae.decoder.mid_block.resnets[0].spatial_res_block
    assert torch.equal(spatial.conv1.weight, image_vae.decoder.mid_block.resnets[0].conv1.weight)
    latents = torch.randn(3, 4, 16, 16)
    with torch.no_grad():
        together, alone = vae.decode(latents, num_frames=3).sample, vae.decode(latents, num_frames=1).sample
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize(("stage", "too_few"), [("vae", "2"), ("unet", "1")])
def test_too_few_frames_to_see_changes_are_refused(stage, too_few, clips, vae, tmp_path):
    with pytest.raises(ValueError, match=f"--num_frames {too_few} is too few"):
        main(["--stage", stage, "--vae", str(vae), *common(clips, tmp_path / "x"), "--num_frames", too_few])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--max_train_samples", "4"], r"has 4 good clips \(--max_train_samples 4\); pass 5 or more, since 4"),
        (["--num_frames", "5"], "--clip_frames 5 has no room for a stretch of 9; raise it, or lower --num_frames"),
        (["--clip_frames", "7"], "has 5 frames and 7 are needed"),
    ],
)
def test_clips_that_do_not_do_are_refused_before_they_are_cached(more, message, clips, vae, tmp_path):
    given = ["--stage", "unet", "--vae", str(vae), *common(clips, tmp_path / "out"), "--cache_dir", str(tmp_path / "c")]
    with pytest.raises(ValueError, match=message):
        main([*given, *more])
    assert not (tmp_path / "out").exists() and not (tmp_path / "c").exists()


def test_a_weight_of_changes_below_zero_is_refused(clips, vae, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--stage", "unet", "--vae", str(vae), *common(clips, tmp_path / "x"), "--change_weight", "-1"])
    assert "-1 is not 0 or a positive number" in capsys.readouterr().err


def test_only_in_training_the_decoder_sees_noise():
    model = VideoAutoencoder(make_vae())
    clips = torch.rand(1, 2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        assert not torch.equal(model(clips)[0], model(clips)[0])
        model.eval()
        assert torch.equal(model(clips)[0], model(clips)[0])


def test_attention_to_one_token_is_the_plain_product():
    torch.manual_seed(0)
    unet = make_unet()
    inputs = torch.randn(1, 3, 8, 16, 16), torch.tensor(0.3), torch.randn(1, 1, 64), torch.rand(1, 3)
    outputs = []
    with torch.no_grad():
        for processor in (AttnProcessor(), OneTokenProcessor()):
            unet.set_attn_processor(processor)
            outputs.append(unet(*inputs, return_dict=False)[0])
    torch.testing.assert_close(*outputs)


def test_a_stage_without_its_autoencoder_is_refused(clips, tmp_path):
    with pytest.raises(ValueError, match="--stage unet needs --vae"):
        main(["--stage", "unet", *common(clips, tmp_path / "x")])
