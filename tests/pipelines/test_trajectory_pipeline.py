"""Videos that follow tracks: what each way of following does to flow and video."""

import pytest
import torch
from diffusers.configuration_utils import FrozenDict
from torch.nn import functional

import patch
from pipelines.flow_adapter import FlowAdapter
from pipelines.pipeline_stable_video_diffusion_joint import FLOW, StableVideoDiffusionJointPipeline
from pipelines.pipeline_trajectory import INTERPOLATIONS, StableVideoDiffusionTrajectoryPipeline
from pipelines.steering import GUIDANCES, FlowSteer, Steering, equal_shares
from tests.tiny_pipeline import quiet
from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.diffusion.sampling import VideoSampling
from utils.flow.code import FlowCode
from utils.latents import FRAMES_BESIDE, LatentScale
from utils.tracks import Tracks, dense_flow, known_flow, point_discs
from utils.tracks.camera import camera_flow
from utils.tracks.guess import track_flow

F, SIZE = 4, 32
CODE = FlowCode(scale=LatentScale(0.1, 0.7))


@pytest.fixture(scope="module")
def pipe():
    pipe = quiet(StableVideoDiffusionTrajectoryPipeline(**tiny_video_pipeline().components))
    patch.add_joint(pipe.unet, "flow", rank=2, post="aligned")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in patch.joint_parameters(pipe.unet, "flow"):
            parameter.normal_(std=0.1, generator=generator)
    pipe.unet.requires_grad_(False)
    pipe.flow_adapter = FlowAdapter("flow", CODE)
    return pipe


def make_tracks(step=(3.0, 1.0), **options):
    k = torch.arange(F)[:, None, None]
    points = torch.tensor([[[9.0, 9.0], [22.0, 20.0]]]) + k * torch.tensor([[step, (0.0, 0.0)]])
    return Tracks(points, SIZE, SIZE, **options)


def random_images(count=1):
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def sample(pipe, tracks=None, images=None, **changes):
    options = {"num_inference_steps": 3, "output_type": "pt", "generator": torch.Generator().manual_seed(3)}
    images = random_images() if images is None else images
    return pipe(images, make_tracks() if tracks is None else tracks, **options | changes)


def joint_pipeline(pipe):
    """The base class with the same weights."""
    plain = quiet(StableVideoDiffusionJointPipeline(**pipe.components))
    plain.flow_adapter = FlowAdapter("flow", CODE)
    return plain


def sample_joint(pipe, **known):
    """Without tracks, from the same noise."""
    generator = torch.Generator().manual_seed(3)
    return joint_pipeline(pipe)(random_images(), num_inference_steps=3, output_type="pt", generator=generator, **known)


def miss(flow, tracks):
    """Mean squared distance of the flow's image from the wanted one where that is known."""
    wanted, known = known_flow(tracks)
    encode = CODE.encoding.encode
    return float((encode(flow[0]) - encode(wanted)).square().mul(known).sum() / known.sum())


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_coarse_is_the_joint_pipeline_from_the_dense_guess(pipe, interpolation):
    tracks = make_tracks()
    guess = dense_flow(tracks) if interpolation == "distance" else track_flow(tracks, random_images()[0])
    expected = sample_joint(pipe, flow=guess[None], flow_strength=0.5)
    out = sample(pipe, tracks, flow_strength=0.5, interpolation=interpolation)
    assert torch.equal(out.flows, expected.flows) and torch.equal(out.frames, expected.frames)
    assert not torch.equal(out.flows, sample(pipe, make_tracks((-3.0, 1.0)), flow_strength=0.5).flows)


def test_a_coarse_flow_that_takes_no_step_is_the_guess_and_is_run_once(pipe):
    rows = []
    handle = pipe.unet.register_forward_pre_hook(lambda unet, args: rows.append(len(args[0])))
    out = sample(pipe, flow_strength=0)
    handle.remove()
    assert torch.equal(out.flows[0], track_flow(make_tracks(), random_images()[0]))
    assert rows == [2, 2, 2, 2]  # the flow's rows once, then those of the video in each of 3 steps


@pytest.mark.parametrize("kind", ["gradient", "decoder_gradient"])
def test_a_gradient_brings_the_flow_nearer_to_the_tracks_than_no_guidance_does(pipe, kind):
    tracks = make_tracks()
    free = sample_joint(pipe)
    led = sample(pipe, tracks, method="guided", guidance=kind, guidance_steps=1.0, guidance_iterations=3)
    assert miss(led.flows, tracks) < 0.7 * miss(free.flows, tracks)


