"""What the tests of the commands share: a tiny base with an adapter of each kind, an image, a drag."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import patch
from models.svd_controlnet import ControlNetSVD
from run_models import run_depth_image
from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.flow.code import FlowCode
from utils.tracks.control_map import CONTROL_CHANNELS
from utils.weights.lora import add_lora, save_lora

SIZE = 32


@pytest.fixture(scope="session")
def video_folders(tmp_path_factory):
    """model: a tiny base.

    adapter, flow_first: joint adapters of flow for it, the second trained on flow alone as well. controlnet: one that
    reads tracks. lora, one_step: of flow, sampled and estimated.
    """
    folder = tmp_path_factory.mktemp("video_models")
    pipe = tiny_video_pipeline()
    pipe.save_pretrained(folder / "model")
    controlnet = ControlNetSVD.from_unet(pipe.unet, CONTROL_CHANNELS, pipe.vae_scale_factor)
    controlnet.save_pretrained(folder / "controlnet")
    patch.add_joint(pipe.unet, "flow", rank=2, post="aligned")
    patch.save(pipe.unet, folder / "adapter", "flow", training=FlowCode().to_training())
    alone = {"one_way_share": 0.6, "flow_alone_share": 0.5}
    patch.save(pipe.unet, folder / "flow_first", "flow", training=FlowCode().to_training() | alone)
    unet = tiny_video_pipeline().unet
    with torch.no_grad():
        for parameter in add_lora(unet, 2):
            parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    save_lora(unet, folder / "lora", training=FlowCode().to_training())
    save_lora(unet, folder / "one_step", training=FlowCode().to_training() | {"objective": "one_step"})
    return folder


@pytest.fixture
def image(tmp_path):
    """A random image of 32x32."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.fixture
def tracks(tmp_path):
    """A drag to the right, and a point that stays."""
    path = tmp_path / "tracks.json"
    path.write_text(json.dumps({"tracks": [[[8, 8], [17, 8]]], "static_points": [[20, 24]]}))
    return path


@pytest.fixture
def cut_out(tmp_path):
    """40x60, with a transparent half."""
    values = np.random.default_rng(0).integers(0, 256, (60, 40, 4), dtype=np.uint8)
    values[..., 3] = 255
    values[:30, :, 3] = 0
    Image.fromarray(values).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.fixture
def run(folders, tmp_path):
    """Runs run_depth_image on the tiny model and returns its record."""

    def call(*arguments, output_dir=tmp_path / "out", adapters=("depth",)):
        files = [str(folders.adapters / f"{name}.safetensors") for name in adapters]
        fixed = ["--pretrained_model_name_or_path", str(folders.model), "--adapter", *files]
        fixed += ["--output_dir", str(output_dir), "--num_inference_steps", "2"]
        return json.loads((run_depth_image.main([*fixed, *map(str, arguments)]) / "run.json").read_text())

    return call
