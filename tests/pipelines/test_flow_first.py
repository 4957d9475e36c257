"""A flow that is sampled before its video: what it knows, its guidance, and what the video is conditioned on."""

from dataclasses import replace

import pytest
import torch

import patch
from pipelines.flow_adapter import FlowAdapter
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from tests.pipelines.joint_video import CODE, SIZE, B, F, make_pipe, random_flow, random_image, random_video, sample
from tests.tiny_pipeline import quiet
from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.weights.lora import load_lora


@pytest.fixture
def pipe():
    return make_pipe()


@pytest.fixture
def leading(pipe):
    """A pipeline whose adapter says that it was trained to sample the flow first."""
    pipe.flow_adapter = FlowAdapter("flow", CODE, flow_alone=True, moved_image=True)
    return pipe


@pytest.mark.parametrize("known", [{}, {"flow": random_flow(), "flow_strength": 0.5}])
def test_a_flow_sampled_first_is_then_given_to_the_video(leading, monkeypatch, known):
    calls = []
    denoise = leading.denoise_sides

    def denoise_sides(inputs):
        calls.append((inputs.sides, denoise(inputs)))
        return calls[-1][1]

    monkeypatch.setattr(leading, "denoise_sides", denoise_sides)
    first = sample(leading, flow_first=True, **known)
    (flow_starts, flow_ends), (video_starts, _) = calls
    assert [side.given for side in flow_starts] == [True, False]
    assert [side.given for side in video_starts] == [False, True]
    assert torch.equal(video_starts[1].latents, flow_ends[1].latents)
    assert not torch.allclose(first.flows, sample(leading, flow_first=False, **known).flows, atol=1e-2)
    assert torch.equal(sample(leading, **known).flows, first.flows)