@pytest.mark.parametrize("kind", ["gradient", "decoder_gradient"])
def test_a_flow_that_is_sampled_first_is_led_as_well(pipe, monkeypatch, kind):
    monkeypatch.setattr(pipe, "flow_adapter", FlowAdapter("flow", CODE, flow_alone=True, moved_image=True))
    tracks = make_tracks()
    free = sample(pipe, tracks, flow_strength=1)
    led = sample(pipe, tracks, method="guided", guidance=kind, guidance_steps=1.0)
    assert miss(led.flows, tracks) < 0.9 * miss(free.flows, tracks)
    assert not torch.equal(led.frames, free.frames)


def test_more_gradient_steps_bring_it_nearer(pipe):
    few, many = (
        sample(pipe, method="guided", guidance="decoder_gradient", guidance_steps=1.0, guidance_iterations=n)
        for n in (1, 6)
    )
    assert miss(many.flows, make_tracks()) < miss(few.flows, make_tracks())


def test_only_the_gradient_through_the_network_changes_the_estimate_of_the_video(pipe):
    pixels = random_images()
    sides = joint_pipeline(pipe).prepare(pixels, VideoSampling(3), generator=torch.Generator().manual_seed(0)).sides
    seen = {}

    def estimate(sides):
        mixed = sides[0].latents + 0.1 * sides[1].latents.tanh()
        return {0: sides[0].latents / 700, 1: mixed / 700}

    flow, known = (part[None] for part in known_flow(make_tracks()))
    for kind in ("gradient", "decoder_gradient"):
        seen[kind] = FlowSteer(pipe, flow, known, Steering(guidance=kind), known)(estimate, sides, 0)
    free = estimate(sides)
    assert torch.equal(seen["decoder_gradient"][0], free[0])
    assert not torch.equal(seen["gradient"][0], free[0])
    assert all(not torch.equal(part[FLOW], free[FLOW]) for part in seen.values())


