"""Objects found by colour, and the scores of their paths, on rendered truth and on cases of known value."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.color_finder import GAMMA, find_objects
from benchmarks.drag_scenes import LONGEST, SHORTEST, DragScenes, find_drag
from benchmarks.trajectory_methods import warp_along
from benchmarks.trajectory_score import hold, obtained_paths, score, summarize
from utils.scenes import COLORS, WALLS, render, sample_clip
from utils.video import to_pixels

SEED, F, SIZE = 2_000_000, 6, 64


@pytest.fixture(scope="module")
def drags():
    """A scene of each number of points."""
    return [find_drag(range(SEED + 1000 * n, SEED + 1000 * n + 200), n, F, SIZE) for n in (1, 2, 3)]


def test_objects_of_rendered_scenes_are_where_their_labels_are():
    errors = []
    for seed in range(SEED, SEED + 30):
        scene = sample_clip(seed, 4).scene
        colors = [solid.color for solid in scene.objects]
        if len(set(colors)) < len(colors):
            continue
        rendering = render(scene, SIZE)
        found = find_objects(to_pixels(rendering.image[None]), colors, scene.floor, scene.wall)
        for k in range(len(colors)):
            rows, columns = np.nonzero(rendering.labels == k)
            errors.append(np.hypot(*(found.places[0, k].numpy() - (columns.mean(), rows.mean()))))
    assert len(errors) > 20
    assert np.mean(errors) < 0.5 and np.max(errors) < 3


def test_darker_and_noisy_images_have_their_objects_at_the_same_places(drags):
    scene = drags[1]
    world = scene.colors, scene.floor, scene.wall
    wanted = find_objects(scene.pixels, *world).places
    noise = torch.randn(scene.pixels.shape, generator=torch.Generator().manual_seed(0)) * 0.06
    assert (find_objects(scene.pixels + noise, *world).places - wanted).norm(dim=-1).mean() < 1
    darker = (scene.pixels + 1) * 0.75 - 1
    assert (find_objects(darker, *world).places - wanted).norm(dim=-1).mean() < 1


def test_a_seam_between_two_colors_is_no_third_object():
    """Half purple and half beige is nearly pink."""
    linear = torch.tensor(WALLS["beige"])[:, None, None].repeat(1, SIZE, SIZE)
    linear[:, 20:40, 10:30] = torch.tensor(COLORS["purple"])[:, None, None]
    linear[:, 20:40, 50:56] = torch.tensor(COLORS["pink"])[:, None, None]
    linear[:, 20:40, 30:32] = (linear[:, 20:40, 5:7] * 0.4 + linear[:, 20:40, 20:22] * 0.8).clamp(max=1)
    video = (linear ** (1 / GAMMA))[None] * 2 - 1
    found = find_objects(video, ["purple", "pink"], "brown", "beige")
    assert torch.allclose(found.places[0, 1], torch.tensor([52.5, 29.5]), atol=0.1)


def test_what_is_wanted_is_a_true_motion_of_the_length_asked(drags):
    for number, scene in enumerate(drags, start=1):
        assert scene.points.shape == (F, number, 2) and len(scene.dragged) == number
        assert len(set(scene.colors)) == len(scene.colors)
        lengths = np.linalg.norm(scene.points[-1] - scene.points[0], axis=-1)
        assert (lengths >= SHORTEST).all() and (lengths <= LONGEST).all()
        assert (scene.points > 0).all() and (scene.points < SIZE - 1).all()


def test_true_videos_have_nearly_no_error_and_still_ones_the_distance_asked(drags):
    for scene in drags:
        true, still = score(scene.pixels, scene), score(scene.pixels[:1].expand(F, -1, -1, -1), scene)
        assert max(true["lost"]) == 0
        assert np.mean(np.array(true["error"]) / true["asked"]) < 0.05
        assert still["end_error"] == pytest.approx(still["asked"], abs=1e-3)
        assert still["undragged"] == pytest.approx([0.0] * len(still["undragged"]), abs=1e-3)


def test_a_lost_object_scores_the_distance_asked(drags):
    scene = drags[0]
    video = scene.pixels.clone()
    video[2:] = 0.0
    found = score(video, scene)
    assert found["lost"] == pytest.approx([(F - 2) / (F - 1)])
    assert found["end_error"] == found["asked"]


def test_an_object_that_is_not_dragged_and_vanishes_stays_where_it_was_last_seen(drags):
    scene = next(scene for scene in drags if len(scene.dragged) < len(scene.colors))
    before = score(scene.pixels, scene)
    gone = torch.cat([scene.pixels[:-1], torch.full_like(scene.pixels[:1], -1)])
    found = score(gone, scene)
    assert found["undragged_lost"] == pytest.approx([1 / (F - 1)] * len(found["undragged"]))
    assert np.isfinite(found["undragged"]).all() and np.isfinite(before["undragged"]).all()
    paths = torch.tensor([[0.0, 0], [1, 2], [torch.nan, 7], [3, 4]])[:, None]
    lost = torch.tensor([False, False, True, False])[:, None]
    assert hold(paths, lost)[:, 0].tolist() == [[0, 0], [1, 2], [1, 2], [3, 4]]


def test_the_obtained_path_begins_at_the_point(drags):
    for scene in drags:
        _, lost, path = obtained_paths(scene.pixels, scene)
        assert torch.equal(path[0], torch.from_numpy(scene.points[0]))
        assert not lost[:, list(scene.dragged)].any()


def test_an_image_warped_along_the_flow_carries_its_points(drags):
    scene = drags[0]
    moved, still = warp_along(scene.pixels[0], scene.tracks), scene.pixels[:1].expand(F, -1, -1, -1)
    assert torch.equal(moved[0], scene.pixels[0])
    assert score(moved, scene)["error"][0] < 0.6 * score(still, scene)["error"][0]


def test_scenes_are_kept_and_read_again(tmp_path):
    first = DragScenes(str(tmp_path), SEED, 4, 32).scene(1)
    again = DragScenes(str(tmp_path), SEED, 4, 32).scene(1)
    assert first.points.shape[1] == 2
    assert (first.video == again.video).all() and (first.points == again.points).all()
    assert replace(first, video=None, points=None) == replace(again, video=None, points=None)


def test_figures_are_means_over_points_and_truth_is_what_others_are_compared_with():
    row = {
        "error": [1.0, 3.0], "end_error": [2.0, 6.0], "asked": [10.0, 20.0], "lost": [0.0, 0.5], "undragged": [1.0],
        "undragged_lost": [0.0], "motion": 1.0, "features": [0.0, 1.0],
    }  # fmt: skip
    other = row | {
        "error": [5.0],
        "end_error": [5.0],
        "asked": [20.0],
        "lost": [0.0],
        "undragged": [],
        "undragged_lost": [],
    }
    other["features"] = [1.0, 0.0]
    sample = row | {"undragged": [3.0], "motion": 2.0}
    found = summarize({"truth": [row, other], "none": [sample, other | {"motion": 2.0}]})
    assert found["truth"]["error"].mean == 3.0
    assert found["truth"]["error_share"].mean == pytest.approx((0.1 + 0.15 + 0.25) / 3)
    assert found["truth"]["error_p90"].mean == pytest.approx(np.percentile([1, 3, 5], 90))
    assert found["none"]["undragged_more_than_truth"].mean == 2.0
    assert found["none"]["motion_ratio"].mean == 2.0
    assert found["none"]["fvd"].mean == pytest.approx(0.0, abs=1e-6)
