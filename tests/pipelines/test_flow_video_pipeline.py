"""Video and flow sampled together: modes, what is given, what is cached, what is refused."""

import pytest
import torch

import patch
from pipelines import pipeline_stable_video_diffusion as base
from pipelines.flow_adapter import FlowAdapter
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from pipelines.pipeline_stable_video_diffusion_joint import StableVideoDiffusionJointPipeline
from tests.pipelines.joint_video import CODE, SIZE, B, F, make_pipe, random_flow, random_image, random_video, sample
from tests.tiny_pipeline import quiet
from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.diffusion.sampling import VideoSampling


@pytest.fixture
def pipe():
    return make_pipe()


@pytest.mark.parametrize("temporal", [False, True])
def test_an_adapter_that_has_learned_nothing_leaves_the_videos_of_the_base(temporal):
    plain = quiet(StableVideoDiffusionEDMPipeline(**tiny_video_pipeline().components))
    wanted = sample(plain).frames
    assert torch.allclose(sample(make_pipe(trained=False, temporal=temporal)).frames, wanted, atol=1e-4)


def test_a_trained_adapter_changes_the_video(pipe):
    assert not torch.allclose(sample(pipe).frames, sample(make_pipe(trained=False)).frames, atol=1e-3)


def test_jointly_both_sides_are_sampled(pipe):
    out = sample(pipe)
    assert out.frames.shape == (B, F, 3, SIZE, SIZE)
    assert out.flows.shape == (B, F - 1, 2, SIZE, SIZE)
    assert out.flows.isfinite().all() and out.frames.isfinite().all()


def test_a_given_flow_comes_back_as_it_is_and_decides_the_video(pipe):
    flow = random_flow()
    out, other = sample(pipe, flow=flow), sample(pipe, flow=-flow)
    assert torch.equal(out.flows, flow)
    assert not torch.allclose(out.frames, other.frames, atol=1e-3)


def test_a_given_video_comes_back_as_it_is_and_decides_the_flow(pipe):
    video = random_video()
    out, other = sample(pipe, video=video), sample(pipe, video=-video)
    assert torch.allclose(out.frames * 2 - 1, video, atol=1e-6)
    assert not torch.allclose(out.flows, other.flows, atol=1e-3)


def test_coarse_flow_is_sampled_anew_from_a_part_of_the_steps(pipe):
    flow = random_flow()
    out = sample(pipe, flow=flow, flow_strength=0.5)
    assert out.flows.shape == flow.shape
    assert not torch.allclose(out.flows, flow, atol=1e-3)
    assert not torch.allclose(out.flows, sample(pipe, flow=-flow, flow_strength=0.5).flows, atol=1e-3)


def test_a_strength_of_1_forgets_what_is_known(pipe):
    assert torch.equal(sample(pipe, flow=random_flow(), flow_strength=1.0).flows, sample(pipe).flows)


def test_video_waits_for_no_one_while_a_coarse_flow_does(pipe):
    video, flow = pipe.prepare(random_image(), VideoSampling(4), flow=random_flow(), flow_strength=0.5).sides
    assert (video.start, flow.start) == (0, 2)
    assert torch.equal(flow.level(0), video.sigmas[2].expand(B))
    assert torch.equal(video.level(0), video.sigmas[0].expand(B))


@pytest.mark.parametrize("known", ["video", "flow"])
@pytest.mark.parametrize("temporal", [False, True])
def test_what_is_cached_equals_what_is_computed_at_every_step(known, temporal, monkeypatch):
    pipe = make_pipe(temporal=temporal)
    given = {"video": random_video, "flow": random_flow}[known]()
    rows = []
    handle = pipe.unet.register_forward_pre_hook(lambda unet, args: rows.append(len(args[0])))
    cached = sample(pipe, **{known: given}, output_type="latent")
    cached_rows = sum(rows)
    rows.clear()
    monkeypatch.setattr(base, "run_constant", lambda unet, sides, rows, joint, run: rows)
    full = sample(pipe, **{known: given}, output_type="latent")
    handle.remove()
    assert cached_rows < sum(rows)
    assert torch.allclose(cached.frames, full.frames, atol=1e-3)
    assert torch.allclose(cached.flows, full.flows, atol=1e-3)


def test_a_side_that_is_read_but_does_not_read_is_sampled_as_by_the_base(pipe):
    alone = sample(make_pipe(trained=False)).frames
    assert torch.allclose(sample(pipe, direction="y_reads_x").frames, alone, atol=1e-4)


def test_joint_guidance_adds_the_difference_to_a_video_that_heeds_nothing(pipe):
    options = {"num_inference_steps": 1, "max_guidance_scale": 1.0, "output_type": "latent"}
    joint, alone = sample(pipe, **options).frames, sample(make_pipe(trained=False), **options).frames
    guided = sample(pipe, joint_guidance_scale=2.0, **options).frames
    assert (joint - alone).abs().max() > 0.01
    assert torch.allclose(guided, joint + 2 * (joint - alone), atol=1e-3)