@pytest.mark.parametrize("beside", [0, 1])
@pytest.mark.parametrize("chunk", [None, 3])
def test_a_gradient_step_is_what_differences_of_the_error_say(pipe, chunk, beside, monkeypatch):
    monkeypatch.setattr(pipe.vae, "_internal_dict", FrozenDict({**pipe.vae.config, FRAMES_BESIDE: beside}))
    y = torch.randn(1, F, 4, SIZE // 4, SIZE // 4, generator=torch.Generator().manual_seed(1))
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    flow, known = (part[None] for part in known_flow(make_tracks()))
    steer = FlowSteer(pipe, flow, known, Steering(), known, decode_chunk_size=chunk)
    expected = (
        steer.decoder_gradient(y + 1e-2 * direction)[0] - steer.decoder_gradient(y - 1e-2 * direction)[0]
    ) / 2e-2
    assert torch.allclose((steer.decoder_gradient(y)[1] * direction).sum(), expected, rtol=0.02)


def test_no_element_of_an_estimate_moves_further_than_its_deviation_at_once(pipe):
    flow, known = (part[None] for part in known_flow(make_tracks()))
    steer = FlowSteer(pipe, flow, known, Steering(), known)
    y, peak = torch.zeros(1, F, 4, 8, 8), torch.zeros(1, F, 4, 8, 8)
    peak[0, 0, 0, 0, 0], peak[0, 1] = 5.0, 0.5
    near, far = (steer.move({FLOW: y}, {FLOW: peak}, torch.tensor([length]))[FLOW] for length in (0.5, 1e4))
    assert near.norm() == pytest.approx(0.5, rel=1e-4)
    assert torch.allclose(far, -peak / 5)


def test_replacement_sets_the_known_pixels_of_the_estimate_and_no_others(pipe, monkeypatch):
    """With an autoencoder that loses nothing: latents are the mean colours of 4x4 blocks."""

    def encode(frames):
        means = functional.avg_pool2d(frames.flatten(0, 1), 4).unflatten(0, frames.shape[:2])
        return functional.pad(means, (0, 0, 0, 0, 0, 1))

    monkeypatch.setattr(pipe, "encode_frames", encode)
    monkeypatch.setattr(pipe, "decode", lambda y, chunk: y[:, :, :3].repeat_interleave(4, -1).repeat_interleave(4, -2))
    known = torch.zeros(1, F - 1, 1, SIZE, SIZE, dtype=torch.bool)
    known[..., 8:16, 4:12] = True
    wanted = torch.tensor([3.0, -2.0]).view(1, 1, 2, 1, 1).expand(1, F - 1, 2, SIZE, SIZE)
    steer = FlowSteer(pipe, wanted, known, Steering(guidance="replace"), known)
    y = torch.randn(1, F, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.3
    led = steer.set_known({0: y, FLOW: y})
    before, after = (CODE.to_flow(pipe.decode(CODE.scale.denormalize(x), None)) for x in (y, led[FLOW]))
    assert torch.allclose(after[..., 8:16, 4:12], wanted[..., 8:16, 4:12], atol=1e-4)
    assert torch.allclose(after.masked_fill(known, 0), before.masked_fill(known, 0), atol=1e-4)
    assert torch.equal(led[0], y)


@pytest.mark.parametrize("kind", GUIDANCES)
def test_guidance_depends_on_the_tracks_and_on_nothing_that_is_sampled_anew(pipe, kind):
    guidance = {"guidance": kind, "guidance_steps": 0.5}
    first, second = (sample(pipe, method="guided", **guidance) for _ in range(2))
    other = sample(pipe, make_tracks((-3.0, 2.0)), method="guided", **guidance)
    assert torch.equal(first.flows, second.flows) and torch.equal(first.frames, second.frames)
    assert not torch.allclose(first.flows, other.flows, atol=1e-4)


def test_steps_after_the_guided_share_are_the_networks_own(pipe):
    calls = []
    flow, known = (part[None] for part in known_flow(make_tracks()))
    steer = FlowSteer(pipe, flow, known, Steering(guidance="replace", guidance_steps=0.5), known)
    steer.set_known = lambda clean: calls.append(clean) or clean
    joint_pipeline(pipe)(random_images(), num_inference_steps=4, steer=steer, output_type="latent")
    assert len(calls) == 2


def test_a_small_share_of_few_steps_still_guides_one(pipe):
    led, other = (
        sample(pipe, make_tracks(step), method="guided", guidance="replace", guidance_steps=0.1)
        for step in ((3.0, 1.0), (-3.0, 1.0))
    )
    assert not torch.allclose(led.flows, other.flows, atol=1e-4)


def test_a_static_region_is_led_to_stand_still(pipe):
    static = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    static[20:30, 2:14] = True
    tracks = make_tracks(static=static)
    led = sample(pipe, tracks, method="guided", guidance="decoder_gradient", guidance_steps=1.0, guidance_iterations=4)
    encoded = CODE.encoding.encode(sample_joint(pipe).flows)[..., static], CODE.encoding.encode(led.flows)[..., static]
    assert encoded[1].square().mean() < encoded[0].square().mean()


def test_few_pixels_of_points_weigh_as_much_as_many_others(pipe):
    static = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    static[16:] = True
    tracks = make_tracks(static=static)
    known, discs = known_flow(tracks)[1][None], point_discs(tracks)[None]
    weights = equal_shares(known & discs, known & ~discs)
    assert discs.sum() < 0.3 * known.sum()
    assert weights[discs].sum() == pytest.approx(float(weights[known & ~discs].sum()), rel=1e-5)
    assert not weights[~known].any()
    nothing = torch.zeros_like(known)
    assert torch.equal(equal_shares(nothing, known), known.float())
    assert torch.equal(equal_shares(known, nothing), known.float())


def test_each_image_of_a_batch_follows_its_own_tracks(pipe):
    images, tracks = random_images(2), [make_tracks(), make_tracks((-2.0, 0.0))]
    guidance = {"guidance": "decoder_gradient", "guidance_steps": 1.0}

    def generators(*seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    both = sample(pipe, tracks, images, method="guided", **guidance, generator=generators(1, 2))
    alone = sample(pipe, tracks[1], images[1:], method="guided", **guidance, generator=generators(2))
    assert torch.allclose(both.flows[1], alone.flows[0], atol=1e-2)
    assert not torch.allclose(both.flows[0], both.flows[1], atol=1e-1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "magic"}, "method 'magic' is not allowed: pass coarse or guided"),
        ({"reach": torch.nan}, "reach nan is not allowed"),
        ({"video": torch.zeros(1, F, 3, SIZE, SIZE)}, "leave video out"),
        ({"tracks": make_tracks((17.0, 0.0))}, "reaches 17 pixels .* holds 16"),
        ({"tracks": make_tracks().resized(64, 32)}, "64x32 pixels and the image of 32x32"),
        ({"tracks": [make_tracks(), make_tracks()]}, "tracks for 2 videos and 1 image"),
        ({"flow_strength": 2.0}, "from 0 to 1"),
        ({"method": "guided", "tracks": Tracks(torch.zeros(F, 0, 2), SIZE, SIZE)}, "No pixel of the flow is known"),
        ({"tracks": make_tracks(camera=camera_flow("pan_left", 30, F, SIZE, SIZE))}, "slower camera"),
    ],
)
def test_what_cannot_be_sampled_is_refused_in_a_sentence(pipe, changes, message):
    with pytest.raises(ValueError, match=message):
        sample(pipe, **changes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"guidance": "hope"}, "guidance 'hope' is not allowed: pass gradient or decoder_gradient or replace"),
        ({"guidance_strength": 0}, "guidance_strength 0 .* above 0"),
        ({"guidance_strength": torch.inf}, "guidance_strength inf"),
        ({"guidance_steps": 1.2}, "guidance_steps 1.2 .* above 0, at most 1"),
        ({"guidance_iterations": 0}, "guidance_iterations 0 .* whole number of 1 or more"),
    ],
)
def test_guidance_out_of_its_range_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Steering(**values)
