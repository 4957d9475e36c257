"""The procedural world: deterministic, exact, and described by its captions."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from utils.depth import read_depth
from utils.scenes import COLORS, SHAPES, Camera, Scene, Solid, caption, render, sample_scene
from utils.scenes.geometry import intersect
from utils.scenes.render import FLOOR, WALL, camera_rays
from utils.scenes.write_dataset import main, write_dataset

LEVEL = Camera(height=1.0, pitch=0.0, focal=1.0)


def scene_of(*objects, camera=LEVEL, wall_yaw=0.0):
    return Scene(tuple(objects), "gray", "white", 6.0, wall_yaw, (0.0, 1.0, 0.0), camera)


def solid(shape, x=0.0, z=4.0, radius=1.0, yaw=0.0):
    return Solid(shape, "red", "", radius, x, z, yaw)


def test_a_seed_gives_the_same_scene_and_image():
    first, second = (render(sample_scene(7)) for _ in range(2))
    assert sample_scene(7) == sample_scene(7)
    assert (first.image == second.image).all()
    assert (first.depth == second.depth).all()
    assert sample_scene(7) != sample_scene(8)


@pytest.mark.parametrize(("shape", "nearest"), [("sphere", 3.0), ("cube", 3.0), ("cylinder", 3.0), ("cone", 3.5)])
def test_depth_of_a_solid_straight_ahead_is_its_distance(shape, nearest):
    depth = render(scene_of(solid(shape)), size=33).depth
    assert depth[16, 16] == pytest.approx(nearest, abs=1e-5)


def test_depth_of_floor_and_wall_follows_the_camera_model():
    rendering = render(scene_of(), size=33)
    assert rendering.depth[16, 16] == pytest.approx(6.0, abs=1e-5)
    down = (32 + 0.5) / 33 - 0.5
    assert rendering.labels[32, 16] == FLOOR
    assert rendering.labels[0, 16] == WALL
    assert rendering.depth[32, 16] == pytest.approx(1.0 / down, abs=1e-5)


def test_depth_is_measured_along_the_optical_axis_of_a_pitched_camera():
    pitch = 0.3
    camera = Camera(height=2.0, pitch=pitch, focal=1.0)
    depth = render(scene_of(camera=camera, wall_yaw=0.2), size=33).depth
    assert depth[16, 16] == pytest.approx(min(2.0 / math.sin(pitch), 6.0 / math.cos(pitch)), rel=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_normals_are_unit_vectors_that_face_the_ray(shape):
    origin, directions = camera_rays(Camera(1.8, 0.3, 1.0), 40)
    distance, normal = intersect(solid(shape, yaw=0.4), np.broadcast_to(origin, directions.shape), directions)
    hit = np.isfinite(distance)
    assert hit.sum() > 50
    np.testing.assert_allclose(np.linalg.norm(normal[hit], axis=1), 1, atol=1e-6)
    assert ((normal[hit] * directions[hit]).sum(axis=1) < 1e-6).all()


def test_a_nearer_solid_hides_a_farther_one():
    labels = render(scene_of(solid("sphere", z=3.0, radius=0.8), solid("cube", z=4.8, radius=0.8)), size=33).labels
    assert labels[16, 16] == 0


def test_solids_cast_shadows_on_the_floor():
    lit, shadowed = (render(scene_of(*objects, camera=Camera(2.0, 0.4, 1.0)), 32) for objects in ((), (solid("cone"),)))
    on_floor = (lit.labels == FLOOR) & (shadowed.labels == FLOOR)
    floating = Scene((), "gray", "white", 6.0, 0.0, (0.6, 0.8, 0.0), Camera(2.0, 0.4, 1.0))
    slanted = Scene((solid("cone"),), *list(vars(floating).values())[1:])
    darker = render(floating, 32).image.astype(int) - render(slanted, 32).image
    assert (darker[on_floor].max(axis=-1) > 30).any()


def test_objects_are_listed_from_left_to_right_and_can_be_seen():
    for seed in range(40):
        scene = sample_scene(seed)
        labels = render(scene).labels
        columns = [solid.x / solid.z for solid in scene.objects]
        assert columns == sorted(columns)
        assert all((labels == index).sum() >= 30 for index in range(len(scene.objects)))


def test_many_seeds_show_every_colour_shape_and_number_of_objects():
    scenes = [sample_scene(seed) for seed in range(150)]
    assert {s.color for scene in scenes for s in scene.objects} == set(COLORS)
    assert {s.shape for scene in scenes for s in scene.objects} == set(SHAPES)
    assert {len(scene.objects) for scene in scenes} == {1, 2, 3}


def test_the_caption_names_objects_in_order_with_floor_and_wall():
    objects = (
        Solid("cube", "orange", "", 0.6, -1.0, 4.0, 0.0),
        Solid("cone", "red", "small", 0.4, 0.0, 4.0, 0.0),
        Solid("sphere", "blue", "large", 0.8, 1.0, 4.0, 0.0),
    )
    expected = "an orange cube, a small red cone and a large blue sphere on a gray floor, white wall"
    assert caption(scene_of(*objects)) == expected
    assert caption(scene_of(objects[1])) == "a small red cone on a gray floor, white wall"


def test_a_written_data_set_holds_images_depth_and_captions(tmp_path):
    main(["--output_dir", str(tmp_path / "scenes"), "--num_samples", "3", "--seed", "5", "--resolution", "32"])
    rows = [json.loads(line) for line in (tmp_path / "scenes/metadata.jsonl").read_text().splitlines()]
    assert [row["seed"] for row in rows] == [5, 6, 7]
    rendering = render(sample_scene(6), 32)
    assert (np.asarray(Image.open(tmp_path / "scenes" / rows[1]["file_name"])) == rendering.image).all()
    np.testing.assert_allclose(read_depth(tmp_path / "scenes" / rows[1]["depth_file_name"]), rendering.depth, atol=6e-4)
    assert rows[1]["text"] == caption(sample_scene(6))
    for index, row in enumerate(rows[1]["objects"]):
        places = np.argwhere(rendering.labels == index).mean(axis=0) + 0.5
        assert row["center"] == pytest.approx((places[::-1] / 32).tolist(), abs=1e-4)


def test_an_existing_folder_is_not_overwritten(tmp_path):
    with pytest.raises(FileExistsError, match="choose another --output_dir"):
        write_dataset(tmp_path, range(1), 16)


def test_an_even_number_of_samples_is_refused():
    with pytest.raises(ValueError, match="samples=2 has to be odd"):
        render(sample_scene(0), samples=2)
