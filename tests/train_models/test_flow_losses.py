"""Conditions and losses of the networks of flow, on one random batch."""

import pytest
import torch

import patch
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from tests.small_trainings import SIZE, F, Seen, arguments
from tests.tiny_video_pipeline import tiny_video_pipeline
from train_models import train_flow_video, train_svd_flow
from utils.diffusion.edm import EDM
from utils.diffusion.svd_condition import Condition, ConditionEncoder
from utils.flow.code import FlowCode
from utils.latents import FRAMES_BESIDE, LatentScale
from utils.training.flow_losses import decode_flow, encode_flow
from utils.training.flow_validation import flow_errors
from utils.training.svd import SVDTraining
from utils.training.svd_losses import encode_clips
from utils.training.validation import Validation

B = 4
TOGETHER = ("--flow_alone_share", 0)


def make_batch():
    video, flow = torch.rand(2, B, F, 3, SIZE, SIZE) * 2 - 1
    given = {"fps": torch.full((B,), 8.0), "motion_bucket_id": torch.full((B,), 100)}
    return {"pixel_values": video, "flow_pixel_values": flow, "image": video[:, 0], **given}


def joint_step(*flags, seed=0):
    """What the UNet saw and the loss, of one random batch."""
    pipe = tiny_video_pipeline()
    patch.add_joint(pipe.unet, "flow", rank=2, post="aligned")
    torch.manual_seed(seed)
    batch = make_batch()
    encoder = ConditionEncoder(pipe.vae, pipe.image_encoder, pipe.feature_extractor)
    unet = Seen()
    args = arguments(train_flow_video, *flags)
    loss, scalars = train_flow_video.pair_loss(pipe.unet, unet, batch, encoder, EDM(), FlowCode(), args)
    loss.backward()
    return unet, pipe, loss, scalars


@pytest.mark.parametrize(("given", "share"), [(0, "--clean_video_share"), (1, "--clean_flow_share")])
def test_a_given_side_has_no_loss_and_the_other_has(given, share):
    others = {"--clean_video_share": 0, "--clean_flow_share": 0, share: 1}
    flags = [part for pair in others.items() for part in pair]
    unet, _, _, scalars = joint_step(*TOGETHER, "--one_way_share", 0, *flags)
    sides = unet.output.grad.split(B)
    assert sides[given].abs().max() == 0
    assert sides[1 - given].abs().min(dim=0).values.max() > 0
    assert scalars[("video", "flow")[given]] is None
    assert torch.allclose(unet.timestep.split(B)[given], torch.tensor(EDM().sigma_min).log() / 4)


@pytest.mark.parametrize("script", [train_svd_flow, train_flow_video])
def test_flow_is_learned_at_the_scale_that_the_code_states(script):
    """At a tiny noise level the network sees the clean latents."""
    pipe, code, edm = tiny_video_pipeline(), FlowCode(scale=LatentScale(0.3, 0.6)), EDM(-12, 0)
    batch = make_batch()
    encoder, args = ConditionEncoder(pipe.vae, pipe.image_encoder, pipe.feature_extractor), arguments(script)
    unet = Seen()
    torch.manual_seed(0)
    if script is train_svd_flow:
        wanted = code.scale.normalize(encode_flow(batch, pipe.vae))
        torch.manual_seed(0)
        train_svd_flow.flow_loss(unet, batch, encoder, edm, code, args)
    else:
        patch.add_joint(pipe.unet, "flow", rank=2, post="aligned")
        torch.manual_seed(0)
        wanted = torch.cat([encode_clips(batch, pipe.vae), code.scale.normalize(encode_flow(batch, pipe.vae))])
        torch.manual_seed(0)
        train_flow_video.joint_loss(pipe.unet, unet, batch, encoder, edm, code, args)
    assert torch.allclose(unet.inputs[:, :, :4], wanted, atol=1e-3)


def validate(pipe, sample, errors, folder, **modes):
    """Losses of the modes of flow and video."""
    args = arguments(train_flow_video, output_dir=folder)
    encoder = ConditionEncoder(pipe.vae, pipe.image_encoder, pipe.feature_extractor)
    svd = SVDTraining(args, pipe, dataset=[], held_out=[sample], encoder=encoder, edm=EDM(), buckets=None)
    return Validation(svd, flow_errors(FlowCode(), errors, train_flow_video.MODES, **modes)).losses(pipe.unet)


