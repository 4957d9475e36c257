"""Video and flow drawn together: modes, what is given, what is cached, what is refused."""

from dataclasses import replace

import pytest
import torch

import patch
from pipelines import pipeline_stable_video_diffusion as base
from pipelines.flow_adapter import FlowAdapter
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from pipelines.pipeline_stable_video_diffusion_joint import StableVideoDiffusionJointPipeline
from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.diffusion.sampling import VideoSampling
from utils.flow.code import FlowCode
from utils.latents import LatentScale

B, F, SIZE = 2, 4, 32
CODE = FlowCode(scale=LatentScale(0.1, 0.7))


def random_image(seed=0):
    return torch.rand(B, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def random_video():
    return torch.rand(B, F, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


def random_flow():
    return torch.randn(B, F - 1, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(2)) * 3


def make_pipe(trained=True, temporal=False):
    base = tiny_video_pipeline()
    pipe = StableVideoDiffusionJointPipeline(**base.components)
    pipe.set_progress_bar_config(disable=True)
    patch.add_joint(pipe.unet, "flow", rank=2, post="aligned", temporal=temporal)
    if trained:
        with torch.no_grad():
            for parameter in patch.joint_parameters(pipe.unet, "flow"):
                parameter.normal_(std=0.3)
    pipe.unet.requires_grad_(False)
    pipe.flow_adapter = FlowAdapter("flow", CODE)
    return pipe


@pytest.fixture
def pipe():
    return make_pipe()


def draw(pipe, **changes):
    options = {"num_inference_steps": 3, "output_type": "pt", "generator": torch.Generator().manual_seed(3), **changes}
    return pipe(random_image(), **options)


@pytest.mark.parametrize("temporal", [False, True])
def test_an_adapter_that_has_learned_nothing_leaves_the_videos_of_the_base(temporal):
    plain = StableVideoDiffusionEDMPipeline(**tiny_video_pipeline().components)
    plain.set_progress_bar_config(disable=True)
    wanted = draw(plain).frames
    assert torch.allclose(draw(make_pipe(trained=False, temporal=temporal)).frames, wanted, atol=1e-4)


def test_a_trained_adapter_changes_the_video(pipe):
    assert not torch.allclose(draw(pipe).frames, draw(make_pipe(trained=False)).frames, atol=1e-3)


def test_jointly_both_sides_are_drawn(pipe):
    out = draw(pipe)
    assert out.frames.shape == (B, F, 3, SIZE, SIZE)
    assert out.flows.shape == (B, F - 1, 2, SIZE, SIZE)
    assert out.flows.isfinite().all() and out.frames.isfinite().all()


def test_a_given_flow_comes_back_as_it_is_and_decides_the_video(pipe):
    flow = random_flow()
    out, other = draw(pipe, flow=flow), draw(pipe, flow=-flow)
    assert torch.equal(out.flows, flow)
    assert not torch.allclose(out.frames, other.frames, atol=1e-3)


def test_a_given_video_comes_back_as_it_is_and_decides_the_flow(pipe):
    video = random_video()
    out, other = draw(pipe, video=video), draw(pipe, video=-video)
    assert torch.allclose(out.frames * 2 - 1, video, atol=1e-6)
    assert not torch.allclose(out.flows, other.flows, atol=1e-3)


def test_coarse_flow_is_drawn_anew_from_a_part_of_the_steps(pipe):
    flow = random_flow()
    out = draw(pipe, flow=flow, flow_strength=0.5)
    assert out.flows.shape == flow.shape
    assert not torch.allclose(out.flows, flow, atol=1e-3)
    assert not torch.allclose(out.flows, draw(pipe, flow=-flow, flow_strength=0.5).flows, atol=1e-3)


def test_a_strength_of_1_forgets_what_is_known(pipe):
    assert torch.equal(draw(pipe, flow=random_flow(), flow_strength=1.0).flows, draw(pipe).flows)


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
    cached = draw(pipe, **{known: given}, output_type="latent")
    cached_rows = sum(rows)
    rows.clear()
    monkeypatch.setattr(base, "run_constant", lambda unet, sides, rows, joint, run: rows)
    full = draw(pipe, **{known: given}, output_type="latent")
    handle.remove()
    assert cached_rows < sum(rows)
    assert torch.allclose(cached.frames, full.frames, atol=1e-3)
    assert torch.allclose(cached.flows, full.flows, atol=1e-3)


def test_a_side_that_is_read_but_does_not_read_is_drawn_as_by_the_base(pipe):
    alone = draw(make_pipe(trained=False)).frames
    assert torch.allclose(draw(pipe, direction="y_reads_x").frames, alone, atol=1e-4)


def test_joint_guidance_adds_the_difference_to_a_video_that_heeds_nothing(pipe):
    options = {"num_inference_steps": 1, "max_guidance_scale": 1.0, "output_type": "latent"}
    joint, alone = draw(pipe, **options).frames, draw(make_pipe(trained=False), **options).frames
    guided = draw(pipe, joint_guidance_scale=2.0, **options).frames
    assert (joint - alone).abs().max() > 0.01
    assert torch.allclose(guided, joint + 2 * (joint - alone), atol=1e-3)


def test_a_given_side_reads_the_other_only_if_the_adapter_was_never_trained_without(pipe):
    known = {"flow": random_flow(), "output_type": "latent", "num_inference_steps": 1}
    one_way, both = (draw(pipe, direction=direction, **known).frames for direction in ("x_reads_y", "both"))
    assert not torch.allclose(one_way, both, atol=1e-3)
    assert torch.equal(draw(pipe, **known).frames, one_way)
    pipe.flow_adapter = FlowAdapter("flow", CODE, one_way=False)
    assert torch.equal(draw(pipe, **known).frames, both)


@pytest.fixture
def leading(pipe):
    """A pipeline whose adapter says that it was trained to draw the flow first."""
    pipe.flow_adapter = FlowAdapter("flow", CODE, flow_alone=True, moved_image=True)
    return pipe


@pytest.mark.parametrize("known", [{}, {"flow": random_flow(), "flow_strength": 0.5}])
def test_a_flow_drawn_first_is_then_given_to_the_video(leading, monkeypatch, known):
    calls = []
    denoise = leading.denoise_sides

    def denoise_sides(inputs):
        calls.append((inputs.sides, denoise(inputs)))
        return calls[-1][1]

    monkeypatch.setattr(leading, "denoise_sides", denoise_sides)
    first = draw(leading, flow_first=True, **known)
    (flow_starts, flow_ends), (video_starts, _) = calls
    assert [side.given for side in flow_starts] == [True, False]
    assert [side.given for side in video_starts] == [False, True]
    assert torch.equal(video_starts[1].latents, flow_ends[1].latents)
    assert not torch.allclose(first.flows, draw(leading, flow_first=False, **known).flows, atol=1e-2)
    assert torch.equal(draw(leading, **known).flows, first.flows)


def test_a_flow_drawn_first_knows_nothing_of_the_video(leading):
    noise = torch.randn(2, B, F, 4, SIZE // 4, SIZE // 4, generator=torch.Generator().manual_seed(5))
    one, other = (draw(leading, latents=n, flow_latents=noise[0]) for n in noise)
    assert torch.equal(one.flows, other.flows)
    assert not torch.allclose(one.frames, other.frames, atol=1e-3)


@pytest.mark.parametrize("scale, slots", [(None, 2), (1.0, 1)])
def test_no_row_is_of_the_video_while_the_flow_is_drawn(leading, scale, slots):
    rows = []
    leading.unet.register_forward_pre_hook(lambda unet, args: rows.append(len(args[0])))
    draw(leading, num_inference_steps=3, flow_guidance_scale=scale)
    assert rows == [slots * B] * 3 + [2 * B] * 4  # the flow, once the given flow, the video with guidance


def told_buckets(pipe, **options) -> list[list[float]]:
    """Buckets of the rows of each call of the network, one for all videos of a slot."""
    buckets = []
    handle = pipe.unet.register_forward_pre_hook(lambda unet, args: buckets.append(args[3][::B, 1].tolist()))
    draw(pipe, num_inference_steps=2, motion_bucket_id=90, **options)
    handle.remove()
    return buckets


def test_guidance_of_a_flow_drawn_first_leads_away_from_a_standstill(leading):
    assert told_buckets(leading) == [[0, 90]] * 2 + [[90, 90]] * 3
    assert told_buckets(leading, flow_guidance_scale=1.0) == [[90]] * 2 + [[90, 90]] * 3
    leading.flow_adapter = replace(leading.flow_adapter, motion_buckets=False)
    assert told_buckets(leading) == [[90]] * 2 + [[90, 90]] * 3


def test_guidance_of_other_sides_leads_away_from_the_bucket_asked_for(leading):
    assert told_buckets(leading, flow_first=False) == [[90] * 4] * 2
    assert told_buckets(leading, flow_first=False, negative_motion_bucket_id=30) == [[30, 90, 30, 90]] * 2
    assert told_buckets(leading, negative_motion_bucket_id=30) == [[0, 90]] * 2 + [[30, 90]] * 3


def test_the_guidance_of_a_flow_drawn_first_moves_it_by_its_scale(leading):
    options = {"num_inference_steps": 1, "output_type": "latent"}
    without, one, two = (draw(leading, flow_guidance_scale=s, **options).flows for s in (1.0, 2.0, 3.0))
    assert not torch.allclose(one, without, atol=1e-3)
    torch.testing.assert_close(two - without, 2 * (one - without), atol=1e-3, rtol=1e-3)


def test_a_video_whose_flow_is_given_is_told_the_image_as_that_moves_it(leading, monkeypatch):
    told = []
    encode = leading.encode_condition

    def encode_condition(*known):
        told.append(known[-1])
        return encode(*known)

    monkeypatch.setattr(leading, "encode_condition", encode_condition)
    flow = torch.zeros(B, F - 1, 2, SIZE, SIZE)
    flow[:, :, 0] = 2.0  # to the right
    draw(leading, flow=flow)
    assert told[0] is None
    image = random_image()
    assert torch.allclose(told[1][:, 0], image)
    assert torch.allclose(told[1][:, 2, :, :, 4:], image[..., :-4], atol=1e-4)
    told.clear()
    draw(leading, video=random_video())
    assert told == [None]


def test_both_sides_are_stepped_by_the_solver_asked_for(pipe):
    apart = {"direction": "x_reads_y", "output_type": "latent"}  # the flow heeds nothing of the video
    plain, video, flow = (
        draw(pipe, **apart, **orders) for orders in ({}, {"solver_order": 2}, {"flow_solver_order": 1})
    )
    assert torch.equal(video.flows, plain.flows) and not torch.allclose(video.frames, plain.frames, atol=1e-3)
    assert not torch.allclose(flow.flows, plain.flows, atol=1e-3)
    for name in ("solver_order", "flow_solver_order"):
        with pytest.raises(ValueError, match="solver_order 3"):
            draw(pipe, **{name: 3})


def test_guidance_of_both_sides_acts_in_its_interval_and_without_its_parallel_part(pipe):
    plain, none = draw(pipe), draw(pipe, max_guidance_scale=1.0)
    nowhere = draw(pipe, guidance_min_sigma=1000)
    torch.testing.assert_close(nowhere.frames, none.frames, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(nowhere.flows, none.flows, atol=1e-3, rtol=1e-3)
    projected = draw(pipe, guidance_parallel=0.0)
    assert not torch.allclose(projected.frames, plain.frames, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 1.2])
def test_a_flow_drawn_first_is_the_one_that_does_not_read(leading, scale):
    same = {"min_guidance_scale": scale, "max_guidance_scale": scale}
    same |= {"negative_motion_bucket_id": 0} if scale > 1 else {}
    first, unread = (
        draw(leading, **order, **same).flows for order in ({"flow_guidance_scale": scale}, {"direction": "x_reads_y"})
    )
    assert torch.allclose(first, unread, atol=1e-3)


def test_flow_first_is_refused_where_it_cannot_be(pipe, leading):
    for known in ({"flow": random_flow()}, {"direction": "both"}):
        with pytest.raises(ValueError, match="flow_alone_share"):
            draw(leading, flow_first=True, **known)
    with pytest.raises(ValueError, match="flow_alone_share"):
        draw(leading, video=random_video(), video_strength=0.5, flow_first=True)
    pipe.flow_adapter = FlowAdapter("flow", CODE)
    with pytest.raises(ValueError, match="flow_alone_share"):
        draw(pipe, flow_first=True)


@pytest.mark.parametrize("options", [{"flow_first": False}, {"flow": random_flow()}])
def test_guidance_of_a_flow_drawn_first_is_refused_where_none_is(leading, options):
    with pytest.raises(ValueError, match="flow_guidance_scale 1.5 needs a flow that is sampled before"):
        draw(leading, flow_guidance_scale=1.5, **options)


def test_the_model_is_without_pairs_afterwards(pipe):
    draw(pipe)
    assert patch.get_pairs(pipe.unet) == ()


def test_pictures_and_latents_are_other_forms_of_the_same(pipe):
    assert draw(pipe, output_type="pil").frames[0][0].size == (SIZE, SIZE)
    assert draw(pipe, output_type="latent").flows.shape == (B, F, 4, SIZE // 4, SIZE // 4)


def test_many_known_frames_are_encoded_like_one_by_one(pipe):
    frames = torch.rand(2, 9, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = pipe.encode_frames(frames)
    for b, k in ((0, 0), (0, 8), (1, 0), (1, 8)):
        assert torch.allclose(latents[b, k], pipe.encode_frames(frames[b : b + 1, k : k + 1])[0, 0], atol=1e-5)


def test_a_saved_adapter_is_loaded_with_its_code(pipe, tmp_path):
    training = CODE.to_training() | {"one_way_share": 0.4}
    path = patch.save(pipe.unet, tmp_path, "flow", training=training)
    loaded = StableVideoDiffusionJointPipeline(**tiny_video_pipeline().components)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.load_flow_adapter(path) == "flow"
    assert loaded.flow_adapter.code == CODE
    assert torch.allclose(draw(loaded).flows, draw(pipe).flows, atol=1e-4)


def test_an_adapter_that_was_not_trained_on_flow_is_refused(pipe, tmp_path):
    path = patch.save(pipe.unet, tmp_path, "flow")
    loaded = StableVideoDiffusionJointPipeline(**tiny_video_pipeline().components)
    with pytest.raises(ValueError, match="not trained on flow"):
        loaded.load_flow_adapter(path)


@pytest.mark.parametrize(
    "changes, message",
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
        ({"weight": torch.nan}, "weight nan"),
        ({"flow": random_flow() * 500}, "to move .* adapter's flow holds 16"),
        ({"flow": random_flow() * 500, "flow_strength": 0.5}, "holds 16"),
        ({"flow_latents": torch.full((B, F, 4, 8, 8), torch.nan)}, "noise has values that are not finite"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_sentence(pipe, changes, message):
    with pytest.raises(ValueError, match=message):
        draw(pipe, **changes)


def test_a_pipeline_without_an_adapter_says_what_to_load():
    with pytest.raises(ValueError, match="load_flow_adapter"):
        draw(StableVideoDiffusionJointPipeline(**tiny_video_pipeline().components))