def test_a_given_side_reads_the_other_only_if_the_adapter_was_never_trained_without(pipe):
    known = {"flow": random_flow(), "output_type": "latent", "num_inference_steps": 1}
    one_way, both = (sample(pipe, direction=direction, **known).frames for direction in ("x_reads_y", "both"))
    assert not torch.allclose(one_way, both, atol=1e-3)
    assert torch.equal(sample(pipe, **known).frames, one_way)
    pipe.flow_adapter = FlowAdapter("flow", CODE, one_way=False)
    assert torch.equal(sample(pipe, **known).frames, both)


def test_both_sides_are_stepped_by_the_solver_asked_for(pipe):
    apart = {"direction": "x_reads_y", "output_type": "latent"}  # the flow heeds nothing of the video
    plain, video, flow = (
        sample(pipe, **apart, **orders) for orders in ({}, {"solver_order": 2}, {"flow_solver_order": 1})
    )
    assert torch.equal(video.flows, plain.flows) and not torch.allclose(video.frames, plain.frames, atol=1e-3)
    assert not torch.allclose(flow.flows, plain.flows, atol=1e-3)
    for name in ("solver_order", "flow_solver_order"):
        with pytest.raises(ValueError, match="solver_order 3"):
            sample(pipe, **{name: 3})


def test_guidance_of_both_sides_acts_in_its_interval_and_without_its_parallel_part(pipe):
    plain, none = sample(pipe), sample(pipe, max_guidance_scale=1.0)
    nowhere = sample(pipe, guidance_min_sigma=1000)
    torch.testing.assert_close(nowhere.frames, none.frames, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(nowhere.flows, none.flows, atol=1e-3, rtol=1e-3)
    projected = sample(pipe, guidance_parallel=0.0)
    assert not torch.allclose(projected.frames, plain.frames, atol=1e-4)


def test_the_model_is_without_pairs_afterwards(pipe):
    sample(pipe)
    assert patch.get_pairs(pipe.unet) == ()


def test_images_and_latents_are_other_forms_of_the_same(pipe):
    assert sample(pipe, output_type="pil").frames[0][0].size == (SIZE, SIZE)
    assert sample(pipe, output_type="latent").flows.shape == (B, F, 4, SIZE // 4, SIZE // 4)


def test_many_known_frames_are_encoded_like_one_by_one(pipe):
    frames = torch.rand(2, 9, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = pipe.encode_frames(frames)
    for b, k in ((0, 0), (0, 8), (1, 0), (1, 8)):
        assert torch.allclose(latents[b, k], pipe.encode_frames(frames[b : b + 1, k : k + 1])[0, 0], atol=1e-5)


def test_a_saved_adapter_is_loaded_with_its_code(pipe, tmp_path):
    training = CODE.to_training() | {"one_way_share": 0.4}
    path = patch.save(pipe.unet, tmp_path, "flow", training=training)
    loaded = quiet(StableVideoDiffusionJointPipeline(**tiny_video_pipeline().components))
    assert loaded.load_flow_adapter(path) == "flow"
    assert loaded.flow_adapter.code == CODE
    assert torch.allclose(sample(loaded).flows, sample(pipe).flows, atol=1e-4)


def test_an_adapter_that_was_not_trained_on_flow_is_refused(pipe, tmp_path):
    path = patch.save(pipe.unet, tmp_path, "flow")
    loaded = StableVideoDiffusionJointPipeline(**tiny_video_pipeline().components)
    with pytest.raises(ValueError, match="not trained on flow"):
        loaded.load_flow_adapter(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flow_strength": 0.5}, "The flow: a strength of 0.5 needs"),
        ({"flow": random_flow(), "flow_strength": 1.5}, "from 0 to 1"),
        ({"flow": random_flow(), "video": random_video()}, "nothing is left"),
        ({"flow": random_flow()[:, :, :, :16]}, "has to be"),
        ({"flow": random_flow()[0]}, "has to be"),
        ({"flow": random_flow() * torch.nan}, "not finite"),
        ({"flow": random_flow(), "num_frames": 3}, "has to be"),
        ({"num_frames": 1}, "num_frames 1 is not allowed"),
        ({"output_type": "pill"}, "'pill' is not allowed"),
        ({"direction": "sideways"}, "'sideways' is not allowed"),
        ({"video": random_video() * 127 + 128}, "The video reaches from .* bring it to"),
        ({"weight": torch.nan}, "weight nan"),
        ({"flow": random_flow() * 500}, "The motion reaches .* adapter's flow holds 16"),
        ({"flow": random_flow() * 500, "flow_strength": 0.5}, "holds 16"),
        ({"flow_latents": torch.full((B, F, 4, 8, 8), torch.nan)}, "noise has values that are not finite"),
    ],
)
def test_what_cannot_be_sampled_is_refused_in_a_sentence(pipe, changes, message):
    with pytest.raises(ValueError, match=message):
        sample(pipe, **changes)


def test_a_pipeline_without_an_adapter_says_what_to_load():
    with pytest.raises(ValueError, match="load_flow_adapter"):
        sample(StableVideoDiffusionJointPipeline(**tiny_video_pipeline().components))
