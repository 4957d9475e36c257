"""Pages on tiny random models, each module on a server of its own, and a browser."""

import argparse
import shutil

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def open_pages():
    """Serves pages on a free port of this machine until the module's tests have ended, and returns the address."""
    from gradios.frame import add_server_arguments, serve

    opened = []

    def open_them(*pages, flags=()):
        parser = argparse.ArgumentParser()
        add_server_arguments(parser)
        opened.append(serve(pages, parser.parse_args(["--device", "cpu", *flags]), wait=False))
        return opened[-1].local_url

    yield open_them
    for blocks in opened:
        blocks.close(verbose=False)


@pytest.fixture(scope="session")
def chromium():
    """Debian's Chromium, driven by Playwright."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed, which the tests of the pages in a browser need"
    )
    path = shutil.which("chromium") or shutil.which("chromium-headless-shell")
    if path is None:
        pytest.skip("there is no chromium for the tests of the pages in a browser: apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """Opens an address as a new visitor and returns the page, ready for use; errors of its scripts fail the test."""
    contexts, errors = [], []

    def open_it(url, width=1280, height=1300, theme="light"):
        contexts.append(chromium.new_context(viewport={"width": width, "height": height}, color_scheme=theme))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        page.locator(".duet-chips button:visible").first.wait_for()
        page.wait_for_timeout(500)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert not errors, errors


@pytest.fixture
def enter():
    """enter(page, label, value): type a number as a visitor does, and see that the page has kept it."""

    def type_it(page, label, value):
        from playwright.sync_api import expect

        box = page.get_by_label(label, exact=False).first
        box.wait_for()
        page.wait_for_timeout(300)  # a part that unfolds is drawn anew with the values of before
        box.fill(value)
        box.press("Tab")
        expect(box).to_have_value(value)
        page.wait_for_timeout(300)
        expect(box).to_have_value(value)

    return type_it


@pytest.fixture(scope="session")
def video_models(tmp_path_factory):
    """model, adapter and controlnet: a tiny base of videos, its joint adapter of flow, its ControlNet of tracks."""
    from tests.tiny_video_pipeline import save_controlnet, save_flow_adapter, save_tiny_base

    folder = tmp_path_factory.mktemp("video_models")
    save_tiny_base(folder / "model")
    save_flow_adapter(folder / "adapter")
    save_controlnet(folder / "controlnet")
    return folder


@pytest.fixture
def image_file(tmp_path):
    """A random image of 32x32."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return str(tmp_path / "image.png")
