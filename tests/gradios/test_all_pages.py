"""All pages on one server: one model at a time, each visitor alone, and nothing but the pages."""

import os
import re
import shlex
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from gradios import __main__ as all_pages
from gradios.flow_sampling import Asked, Weights, check_flows
from gradios.frame import is_local, read_auth, warning
from gradios.gradio_flow_video import show_inputs
from gradios.running import Reporter
from gradios.slot import Slot
from run_models import run_flow_video, run_keyframe_edit, run_svd_trans
from tests.gradios.requests import arguments, ask, unpack
from utils.flow.files import read_flo, write_flo
from utils.video import write_video


@pytest.fixture(scope="module")
def url(open_pages, folders, video_models):
    flags = f"--pretrained_model_name_or_path {folders.model} --image_adapter {folders.adapters / 'depth.safetensors'} "
    flags += f"--model_dir {video_models / 'model'} --flow_adapter {video_models / 'adapter'} "
    flags += f"--controlnet {video_models / 'controlnet'} --trans_adapter="
    return open_pages(*all_pages.pages(all_pages.parser().parse_args(shlex.split(flags))))


@pytest.fixture(scope="module")
def client(url):
    return Client(url, verbose=False)


def run_again(main, archive, folder, monkeypatch, video_models):
    record = unpack(archive, folder)
    monkeypatch.chdir(folder)
    main(arguments(record, {path.name: path for path in video_models.iterdir()}))


def test_the_names_that_clients_call_stay(client):
    names = set(client.view_api(return_format="dict")["named_endpoints"])
    pages = {"depth_image", "depth_video", "trajectory", "flow_video", "interpolation", "keyframe_edit"}
    assert names >= {f"/{name}" for name in pages} | {f"/stop_{name}" for name in pages}


def test_video_and_flow_are_made_again_by_the_command(client, image_file, tmp_path, monkeypatch, video_models):
    archive = client.predict(**ask("flow_video", image=handle_file(image_file), seed=2))[3]
    run_again(run_flow_video.main, archive, tmp_path / "run", monkeypatch, video_models)
    flows = [read_flo(tmp_path / "run" / place / "flow_000.flo") for place in (".", "again")]
    assert np.array_equal(*flows)


def test_flow_that_is_sent_reaches_the_video(client, image_file, tmp_path):
    flow = np.ones((2, 32, 32), np.float32)
    write_flo(tmp_path / "a.flo", flow)
    sent = {"image": handle_file(image_file), "flows": [handle_file(str(tmp_path / "a.flo"))], "mode": "flow_to_video"}
    unpack(client.predict(**ask("flow_video", **sent))[3], tmp_path / "run")
    assert np.array_equal(read_flo(tmp_path / "run/flow_000.flo"), flow)


def test_files_of_flow_come_in_natural_order_and_are_of_one_kind():
    assert check_flows(["flow_1.flo", "flow_10.flo", "flow_2.FLO"]) == ("flow_1.flo", "flow_2.FLO", "flow_10.flo")
    with pytest.raises(ValueError, match="of the kinds .flo and .npy: send those of one kind"):
        check_flows(["a.flo", "b.npy"])


def test_the_flow_of_a_video_that_is_sent_is_made_again_by_the_command(client, tmp_path, monkeypatch, video_models):
    write_video(tmp_path / "clip.mp4", np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8), 7)
    sent = {"mode": "video_to_flow", "video": handle_file(str(tmp_path / "clip.mp4"))}
    archive = client.predict(**ask("flow_video", **sent))[3]
    run_again(run_flow_video.main, archive, tmp_path / "run", monkeypatch, video_models)
    flows = [read_flo(tmp_path / "run" / place / "flow_000.flo") for place in (".", "again")]
    assert np.array_equal(*flows)


def test_flow_of_a_video_is_estimated_without_settings_of_sampling():
    settings = {"num_inference_steps": 9, "max_guidance_scale": 2, "motion_bucket_id": 3, "fps": 7, "seed": 1}
    asked = Asked("video_to_flow", None, (), "clip.mp4", 0.6, settings | {"num_frames": 0})
    assert asked.flags(Weights("base"), {}) == ["--mode=video_to_flow", "--model_dir=base", "--fps=7.0"]
    assert asked.unread(Weights("base", os.path.relpath(run_flow_video.ADAPTER))) == asked.unread(Weights("base"))
    sampled = asked.flags(Weights("base", "adapter"), {})
    assert {"--adapter=adapter", "--num_inference_steps=9", "--seed=1"} < set(sampled)


def test_what_is_not_read_is_hidden():
    own = run_flow_video.ADAPTER
    seen = [[part["visible"] for part in show_inputs(own, *asked)] for asked in (("joint", ""), ("video_to_flow", ""))]
    assert seen == [[True, False, False, False, True, True, True, True], [False, False, True, *[False] * 5]]
    assert [part["visible"] for part in show_inputs(own, "video_to_flow", "another")][-3:] == [True] * 3


def test_frames_between_two_are_made_again_by_the_command(client, image_file, tmp_path, monkeypatch, video_models):
    archive = client.predict(**ask("interpolation", first=handle_file(image_file), last=handle_file(image_file)))[2]
    run_again(run_svd_trans.main, archive, tmp_path / "run", monkeypatch, video_models)
    sheets = [np.asarray(Image.open(tmp_path / "run" / place / "frames.png")) for place in (".", "again")]
    assert np.array_equal(*sheets)