def test_validation_counts_the_sides_that_are_denoised_and_gives_the_others_level_0(tmp_path):
    given = []

    def errors(unet, mode, clean, noise, sigma, condition):
        given.append((sigma > 0).tolist())
        return torch.tensor([1.0, 3.0])

    sample = {name: value[0] for name, value in make_batch().items()}
    losses = validate(tiny_video_pipeline(), sample, errors, tmp_path)
    assert losses == pytest.approx(
        {"loss": 2.25, "joint": 2.0, "flow_to_video": 1.0, "video_to_flow": 3.0, "flow_alone": 3.0}
    )
    assert given[:4] == [[True, True], [True, False], [False, True], [False, True]]


def test_validation_conditions_each_mode_as_the_training_does(tmp_path):
    conditions, clean_videos = {}, []

    def errors(unet, mode, clean, noise, sigma, condition):
        conditions[mode] = condition.image_latents
        clean_videos.append(clean[0])
        return torch.ones(2)

    pipe, sample = tiny_video_pipeline(), {name: value[0] for name, value in make_batch().items()}
    for moved, seen in (({"flow_to_video"}, {"video_to_flow"}), (set(), set())):
        validate(pipe, sample, errors, tmp_path, moved=moved, seen=seen)
        for mode, (video, flow) in conditions.items():
            for image_latents, modes in ((video, moved), (flow, seen)):
                assert torch.allclose(image_latents, image_latents[:1], atol=1e-5) == (mode not in modes)
        frames = clean_videos[0] / pipe.vae.config.scaling_factor
        assert torch.equal(conditions["video_to_flow"][1], frames) == bool(seen)


@pytest.mark.parametrize(("direction", "given"), [("x_reads_y", 1), ("y_reads_x", 0)])
def test_with_one_direction_the_side_that_is_read_is_given(direction, given, monkeypatch):
    monkeypatch.setattr(train_flow_video, "draw_direction", lambda args: direction)
    unet, pipe, _, _ = joint_step(*TOGETHER)
    pairs = patch.get_pairs(pipe.unet)
    assert [(pair.x, pair.y, pair.direction) for pair in pairs] == [(i, B + i, direction) for i in range(B)]
    assert unet.output.grad.split(B)[given].abs().max() == 0


def test_alone_no_row_is_of_the_video_and_all_have_the_flows_own_lora():
    unet, pipe, loss, scalars = joint_step("--flow_alone_share", 1)
    assert len(unet.inputs) == B
    assert unet.output.grad.abs().flatten(1).amax(dim=1).min() > 0
    assert patch.get_pairs(pipe.unet) == ()
    assert tuple(pipe.unet._duet.settings.masks["flow_y_lora"].rows) == (1.0,) * B
    assert (scalars["video"], scalars["flow"]) == (None, loss)


def test_batches_of_both_kinds_train_one_network_by_turns():
    """With gradient checkpointing, which runs the network again in the backward pass, and attention over time."""
    pipe = tiny_video_pipeline()
    patch.add_joint(pipe.unet, "flow", rank=2, post="aligned", temporal=True)
    pipe.unet.enable_gradient_checkpointing()
    pipe.unet.train()
    encoder = ConditionEncoder(pipe.vae, pipe.image_encoder, pipe.feature_extractor)
    posts = [p for name, p in pipe.unet.named_parameters() if "joint_post" in name and ".up_" in name]
    for share in (1, 0, 1):
        pipe.unet.zero_grad()
        known = make_batch(), encoder, EDM(), FlowCode(), arguments(train_flow_video, "--flow_alone_share", share)
        loss, _ = train_flow_video.pair_loss(pipe.unet, pipe.unet, *known)
        loss.backward()
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in posts) == (share == 0)


def test_a_batch_of_pairs_after_one_of_flow_alone_has_no_mask_of_it():
    pipe = tiny_video_pipeline()
    patch.add_joint(pipe.unet, "flow", rank=2, post="aligned")
    encoder = ConditionEncoder(pipe.vae, pipe.image_encoder, pipe.feature_extractor)
    for share in (1, 0):
        known = make_batch(), encoder, EDM(), FlowCode(), arguments(train_flow_video, "--flow_alone_share", share)
        train_flow_video.pair_loss(pipe.unet, Seen(), *known)
    assert "flow_y_lora" not in pipe.unet._duet.settings.masks
    assert len(patch.get_pairs(pipe.unet)) == B


