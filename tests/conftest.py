"""What all tests share: offline, small, and the folder of fixtures that lie outside the repository."""

import os
from pathlib import Path

import pytest

# Set before any test imports a library that reads them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["TQDM_DISABLE"] = "1"
# The tests' models are so small that threads cost more than they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent


def _shared(name: str) -> Path:
    folder = Path(os.environ.get("DUET_SHARED", REPOSITORY.parent / "shared")) / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing; set DUET_SHARED to the folder that holds {name}")
    return folder


@pytest.fixture(autouse=True)
def unsaid():
    """Each test hears what is said once in a run."""
    from utils.messages import notices

    notices._said.clear()


@pytest.fixture
def shared_media() -> Path:
    """Folder of photographs and clips."""
    return _shared("media")


@pytest.fixture
def shared_reference() -> Path:
    """Folder of published checkpoints with outputs to match."""
    return _shared("reference")


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """model: a StableDiffusionPipeline folder. adapters: a folder with depth.safetensors and edge.safetensors."""
    from tests.tiny_pipeline import write_folders

    return write_folders(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tiny_svd():
    """A random StableVideoDiffusionPipeline."""
    from tests.tiny_video_pipeline import tiny_video_pipeline

    return tiny_video_pipeline()


@pytest.fixture(scope="session")
def svd_base(tmp_path_factory):
    """Folder of a random Stable Video Diffusion with a map of motion buckets."""
    from tests.tiny_video_pipeline import save_tiny_base

    return save_tiny_base(tmp_path_factory.mktemp("svd_base"))


@pytest.fixture(scope="session")
def judges_dir(tmp_path_factory):
    """Folder of small random judges."""
    import torch

    from utils.judges import AttributeJudge, DepthJudge, VideoJudge, save_judge

    folder, kinds = tmp_path_factory.mktemp("judges"), (VideoJudge, AttributeJudge, DepthJudge)
    torch.manual_seed(0)
    for name, kind in zip(("video", "attributes", "depth"), kinds, strict=True):
        save_judge(folder / f"{name}.safetensors", kind((8, 8, 8)))
    return folder


@pytest.fixture(scope="session")
def make_clips(tmp_path_factory):
    """Writes clips of the procedural world, by default 32x32, and returns their folder; flags of `write_clips`."""
    from tests.flags import flags
    from utils.scenes import write_clips

    def make(**values):
        folder = tmp_path_factory.mktemp("data") / "clips"
        write_clips.main(flags(output_dir=folder, **{"resolution": 32} | values))
        return folder

    return make
