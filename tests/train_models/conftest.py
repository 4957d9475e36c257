"""Data and trainings that the tests of several scripts share."""

import pytest

from tests.flags import flags
from tests.small_trainings import IMAGE, VIDEO


def _given(values: dict) -> dict:
    return {name: value for name, value in values.items() if value is not None}


@pytest.fixture(scope="session")
def clips(make_clips):
    """Folder of 3 clips of 6 frames of 32x32 pixels, with flow and 8 tracks."""
    return make_clips(num_samples=3, num_frames=6, num_tracks=8)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """Folder of 8 scenes of 64x64 pixels, with depth."""
    from utils.scenes.write_dataset import write_dataset

    folder = tmp_path_factory.mktemp("data") / "scenes"
    write_dataset(folder, range(1_000_000, 1_000_008), 64)
    return folder


@pytest.fixture(scope="session")
def train(svd_base, clips):
    """train(script, output_dir, *flags, **values): two steps on the clips and a random base.

    Without a flag that is None.
    """

    def run(script, output_dir, *more, **values):
        known = {"pretrained_model_name_or_path": svd_base, "train_data_dir": clips, "output_dir": output_dir, **VIDEO}
        rank = {} if script.make_parser().get_default("rank") is None else {"rank": 2}
        script.main(flags(*more, **_given(known | rank | values)))

    return run


@pytest.fixture(scope="session")
def train_images(folders, scenes):
    """train_images(script, output_dir, *flags, **values): two steps on the scenes and a random base."""

    def run(script, output_dir, *more, **values):
        known = {"pretrained_model_name_or_path": folders.model, "train_data_dir": scenes, "output_dir": output_dir}
        script.main(flags(*more, **_given(known | IMAGE | values)))

    return run


@pytest.fixture(scope="session")
def svd_flow(train, tmp_path_factory):
    """Folder of a LoRA of flow."""
    from train_models import train_svd_flow

    folder = tmp_path_factory.mktemp("svd_flow")
    train(train_svd_flow, folder)
    return folder


@pytest.fixture(scope="session")
def flow_video(train, tmp_path_factory):
    """Folder of a joint adapter of video and flow, with a checkpoint of each step."""
    from train_models import train_flow_video

    folder = tmp_path_factory.mktemp("flow_video")
    train(train_flow_video, folder, checkpointing_steps=1)
    return folder