def told_pictures(*flags, given_side=1):
    """Conditioning latents of videos and flows of one batch, (B, F, C, h, w) each, and which of a side are given."""
    shares = {"--one_way_share": 0, "--clean_video_share": 0, "--clean_flow_share": 0}
    shares[("--clean_video_share", "--clean_flow_share")[given_side]] = 0.5
    unet, *_ = joint_step(*TOGETHER, *[part for pair in shares.items() for part in pair], *flags)
    given = unet.timestep.split(B)[given_side] < EDM().timestep(torch.tensor(0.003))
    assert 0 < given.sum() < B
    assert torch.equal(*unet.embeddings.split(B))
    return *unet.inputs[:, :, 4:].split(B), given


def frames_of(batch):
    """Latents of the frames, as conditioning images."""
    pipe = tiny_video_pipeline()
    return encode_clips(batch, pipe.vae) / pipe.vae.config.scaling_factor


def test_both_sides_are_told_the_same_image_but_where_the_flow_moves_it():
    video, flow, given = told_pictures("--conditioning_dropout_prob", 0)
    assert torch.equal(video[~given], flow[~given])
    assert torch.allclose(video[given][:, 0], flow[given][:, 0], atol=1e-5)
    assert ((video[given] - flow[given])[:, 1:].abs().flatten(1).amax(dim=1) > 0.01).all()


def test_a_flow_sees_all_frames_of_a_given_video():
    video, flow, given = told_pictures("--conditioning_dropout_prob", 0, given_side=0)
    torch.manual_seed(0)
    assert torch.equal(flow[given], frames_of(make_batch())[given])
    assert torch.equal(video[~given], flow[~given])
    assert torch.equal(video[given], video[given][:, :1].expand_as(video[given]))


def test_frames_are_conditioning_images_where_there_is_an_image():
    latents, frames = torch.rand(2, 4, F, 4, 8, 8)
    dropped, where = torch.tensor([False, False, True, True]), torch.tensor([False, True, False, True])
    condition = Condition(torch.rand(4, 1, 16), latents, torch.rand(4, 3)).drop(dropped)
    found = condition.with_frames(frames, 1.0, where).image_latents
    assert torch.equal(found[:2], torch.stack([latents[0], frames[1]]))
    assert not found[2:].any()


@pytest.mark.parametrize(("flags", "share"), [((), 0.5), (("--no-seen_video",), 0)])
def test_half_of_the_flows_alone_see_the_frames_of_their_video(flags, share):
    dropped = "--conditioning_dropout_prob", 0
    seen = []
    for seed in range(8):
        unet, *_ = joint_step("--flow_alone_share", 1, *dropped, *flags, seed=seed)
        torch.manual_seed(seed)
        frames = frames_of(make_batch())
        for told, wanted in zip(unet.inputs[:, :, 4:], frames, strict=True):
            still = told[:1].expand_as(told)
            assert torch.equal(told, wanted) or torch.equal(told, still)
            seen.append(not torch.equal(told, still))
    assert abs(sum(seen) / len(seen) - share) < 0.25


@pytest.mark.parametrize(("given_side", "flag"), [(1, "--no-moved_picture"), (0, "--no-seen_video")])
def test_without_such_images_both_sides_have_one_condition(given_side, flag):
    video, flow, _ = told_pictures(flag, given_side=given_side)
    assert torch.equal(video, flow)


def test_flow_is_decoded_as_in_sampling():
    pipe = StableVideoDiffusionEDMPipeline(**tiny_video_pipeline().components)
    pipe.vae.register_to_config(**{FRAMES_BESIDE: 1})
    code = FlowCode(scale=LatentScale(0.1, 0.7))
    y_0 = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = code.to_flow(pipe.decode(code.scale.denormalize(y_0)))
    torch.testing.assert_close(decode_flow(y_0, pipe.vae, code), expected)


@pytest.mark.parametrize("given_side", [0, 1])
def test_both_sides_lose_the_image_together(given_side):
    video, flow, _ = told_pictures("--conditioning_dropout_prob", 0.6, given_side=given_side)
    lost = [side.flatten(1).abs().amax(dim=1) == 0 for side in (video, flow)]
    assert torch.equal(*lost)
    assert 0 < lost[0].sum() < B


def test_noise_levels_come_in_the_shares_asked_for():
    torch.manual_seed(0)
    args = arguments(train_flow_video, "--equal_noise_share", 0.25)
    x, y = train_flow_video.draw_levels(4000, "both", EDM(), args)
    free = (x > 0) & (y > 0)
    assert float((x == 0).float().mean()) == pytest.approx(0.2, abs=0.03)
    assert float((y == 0).float().mean()) == pytest.approx(0.2, abs=0.03)
    assert float((x == y)[free].float().mean()) == pytest.approx(0.25, abs=0.03)