def test_an_edit_is_made_again_by_the_command(client, tmp_path, monkeypatch, video_models, folders):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "clip.mp4", pixels, 7)
    sent = {"video": handle_file(str(tmp_path / "clip.mp4"))}
    record = unpack(client.predict(**ask("keyframe_edit", **sent))[3], tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    words = arguments(record, {"model": video_models / "model"})
    words = [f"--image_model={folders.model}" if word.startswith("--image_model=") else word for word in words]
    run_keyframe_edit.main(words)
    sheets = [np.asarray(Image.open(tmp_path / "run" / place / "frames.png")) for place in (".", "again")]
    assert np.array_equal(*sheets)


@pytest.mark.parametrize(
    ("page", "values", "sentence"),
    [
        ("flow_video", {}, "This way of sampling needs a first frame"),
        ("flow_video", {"mode": "video_to_flow"}, "This way of sampling needs a video"),
        ("interpolation", {}, "A first and a last frame are needed"),
        ("keyframe_edit", {}, "There is no video"),
        ("depth_video", {}, "There is no video"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(client, page, values, sentence):
    with pytest.raises(Exception, match=sentence):
        client.predict(**ask(page, **values))


@pytest.mark.parametrize("path", ["README.md", "/etc/passwd", "pyproject.toml", ".git/config"])
def test_files_of_the_machine_are_not_served(url, path):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{url}gradio_api/file={path}")
    assert refused.value.code in (403, 404)


def parsed(*flags):
    return all_pages.parser().parse_args(list(flags))


def test_opening_up_is_warned_of_and_takes_the_choice_of_weights_away(capsys):
    assert is_local(parsed()) and not is_local(parsed("--share")) and not is_local(parsed("--server_name", "0.0.0.0"))
    said = warning(parsed("--server_name", "0.0.0.0"), asked=False)
    assert "every machine that reaches 0.0.0.0 can sample" in said and "--auth" in said
    assert "knows the password" in warning(parsed("--share"), asked=True)
    assert read_auth("me:a:b") == ("me", "a:b")
    with pytest.raises(ValueError, match="--auth takes USER:PASSWORD"):
        read_auth("me")


def test_a_slot_holds_one_model_and_loads_it_once():
    loaded, slot = [], Slot()

    def load(name):
        loaded.append(name)
        return name

    for name in ("a", "a", "b", "a"):
        with slot.using(load, name) as model:
            assert model == name
    assert loaded == ["a", "b", "a"]


@pytest.fixture
def slow_steps(monkeypatch):
    report = Reporter.__call__
    monkeypatch.setattr(Reporter, "__call__", lambda *args: time.sleep(0.2) or report(*args))


def wait_until(so):
    end = time.monotonic() + 60
    while not so():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_clients_stop_what_samples_and_what_waits(url, client, slow_steps):
    slow, other = ask("depth_image", num_inference_steps=100), Client(url, verbose=False)
    sampling = client.submit(**slow)
    wait_until(lambda: any("step" in str(out[-1]) for out in sampling.outputs()))
    waiting = other.submit(**slow)
    wait_until(waiting.outputs)
    other.predict(api_name="/stop_depth_image")
    assert "Stopped." in waiting.result(60)[-1]
    assert not sampling.done()
    client.predict(api_name="/stop_depth_image")
    assert "Stopped." in sampling.result(60)[-1]


LATE_CANCEL = """() => {  // what a page has Gradio cancel arrives when the test says so
    const fetched = window.fetch, said = new Promise((then) => { window.letCancelsThrough = then; });
    window.fetch = async (...given) => {
        if (String(given[0]).endsWith("/cancel")) await said;
        return fetched(...given);
    };
}"""


def test_a_visitor_stops_a_sampling_in_the_page_and_samples_again(url, visit, enter, slow_steps):
    page = visit(url)
    page.get_by_role("button", name="More settings").first.click()
    enter(page, "number input for Denoising steps", "100")
    page.evaluate(LATE_CANCEL)
    page.get_by_role("button", name="Sample the pair").click()
    page.locator(".duet-bar:visible").wait_for()
    page.get_by_role("button", name="Stop").first.click()
    page.get_by_text("Stopped.").first.wait_for()
    page.get_by_role("button", name="Sample the pair").click()
    page.locator(".duet-bar:visible").wait_for()
    page.evaluate("window.letCancelsThrough()")
    page.get_by_text(re.compile("step [1-9][0-9] of 100")).wait_for(timeout=60_000)  # it goes on
    page.get_by_role("button", name="Stop").first.click()
    page.get_by_text("Stopped.").first.wait_for()


def test_each_tab_opens_on_a_phone(url, visit):
    page = visit(url, width=390, height=844)
    for name in ("Dragged points", "Video and flow", "Frames between two", "Video edit"):
        if not page.get_by_role("tab", name=name).is_visible():
            page.locator(".overflow-menu button").first.click()
            page.locator(".overflow-dropdown button", has_text=name).first.click()
        else:
            page.get_by_role("tab", name=name).click()
        page.get_by_role("heading", name=name, level=1).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_visitors_of_an_open_server_name_no_weights():
    from gradios.desk import Desk
    from gradios.frame import make_blocks

    desk = Desk(choose_weights=False)
    blocks = make_blocks(all_pages.pages(parsed()), desk)
    boxes = [one for one in blocks.blocks.values() if "duet-weights" in (getattr(one, "elem_classes", None) or [])]
    assert len(boxes) >= 12 and not any(box.visible for box in boxes)
    assert desk.weights("own", "") == "own"
    with pytest.raises(ValueError, match="takes no other weights"):
        desk.weights("own", "/etc")
