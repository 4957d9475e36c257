"""The page of dragged points: by clients, and in a browser."""

import json

import pytest
from gradio_client import Client, handle_file

from gradios import gradio_trajectory
from gradios.drags_sampling import Weights
from run_models.run_trajectory import main
from tests.gradios.requests import arguments, ask, unpack
from utils.tracks.files import read_track_file
from utils.video import index_frames

F = 4  # frames of the tiny model


@pytest.fixture(scope="module")
def url(open_pages, video_models):
    weights = Weights(*(str(video_models / name) for name in ("model", "controlnet", "adapter")))
    return open_pages(gradio_trajectory.page(weights))


@pytest.fixture(scope="module")
def client(url):
    return Client(url, verbose=False)


@pytest.fixture
def sample(client, image_file):
    def call(**values):
        return client.predict(**ask("trajectory", **{"image": handle_file(image_file)} | values))

    return call


@pytest.mark.parametrize("method", ["controlnet", "coarse"])
def test_the_command_of_a_download_makes_the_same_video(sample, tmp_path, monkeypatch, video_models, method):
    record = unpack(sample(method=method, seed=5)[4], tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    main(arguments(record, {path.name: path for path in video_models.iterdir()}))
    for name in ("tracks.png", "flow_000.flo", "flow.png"):  # encoders of H.264 may differ in a bit
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "run/again" / name).read_bytes(), name
    for secret in (str(tmp_path), str(video_models)):
        assert secret not in (tmp_path / "run/run.json").read_text()


def test_the_videos_that_come_back_play_all_frames(sample):
    paths, video, flow = (value["video"] if isinstance(value, dict) else value for value in sample()[:3])
    assert [len(index_frames(path)) for path in (paths, video, flow)] == [F, F, F - 1]


MANY = json.dumps({"tracks": [[[8, 8], [9, 9]]] * 1000})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"tracks": '{"tracks": [[[800, 8], [9, 9]]]}'}, "outside of the image|outside"),
        ({"tracks": MANY}, "There are 1000 tracks: a page takes 64 at most."),
        ({"tracks": "no json"}, "The tracks are no JSON"),
        ({"tracks": '{"tracks": [[["x", 8], [9, 9]]]}'}, "is to be a list of lists of 2 numbers"),
        ({"tracks": "{}"}, "asks for nothing"),
        ({"image": None}, "There is no first frame"),
        ({"method": "magic"}, "not in the list of choices|method 'magic' is not allowed"),
        ({"tracks": '{"tracks": [[[1, 1], [1e30, 9]]]}', "method": "coarse"}, "far outside"),
        ({"tracks": '{"tracks": 5}'}, "The tracks are no list: see docs/trajectory.md"),
        ({"tracks": '{"static_points": {"x": 1}}'}, "The static_points are no list"),
        ({"tracks": {"tracks": []}}, "The tracks are no text of JSON"),
    ],
)
def test_what_cannot_be_sampled_is_one_sentence_without_a_path(sample, values, sentence, tmp_path):
    with pytest.raises(Exception, match=sentence) as failed:
        sample(**values)
    assert "/tmp" not in str(failed.value) and str(tmp_path) not in str(failed.value)


def drag(page, start, end):
    """Along a line, in shares of the surface."""
    box = page.locator(".track-pad canvas").bounding_box()
    (x0, y0), (x1, y1) = ((box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end))
    page.mouse.move(x0, y0)
    page.mouse.down()
    page.mouse.move(x1, y1, steps=5)
    page.mouse.up()


@pytest.fixture
def drawn(url, visit, image_file):
    """A visitor with an image on the pad."""
    page = visit(url)
    page.locator("input[type=file][accept*=image]").first.set_input_files(image_file)
    page.get_by_text("Nothing is drawn yet").wait_for()
    page.locator(".track-pad canvas").scroll_into_view_if_needed()
    return page


def saved(page, tmp_path):
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save the tracks").click()
    path = tmp_path / "saved.json"
    waiting.value.save_as(path)
    return path


def test_paths_points_and_regions_are_drawn_undone_and_saved(drawn, tmp_path):
    drag(drawn, (0.25, 0.25), (0.6, 0.25))
    drag(drawn, (0.25, 0.75), (0.5, 0.5))
    drawn.get_by_text("2 paths", exact=True).wait_for()
    drawn.get_by_role("button", name="Undo").click()
    drawn.get_by_role("button", name="Keep a point").click()
    drag(drawn, (0.9, 0.9), (0.9, 0.9))
    drawn.get_by_role("button", name="Brush what stays").click()
    drag(drawn, (0.1, 0.8), (0.3, 0.8))
    drawn.get_by_text("1 path, 1 kept point, 1 kept region").wait_for()
    drawn.wait_for_timeout(300)
    file = read_track_file(saved(drawn, tmp_path), 32, 32)
    assert len(file.tracks) == 1 and len(file.static_points) == 1 and len(file.static_regions) >= 1
    start, end = file.tracks[0][0].tolist(), file.tracks[0][-1].tolist()
    assert start == pytest.approx([7.5, 7.5], abs=0.1) and end == pytest.approx([18.7, 7.5], abs=0.1), "sub-pixel"


def test_a_drag_becomes_a_video_in_the_page(drawn, enter):
    drag(drawn, (0.25, 0.25), (0.5, 0.25))
    drawn.get_by_role("button", name="More settings").click()
    enter(drawn, "number input for Denoising steps", "1")
    drawn.get_by_role("button", name="Sample the video").click()
    drawn.locator(".duet-done", has_text="1 dragged point").wait_for()
    drawn.wait_for_function("[...document.querySelectorAll('video')].filter((one) => one.videoWidth).length >= 3")


def test_tracks_are_drawn_by_keyboard_and_opened_from_a_file(drawn, tmp_path):
    pad = drawn.locator(".track-pad canvas")
    for key in ("Enter", "ArrowRight", "ArrowRight", "ArrowDown", "Enter", "ArrowLeft", " "):
        pad.press(key)
    drawn.get_by_text("1 path, 1 kept point").wait_for()
    (tmp_path / "t.json").write_text(
        '{"tracks": [[[4, 4], [8, 8]], [[9, 4], [9, 8]]], "camera": {"preset": "zoom_in", "speed": 1.02}}'
    )
    drawn.locator("input[type=file][accept*=json]").first.set_input_files(str(tmp_path / "t.json"))
    drawn.get_by_text("2 paths", exact=True).wait_for()
    assert drawn.get_by_label("Camera").input_value() == "zoom in"
