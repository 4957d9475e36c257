import pytest

from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.motion_helper import PROCEDURAL


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Folder of a tiny Stable Video Diffusion with a map of motion buckets."""
    folder = tmp_path_factory.mktemp("base")
    tiny_video_pipeline().save_pretrained(folder)
    PROCEDURAL.save(folder)
    return folder
