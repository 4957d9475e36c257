"""Parts of a video edit: keyframes and their groups, gaps between them, sizes that two bases take."""

import pytest
import torch

from pipelines.edit_fill import StableVideoDiffusionLedTransPipeline, blend_seams, fill_between
from pipelines.edit_inputs import choose_size
from pipelines.edit_keyframes import choose_keyframes
from pipelines.edit_video import group_keyframes
from pipelines.layouts import Layout
from tests.tiny_pipeline import quiet


def test_keyframes_are_evenly_spread_and_hold_both_ends():
    assert choose_keyframes(9, 4) == [0, 4, 8]
    assert choose_keyframes(10, 4) == [0, 4, 8, 9]
    assert choose_keyframes(2, 1) == [0, 1]


def test_by_motion_gaps_have_about_the_same_of_it():
    flow = torch.zeros(12, 2, 4, 4)
    flow[:4] = 3.0  # all motion lies in the first third
    assert choose_keyframes(13, 4, "motion", flow) == [0, 2, 3, 12]
    assert choose_keyframes(13, 4, "motion", torch.zeros(12, 2, 4, 4)) == [0, 4, 8, 12]
    flow[:] = 0
    flow[0] = 99.0  # in a single step: they stay different numbers
    assert choose_keyframes(13, 4, "motion", flow) == [0, 1, 2, 12]


def test_groups_share_the_first_keyframe():
    assert group_keyframes([0, 4, 8, 12, 16], 3) == [[0, 4, 8], [0, 12, 16]]
    assert group_keyframes([0, 4], 8) == [[0, 4]]


@pytest.mark.parametrize("end", [1, 4, 5, 13])
def test_a_gap_longer_than_the_model_is_halved(end):
    def sample(first, last, numbers):
        assert len(numbers) <= 5
        return torch.tensor(numbers).float().view(-1, 1, 1, 1).expand(-1, 3, 2, 2)

    ends = (torch.full((3, 2, 2), float(n)) for n in (10, 10 + end))
    frames = fill_between(sample, *ends, 10, 10 + end, most=5)
    assert frames[:, 0, 0, 0].tolist() == list(range(10, 11 + end))


def test_seams_take_the_colours_of_both_keyframes():
    frames = torch.zeros(5, 3, 16, 16)
    frames[0], frames[-1] = 0.2, -0.2  # the model has shifted both colours to 0
    blended = blend_seams(frames, torch.zeros(2, 3, 16, 16))
    due = torch.linspace(0.2, -0.2, 5).view(-1, 1, 1, 1).expand_as(frames)
    torch.testing.assert_close(blended, due)


def test_a_lead_is_kept_the_more_the_fewer_steps_are_sampled(tiny_svd):
    pipe = quiet(StableVideoDiffusionLedTransPipeline(**tiny_svd.components))
    lead = torch.rand(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    decoded = pipe.encode_frames(lead)

    def distance(**options):
        options |= {"num_inference_steps": 10, "repeats": 0, "output_type": "latent"}
        out = pipe(lead[:, 0], lead[:, -1], generator=torch.Generator().manual_seed(1), **options)
        return (out.frames - decoded)[:, 1:-1].abs().mean()

    near, half, free = distance(lead=lead, lead_strength=0.1), distance(lead=lead, lead_strength=0.6), distance()
    assert near < half < free
    assert distance(lead=lead, lead_strength=1.0) == free
    with pytest.raises(ValueError, match="lead_strength"):
        distance(lead=lead, lead_strength=0.0)


def test_sides_suit_both_bases():
    image, video = Layout(multiple=64, side=512, num_frames=None), Layout(multiple=48, side=576, num_frames=25)
    assert choose_size((512, 512), image, video) == (576, 576)
    assert choose_size((100, 200), image, video, height=192) == (192, 384)
