"""The procedural world in motion: exact flow, occlusion and tracks, held against the rendered frames."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from utils.scenes import (
    Camera,
    CameraMotion,
    Clip,
    Scene,
    Solid,
    SolidMotion,
    clip_caption,
    render,
    render_clip,
    sample_clip,
    sample_scene,
)
from utils.scenes.clips import MAX_SPEED
from utils.scenes.render import FLOOR, WALL, camera_rays, pixel_rays, project

SIZE = 48
SOLID = Solid("sphere", "red", "", 0.6, 0.0, 4.0, 0.0)
SCENE = Scene((SOLID,), "gray", "white", 6.0, 0.0, (0.0, 1.0, 0.0), Camera(1.0, 0.2, 1.0), texture=0.3)
MOVES = {
    "solid": (SolidMotion(0.15, 0.05, spin=0.1), CameraMotion()),
    "pan": (SolidMotion(), CameraMotion(pan=0.05)),
    "truck": (SolidMotion(), CameraMotion(truck=0.15)),
    "dolly": (SolidMotion(), CameraMotion(dolly=0.25)),
    "all": (SolidMotion(-0.1, 0.0, bend=0.2, spin=-0.1), CameraMotion(0.03, 0.1, 0.1)),
}


def clip_of(name, scene=SCENE, num_frames=2):
    motion, camera_motion = MOVES[name]
    return Clip(scene, (motion,), camera_motion, num_frames)


def warp(image, flow):
    columns, rows = np.meshgrid(np.arange(SIZE, dtype=np.float32), np.arange(SIZE, dtype=np.float32))
    return cv2.remap(
        image.astype(np.float32), columns + flow[0], rows + flow[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


@pytest.mark.parametrize("name", MOVES)
def test_the_warped_next_frame_matches_where_visible(name):
    rendering = render_clip(clip_of(name), SIZE)
    seen = ~rendering.occluded[0]
    error = np.abs(warp(rendering.video[1], rendering.flow[0]) - rendering.video[0]).max(axis=-1)[seen]
    still = np.abs(rendering.video[1].astype(float) - rendering.video[0]).max(axis=-1)[seen]
    # Shadows and shading move over the material, and edges mix two surfaces: those pixels are few.
    assert (error < 12).mean() > 0.93
    assert error.mean() < 0.5 * still.mean()


@pytest.mark.parametrize("name", MOVES)
def test_the_warped_previous_frame_matches_where_visible(name):
    rendering = render_clip(clip_of(name), SIZE)
    seen = ~rendering.backward_occluded[0]
    error = np.abs(warp(rendering.video[0], rendering.backward_flow[0]) - rendering.video[1]).max(axis=-1)[seen]
    assert (error < 12).mean() > 0.93


def test_depth_along_the_flow_is_that_of_the_same_point():
    level = replace(SCENE, objects=(), camera=Camera(1.0, 0.0, 1.0))
    rendering = render_clip(Clip(level, (), CameraMotion(pan=0.05), 2), SIZE, num_tracks=0)
    inside = ~rendering.occluded[0] & (rendering.labels[0] == WALL)
    inside[[0, 1, *range(SIZE // 2, SIZE)]] = False  # beside the picture's edge and the floor, warping mixes in others
    turned = warp(rendering.depth[1], rendering.flow[0])
    columns = (np.arange(SIZE) + 0.5) / SIZE - 0.5
    expected = rendering.depth[0] * (np.cos(0.05) + columns[None] * np.sin(0.05))
    assert inside.sum() > 500
    np.testing.assert_allclose(turned[inside], expected[inside], rtol=2e-3)


def test_a_solid_that_slides_sideways_moves_by_focal_length_over_depth():
    level = replace(SCENE, camera=Camera(0.6, 0.0, 1.0))
    flow = render_clip(Clip(level, (SolidMotion(vx=0.1),), CameraMotion(), 2), 49).flow[0]
    nearest = 4.0 - SOLID.radius
    np.testing.assert_allclose(flow[:, 24, 24], (0.1 / nearest * 49, 0.0), atol=1e-4)


def test_forward_and_backward_flow_undo_each_other_where_visible():
    rendering = render_clip(clip_of("all"), SIZE)
    surface = ~rendering.occluded[0] & (rendering.labels[0] != FLOOR)
    back = np.stack([warp(part, rendering.flow[0]) for part in rendering.backward_flow[0]])
    assert np.median(np.abs(back + rendering.flow[0])[:, surface]) < 0.02


def test_still_worlds_have_no_flow_and_no_occlusion():
    rendering = render_clip(Clip(SCENE, (SolidMotion(),), CameraMotion(), 2), SIZE)
    assert np.abs(rendering.flow).max() < 1e-4
    assert not rendering.occluded.any()
    assert (rendering.video[0] == rendering.video[1]).all()


def test_what_a_solid_covers_next_is_occluded():
    rendering = render_clip(clip_of("solid"), SIZE)
    background = rendering.labels[0] < 0
    covered = background & (rendering.labels[1] == 0)
    assert covered.sum() > 10
    assert rendering.occluded[0][covered].mean() > 0.9
    assert rendering.occluded[0][background & ~covered].mean() < 0.02


def test_tracks_start_on_their_pixels_and_follow_the_flow():
    rendering = render_clip(clip_of("all", num_frames=3), SIZE)
    columns, rows = rendering.tracks[0].astype(int).T
    np.testing.assert_allclose(rendering.tracks[0], np.stack([columns, rows], axis=1), atol=1e-4)
    assert rendering.visible[0].all()
    step = rendering.tracks[1] - rendering.tracks[0]
    np.testing.assert_allclose(step, rendering.flow[0][:, rows, columns].T, atol=1e-3)
    assert (rendering.visible[1] == ~rendering.occluded[0][rows, columns]).all()


def test_projection_undoes_rays():
    camera = Camera(1.5, 0.3, 1.1, x=0.4, z=-0.2, yaw=0.25)
    pixels = np.array([[0.0, 0.0], [20.5, 3.25], [31.0, 31.0]])
    points = np.array([0.4, 1.5, -0.2]) + 3.0 * pixel_rays(camera, pixels, 32)
    back, depth = project(camera, points, 32)
    np.testing.assert_allclose(back, pixels, atol=1e-9)
    np.testing.assert_allclose(depth, 3.0)


def test_rays_of_pixels_are_those_that_are_rendered():
    camera = Camera(1.5, 0.3, 1.1, yaw=0.2)
    pixels = np.stack(np.meshgrid(np.arange(5), np.arange(5)), axis=-1).reshape(-1, 2)
    np.testing.assert_allclose(pixel_rays(camera, pixels, 5), camera_rays(camera, 5)[1])


def test_a_seed_gives_the_same_clip_and_starts_with_its_scene():
    assert sample_clip(7) == sample_clip(7)
    assert sample_clip(7) != sample_clip(8)
    assert sample_clip(7, texture=0).scene == sample_scene(7)


def test_frames_without_texture_are_those_of_render():
    clip = sample_clip(3, num_frames=2, texture=0)
    rendering = render_clip(clip, 24)
    assert (rendering.video[0] == render(sample_scene(3), 24).image).all()
    assert (rendering.video[1] == render(clip.at(1), 24).image).all()


def test_speeds_reach_from_standing_to_the_limit_and_most_are_slow():
    clips = [sample_clip(seed) for seed in range(60)]
    speeds = np.array(
        [
            np.hypot(motion.vx, motion.vz) / solid.z * clip.scene.camera.focal
            for clip in clips
            for motion, solid in zip(clip.motions, clip.scene.objects, strict=True)
        ]
    )
    assert (speeds == 0).any()
    assert speeds.max() <= MAX_SPEED + 1e-9
    assert np.quantile(speeds, 0.5) < 0.25 * MAX_SPEED < 0.5 * MAX_SPEED < speeds.max()
    assert {bool(clip.camera_motion.pan) for clip in clips} == {True, False}


@pytest.mark.parametrize(
    ("motion", "camera_motion", "expected"),
    [
        (SolidMotion(), CameraMotion(), "a red sphere stays on"),
        (SolidMotion(spin=0.1), CameraMotion(), "a red sphere spins on"),
        (SolidMotion(vx=-0.1), CameraMotion(), "a red sphere moves left on"),
        (SolidMotion(vz=0.1, spin=0.1), CameraMotion(), "a red sphere moves away on"),
        (SolidMotion(vz=-0.1), CameraMotion(), "a red sphere moves closer on"),
        (SolidMotion(vx=0.1, bend=0.5), CameraMotion(), "a red sphere circles on"),
        (SolidMotion(vx=0.1), CameraMotion(pan=-0.1), "white wall, camera pans left"),
        (SolidMotion(vx=0.1), CameraMotion(dolly=0.1), "white wall, camera moves forward"),
    ],
)
def test_captions_name_the_motion(motion, camera_motion, expected):
    assert expected in clip_caption(Clip(SCENE, (motion,), camera_motion, 16))


def test_the_named_direction_is_that_of_the_whole_path():
    motion = SolidMotion(vx=0.1, bend=0.15)
    clip = Clip(SCENE, (motion,), CameraMotion(), 16)
    end = motion.move(SOLID, 15)
    assert end.z - SOLID.z > abs(end.x - SOLID.x)
    assert "moves away" in clip_caption(clip)


def test_a_clip_of_one_frame_is_refused():
    with pytest.raises(ValueError, match="num_frames=1"):
        sample_clip(0, num_frames=1)


@pytest.mark.parametrize("camera", ["still", "pan", "truck", "dolly"])
def test_a_camera_that_is_asked_for_moves_alone_before_the_same_scene(camera):
    for seed in range(5):
        clip = sample_clip(seed, camera=camera)
        moving = {name for name, value in vars(clip.camera_motion).items() if value}
        assert moving == ({camera} - {"still"})
        assert clip.scene == sample_clip(seed).scene


def test_an_unknown_camera_is_refused():
    with pytest.raises(ValueError, match="'zoom'"):
        sample_clip(0, camera="zoom")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_clip_has_as_many_objects_as_asked_for_and_still_depends_on_its_seed(count):
    clips = [sample_clip(seed, 4, num_objects=count) for seed in (0, 1)]
    assert [len(clip.scene.objects) for clip in clips] == [count, count]
    assert clips[0] != clips[1]


def test_asking_for_the_number_that_a_seed_draws_changes_nothing():
    clip = sample_clip(3, 4)
    assert sample_clip(3, 4, num_objects=len(clip.scene.objects)) == clip


def test_other_numbers_of_objects_are_refused():
    with pytest.raises(ValueError, match="not num_objects=4"):
        sample_clip(0, num_objects=4)