def test_a_flow_sampled_first_knows_nothing_of_the_video(leading):
    noise = torch.randn(2, B, F, 4, SIZE // 4, SIZE // 4, generator=torch.Generator().manual_seed(5))
    one, other = (sample(leading, latents=n, flow_latents=noise[0]) for n in noise)
    assert torch.equal(one.flows, other.flows)
    assert not torch.allclose(one.frames, other.frames, atol=1e-3)


@pytest.mark.parametrize("training", [{}, {"fixed_motion_bucket": True}])
def test_a_flow_sampled_first_is_that_of_a_plain_base_with_its_loras(pipe, tmp_path, training):
    training = CODE.to_training() | {"one_way_share": 0.6, "flow_alone_share": 0.5} | training
    patch.save(pipe.unet, tmp_path, "flow", training=training)
    adapter = FlowAdapter.alone(tmp_path, "--lora")
    pipe.flow_adapter = replace(adapter, name="flow")
    noise = torch.randn(B, F, 4, SIZE // 4, SIZE // 4, generator=torch.Generator().manual_seed(5))
    plain = quiet(StableVideoDiffusionEDMPipeline(**tiny_video_pipeline().components))
    load_lora(plain.unet, tmp_path)
    wanted = sample(pipe, flow_first=True, flow_latents=noise, output_type="latent").flows
    found = sample(plain, latents=noise, output_type="latent", **adapter.sampling_alone).frames
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("scale", "slots"), [(None, 2), (1.0, 1)])
def test_no_row_is_of_the_video_while_the_flow_is_sampled(leading, scale, slots):
    rows = []
    leading.unet.register_forward_pre_hook(lambda unet, args: rows.append(len(args[0])))
    sample(leading, num_inference_steps=3, flow_guidance_scale=scale)
    assert rows == [slots * B] * 3 + [2 * B] * 4  # the flow, once the given flow, the video with guidance


def seen_buckets(pipe, **options) -> list[list[float]]:
    """Buckets of the rows of each call of the network, one for all videos of a slot."""
    buckets = []
    handle = pipe.unet.register_forward_pre_hook(lambda unet, args: buckets.append(args[3][::B, 1].tolist()))
    sample(pipe, num_inference_steps=2, motion_bucket_id=90, **options)
    handle.remove()
    return buckets


def test_guidance_of_a_flow_sampled_first_leads_away_from_a_standstill(leading):
    assert seen_buckets(leading) == [[0, 90]] * 2 + [[90, 90]] * 3
    assert seen_buckets(leading, flow_guidance_scale=1.0) == [[90]] * 2 + [[90, 90]] * 3
    leading.flow_adapter = replace(leading.flow_adapter, motion_buckets=False)
    assert seen_buckets(leading) == [[90]] * 2 + [[90, 90]] * 3


def test_guidance_of_other_sides_leads_away_from_the_bucket_asked_for(leading):
    assert seen_buckets(leading, flow_first=False) == [[90] * 4] * 2
    assert seen_buckets(leading, flow_first=False, negative_motion_bucket_id=30) == [[30, 90, 30, 90]] * 2
    assert seen_buckets(leading, negative_motion_bucket_id=30) == [[0, 90]] * 2 + [[30, 90]] * 3


def test_the_guidance_of_a_flow_sampled_first_moves_it_by_its_scale(leading):
    options = {"num_inference_steps": 1, "output_type": "latent"}
    without, one, two = (sample(leading, flow_guidance_scale=s, **options).flows for s in (1.0, 2.0, 3.0))
    assert not torch.allclose(one, without, atol=1e-3)
    torch.testing.assert_close(two - without, 2 * (one - without), atol=1e-3, rtol=1e-3)


def test_a_video_whose_flow_is_given_is_conditioned_on_the_warped_image(leading, monkeypatch):
    seen = []
    encode = leading.encode_condition

    def encode_condition(*known):
        seen.append(known[-1])
        return encode(*known)

    monkeypatch.setattr(leading, "encode_condition", encode_condition)
    flow = torch.zeros(B, F - 1, 2, SIZE, SIZE)
    flow[:, :, 0] = 2.0  # to the right
    sample(leading, flow=flow)
    assert seen[0] is None
    image = random_image()
    assert torch.allclose(seen[1][:, 0], image)
    assert torch.allclose(seen[1][:, 2, :, :, 4:], image[..., :-4], atol=1e-4)
    seen.clear()
    sample(leading, video=random_video())
    assert seen == [None]


def test_a_flow_of_a_given_video_is_conditioned_on_all_of_its_frames_and_not_guided(leading):
    seen = []
    leading.unet.register_forward_pre_hook(lambda unet, args: seen.append(args[0][:, :, 4:]))
    for sees in (True, False):
        leading.flow_adapter = replace(leading.flow_adapter, seen_video=sees)
        seen.clear()
        sample(leading, video=random_video(), num_inference_steps=2)
        video, *flows = seen
        frames = leading.encode_frames(random_video()) / leading.vae.config.scaling_factor
        assert [len(rows) for rows in seen] == [B] * 3
        assert torch.allclose(video, video[:, :1])
        for flow in flows:
            assert torch.allclose(flow, frames if sees else video)


@pytest.mark.parametrize("scale", [1.0, 1.1])
def test_a_flow_sampled_first_is_the_one_that_does_not_read(leading, scale):
    same = {"min_guidance_scale": scale, "max_guidance_scale": scale}
    same |= {"negative_motion_bucket_id": 0} if scale > 1 else {}
    first, unread = (
        sample(leading, **order, **same).flows for order in ({"flow_guidance_scale": scale}, {"direction": "x_reads_y"})
    )
    assert torch.allclose(first, unread, atol=1e-3)


def test_flow_first_is_refused_where_it_cannot_be(pipe, leading):
    for known in ({"flow": random_flow()}, {"direction": "both"}):
        with pytest.raises(ValueError, match="flow_alone_share"):
            sample(leading, flow_first=True, **known)
    with pytest.raises(ValueError, match="flow_alone_share"):
        sample(leading, video=random_video(), video_strength=0.5, flow_first=True)
    pipe.flow_adapter = FlowAdapter("flow", CODE)
    with pytest.raises(ValueError, match="flow_alone_share"):
        sample(pipe, flow_first=True)


@pytest.mark.parametrize("options", [{"flow_first": False}, {"flow": random_flow()}])
def test_guidance_of_a_flow_sampled_first_is_refused_where_none_is(leading, options):
    with pytest.raises(ValueError, match="flow_guidance_scale 1.5 needs a flow that is sampled before"):
        sample(leading, flow_guidance_scale=1.5, **options)
