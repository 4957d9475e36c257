import pytest

from tests.tiny_video_pipeline import save_tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Folder of a tiny Stable Video Diffusion with a map of motion buckets."""
    return save_tiny_base(tmp_path_factory.mktemp("base"))
