"""The page of images with their depth: by clients, and in a browser."""

import json
import os
import re
from urllib.request import urlopen

import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from gradios import gradio_depth_image
from gradios.pair_sampling import Weights
from run_models.run_depth_image import main
from tests.gradios.requests import arguments, ask, unpack
from utils.arguments import REPOSITORY
from utils.video import write_video

NAMELESS = """() => [...document.querySelectorAll("button, input, textarea, canvas, select")]
    .filter((one) => one.offsetParent && one.type !== "file")
    .filter((one) => !(one.ariaLabel || one.innerText.trim() || one.title || (one.labels && one.labels.length)))
    .map((one) => one.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def url(open_pages, folders):
    adapters = tuple(str(folders.adapters / f"{name}.safetensors") for name in ("depth", "edge"))
    return open_pages(gradio_depth_image.page(Weights(str(folders.model), adapters, str(folders.estimator))))


@pytest.fixture(scope="module")
def client(url):
    return Client(url, verbose=False)


@pytest.fixture
def image(image_file):
    return handle_file(image_file)


def sample(client, **values):
    return client.predict(**ask("depth_image", **values))


def pixels(path):
    return np.asarray(Image.open(path))


def test_the_command_of_a_download_makes_the_same_pair(client, image, tmp_path, monkeypatch, folders):
    archive = sample(client, image=image, seed=3)[3]
    record = unpack(archive, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    files = {f"{name}.safetensors": folders.adapters / f"{name}.safetensors" for name in ("depth", "edge")}
    main(arguments(record, {"model": folders.model} | files))
    for name in record["files"]:
        assert np.array_equal(pixels(tmp_path / "run" / name), pixels(tmp_path / "run" / "again" / name)), name


def test_both_strengths_reach_the_sampling(client, image):
    kept = sample(client, image=image, image_strength=0)[0][0]
    changed = sample(client, image=image, image_strength=0.6)[0][0]
    assert not np.array_equal(pixels(kept), pixels(changed))


def test_no_path_of_the_machine_is_in_an_answer(client, image, tmp_path, url):
    record = json.dumps(unpack(sample(client, image=image)[3], tmp_path / "run"))
    config = urlopen(f"{url}config").read().decode()
    for text in (record, config):
        for secret in (str(REPOSITORY), str(tmp_path.parent.parent), os.path.expanduser("~") + "/"):
            assert secret not in text


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"pairs": 100}, "Value 100 is greater than maximum value 4."),
        ({"seed": -1}, "Value -1 is less than minimum value 0."),
        ({"prompt": "x" * 5000}, "prompt has 5000 characters: shorten it to 1000."),
        ({"base": "/etc"}, "etc is a folder without a model; a Stable Diffusion base is needed"),
    ],
)
def test_what_cannot_be_sampled_is_one_sentence(client, values, sentence):
    with pytest.raises(Exception, match="^" + re.escape(sentence)):
        sample(client, **values)


@pytest.fixture
def text_file(tmp_path):
    (tmp_path / "letter.png").write_text("no image")
    return tmp_path / "letter.png"


def test_an_image_is_looked_at_on_the_server(client, text_file, tmp_path):
    Image.new("L", (20_000, 10)).save(tmp_path / "wide.png")
    for path, sentence in (
        (text_file, "Image cannot be read as an image: its format is not known"),
        (tmp_path / "wide.png", "Image has 20000x10 pixels: send one of at most 8192 a side."),
    ):
        with pytest.raises(Exception, match=sentence):
            sample(client, image=handle_file(str(path)))


@pytest.fixture
def send_clip(client, tmp_path):
    """send_clip(frames, height, width, **values): the depth of a video of random frames."""

    def send(frames=5, height=32, width=32, **values):
        shape = frames, height, width, 3
        write_video(tmp_path / "clip.mp4", np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), 7)
        return client.predict(**ask("depth_video", video=handle_file(str(tmp_path / "clip.mp4")), **values))

    return send


def test_the_command_of_a_download_makes_the_same_depth_of_a_video(send_clip, tmp_path, monkeypatch, folders):
    record = unpack(send_clip()[2], tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    main(arguments(record, {"model": folders.model, "estimator": folders.estimator}))
    for number in range(5):
        name = f"depth_{number:03}_16bit.png"
        assert np.array_equal(pixels(tmp_path / "run" / name), pixels(tmp_path / "run" / "again" / name)), name


def test_a_video_is_looked_at_on_the_server(client, send_clip, text_file):
    for values, sentence in (
        ({"frames": 65}, "The video has 65 frames: send one of at most 64."),
        ({"frames": 1, "width": 2064}, "The video has 2064x32 pixels: send one of at most 2048 a side."),
        ({"estimator": "/etc"}, "etc is a folder without a model; an adapter of train_depth_image.py is needed"),
    ):
        with pytest.raises(Exception, match="^" + re.escape(sentence)):
            send_clip(**values)
    film = text_file.rename(text_file.with_suffix(".mp4"))
    with pytest.raises(Exception, match="^The video "):
        client.predict(**ask("depth_video", video=handle_file(str(film))))


def test_a_visitor_sees_the_depth_of_a_video(url, visit):
    page = visit(url)
    page.get_by_role("tab", name="Depth of a video").click()
    page.get_by_role("button", name="Depth of a clip").click()
    said = page.locator(".duet-done:visible", has_text="Depth of 8 frames")
    said.wait_for(timeout=60_000)
    assert "from frame to frame" in said.inner_text()
    page.wait_for_function("[...document.querySelectorAll('video')].some((one) => one.videoWidth > one.videoHeight)")


def test_a_visitor_samples_and_sees_the_pair(url, visit, enter):
    from playwright.sync_api import expect

    page = visit(url)
    page.get_by_role("button", name="More settings").click()
    enter(page, "number input for Denoising steps", "2")
    page.get_by_role("button", name="Sample the pair").click()
    page.locator(".duet-done").wait_for()
    page.locator("canvas[data-triangles]").wait_for()
    expect(page.get_by_role("button", name="Download everything")).to_be_enabled()
    assert page.locator(".duet-pixels img").count() >= 2
    before = page.locator("canvas[data-triangles]").screenshot()
    page.locator("canvas[data-triangles]").press("ArrowRight")
    assert page.locator("canvas[data-triangles]").screenshot() != before, "the keyboard turns the view"


def test_a_wrong_file_is_one_sentence_in_the_page(url, visit, text_file):
    page = visit(url)
    page.locator("input[type=file]").first.set_input_files(str(text_file))
    page.wait_for_timeout(700)
    page.get_by_role("button", name="Sample the pair").click()
    said = page.get_by_role("alert").filter(has_text="cannot be read as an image")
    said.wait_for()
    assert "/" not in said.inner_text()


def test_visitors_get_their_own_results(url, visit, enter):
    pages = [visit(url), visit(url)]
    for page, seed in zip(pages, ("3", "4"), strict=True):
        page.get_by_role("button", name="More settings").click()
        enter(page, "number input for Denoising steps", "2")
        enter(page, "Seed", seed)
    pages[0].get_by_role("button", name="Sample the pair").click()
    pages[1].get_by_label("Prompt", exact=True).press("Shift+Enter")
    for page, seed in zip(pages, ("3", "4"), strict=True):
        page.locator(".duet-done", has_text=f"seed {seed},").wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_all_of_the_page_in_both_themes(url, visit, theme):
    page = visit(url, width=390, height=844, theme=theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.body.classList.contains('dark')") == (theme == "dark")
    page.get_by_role("button", name="Switch between light and dark").click()
    assert page.evaluate("document.body.classList.contains('dark')") == (theme == "light")


def test_every_control_has_a_name(url, visit):
    page = visit(url)
    nameless = page.evaluate(NAMELESS)
    assert not nameless
