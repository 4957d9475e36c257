"""Weights of the wrong kind are refused by what the folder holds, before anything is loaded."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder
from safetensors.torch import save_file

from models.svd_controlnet import ControlNetSVD
from pipelines.pipeline_stable_diffusion_joint import StableDiffusionJointPipeline
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from pipelines.pipeline_stable_video_diffusion_controlnet import StableVideoDiffusionControlNetPipeline
from utils.pretrained import load_pipeline, loading, shipped
from utils.weights.model_kinds import check_adapter, check_lora, check_network, check_pipeline, describe

IMAGE_UNET, VIDEO_UNET = "UNet2DConditionModel", "UNetSpatioTemporalConditionModel"
CHECKS = {
    "image base": partial(check_pipeline, needed=StableDiffusionJointPipeline),
    "video base": partial(check_pipeline, needed=StableVideoDiffusionEDMPipeline),
    "video base with a ControlNet": partial(check_pipeline, needed=StableVideoDiffusionControlNetPipeline),
    "image adapter": partial(check_adapter, unet_class=IMAGE_UNET, trained_by="train_depth_image.py"),
    "video adapter": partial(check_adapter, unet_class=VIDEO_UNET, trained_by="train_flow_video.py"),
    "ControlNet": partial(check_network, needed=ControlNetSVD),
    "autoencoder": partial(check_network, needed=AutoencoderKL),
    "LoRA": partial(check_lora, trained_by="train_svd.py"),
}
HOLDS = {  # what is at each place, and whom it serves
    "tiny_sd": ("a Stable Diffusion base (StableDiffusionPipeline)", {"image base"}),
    "tiny_svd": (
        "a Stable Video Diffusion base (StableVideoDiffusionPipeline)",
        {"video base", "video base with a ControlNet"},
    ),
    "depth_image/edge.safetensors": ("a joint adapter (edge) for Stable Diffusion", {"image adapter"}),
    "flow_video": ("a joint adapter (flow) for Stable Video Diffusion", {"video adapter"}),
    "trajectory": ("a ControlNet for Stable Video Diffusion (ControlNetSVD)", {"ControlNet"}),
    "judges/depth.safetensors": ("a judge of results (depth)", set()),
    "tiny_sd/vae": ("an autoencoder of images (AutoencoderKL), a part of the base", {"autoencoder"}),
    "tiny_svd/unet": (f"a network ({VIDEO_UNET}), a part of the base", set()),
    "tiny_sd/tokenizer": ("a tokenizer", set()),
    "tiny_sd/README.md": ("a .md file and no model", set()),
    "": ("a folder of models (tiny_sd, tiny_svd, trip)", set()),
}


@pytest.mark.parametrize("place", HOLDS)
@pytest.mark.parametrize("check", CHECKS)
def test_each_kind_of_weights_serves_those_who_need_it_and_no_others(place, check):
    found, serves = HOLDS[place]
    path = shipped(place)
    if check in serves:
        CHECKS[check](path, flag="--flag")
        return
    with pytest.raises(ValueError, match="needed") as refused:
        CHECKS[check](path, flag="--flag")
    assert str(refused.value).startswith(f"--flag {path} is {found}")
    assert "\n" not in str(refused.value)


def test_one_of_several_classes_will_do():
    either = (AutoencoderKL, AutoencoderKLTemporalDecoder)
    for place in ("tiny_sd/vae", "tiny_svd/vae"):
        check_network(shipped(place), either)
    with pytest.raises(ValueError, match="; an autoencoder of images or an autoencoder of videos is needed, such as"):
        check_network(shipped("tiny_svd/unet"), either)


def test_folders_without_a_model_and_loras_are_named(tmp_path):
    assert describe(tmp_path / "none") == "missing"
    assert describe(tmp_path) == "an empty folder"
    (tmp_path / "checkpoint-20").mkdir()
    assert describe(tmp_path) == "a folder of a training that has not ended (checkpoint-20)"
    lora = {"unet.conv_in.lora_A.weight": torch.zeros(1, 1)}
    save_file(lora, tmp_path / "pytorch_lora_weights.safetensors")
    assert describe(tmp_path) == "a LoRA"
    CHECKS["LoRA"](tmp_path)
    header = {"config": json.dumps({"training": {"flow_code": {}}})}
    save_file(lora, tmp_path / "pytorch_lora_weights.safetensors", header)
    assert describe(tmp_path) == "a LoRA that makes Stable Video Diffusion generate optical flow"


@pytest.mark.parametrize(
    "index",
    [
        {"_class_name": "StableDiffusionXLPipeline", "text_encoder_2": ["transformers", "CLIPTextModel"]},
        {"_class_name": "StableDiffusion3Pipeline", "transformer": ["diffusers", "SD3Transformer2DModel"]},
    ],
)
def test_a_pipeline_of_another_family_is_refused(tmp_path, index):
    base = json.loads(Path(shipped("tiny_sd/model_index.json")).read_text(encoding="utf-8"))
    (tmp_path / "model_index.json").write_text(json.dumps(base | index))
    with pytest.raises(ValueError, match=f"is a {index['_class_name']}; a Stable Diffusion base is needed, such as"):
        load_pipeline(StableDiffusionJointPipeline, tmp_path)


def test_a_base_that_a_pipeline_of_ours_saved_loads_again(tmp_path, tiny_svd):
    tiny_svd.save_pretrained(tmp_path)
    pipe = load_pipeline(StableVideoDiffusionControlNetPipeline, tmp_path)
    pipe.save_pretrained(tmp_path / "again")
    load_pipeline(StableVideoDiffusionControlNetPipeline, tmp_path / "again")


def test_a_base_whose_weights_are_damaged_is_not_called_missing(tmp_path, tiny_svd):
    tiny_svd.save_pretrained(tmp_path)
    (tmp_path / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="is a Stable Video Diffusion base .* and cannot be loaded here: ") as refused:
        load_pipeline(StableVideoDiffusionEDMPipeline, tmp_path)
    assert "\n" not in str(refused.value)


def test_a_network_that_is_loaded_from_another_folder_is_refused_with_what_it_holds():
    sentence = "tiny_sd is a Stable Diffusion base .*; an autoencoder of images is needed"
    with pytest.raises(ValueError, match=sentence), loading(shipped("tiny_sd"), AutoencoderKL):
        raise AssertionError("not reached")
