"""Training between two frames: the loss, and whole runs that the command of the variant reads."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import train_models.train_svd_trans as script
from models.unet_spatio_temporal_condition import MASKED_FILE
from run_models.run_svd_trans import main as run
from tests.small_trainings import SIZE, F, arguments
from train_models.train_svd_trans import trans_loss
from utils.data.last_frame import LastFrame
from utils.diffusion.edm import EDM
from utils.weights.lora import LORA_FILE

B = 2
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def test_the_last_image_is_that_of_the_stretch():
    frames = torch.rand(F, 3, SIZE, SIZE)
    assert torch.equal(LastFrame()({"pixel_values": frames})["last_image"], frames[-1])


def test_the_loss_conditions_on_both_ends():
    """With a network that answers by the conditioning latents, the loss tells the ends apart."""
    seen = []

    class Encoder:
        vae = SimpleNamespace(config=SimpleNamespace(scaling_factor=1.0))

        def encode_latents(self, images):
            return images.mean(dim=(1, 2, 3))[:, None, None, None].expand(-1, 4, 8, 8)

        def embed(self, image):
            return torch.zeros(len(image), 1, 16)

    def network(sample, timestep, embeddings, ids, return_dict):
        seen.append((sample[:, :, 4:], embeddings))
        return (torch.zeros_like(sample[:, :, :4]),)

    args = arguments(script, conditioning_dropout_prob=0)
    batch = {
        "latents": torch.randn(B, F, 4, 8, 8),
        "image": torch.full((B, 3, SIZE, SIZE), 0.5),
        "last_image": torch.full((B, 3, SIZE, SIZE), -0.5),
        "guess": torch.full((B, F, 3, SIZE, SIZE), 0.25),
        "fps": torch.full((B,), 8.0),
        "motion_bucket_id": torch.full((B,), 100.0),
    }
    trans_loss(network, batch, Encoder(), EDM(), args)
    known, embeddings = seen[0]
    assert known[:, 0, :4].mean() == pytest.approx(0.5, abs=0.05)
    assert known[:, -1, :4].mean() == pytest.approx(-0.5, abs=0.05)
    assert known[:, 1, :4].mean() == pytest.approx(0.25, abs=0.05)
    assert known[0, :, 4, 0, 0].tolist() == [1, 0, 1]
    assert embeddings.shape[1] == 2


@pytest.mark.parametrize("trainable", ["lora", "temporal"])
def test_a_run_writes_what_the_command_reads(train, svd_base, tmp_path, trainable):
    out = tmp_path / "out"
    train(script, out, "--cache_latents", trainable=trainable, held_out_clips=1, cache_dir=tmp_path)
    assert list((out / "validation").glob("*_samples.png"))
    files = {path.name for path in out.iterdir()}
    assert ({LORA_FILE, MASKED_FILE} if trainable == "lora" else {"unet"}) <= files
    if trainable == "lora":
        assert load_file(out / MASKED_FILE)["mask_embedding"].abs().sum() > 0
    for name, color in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (SIZE, SIZE), color).save(tmp_path / f"{name}.png")
    ends = ["--first", tmp_path / "a.png", "--last", tmp_path / "b.png", "--num_frames", 3, "--num_inference_steps", 1]
    files = run(
        [str(x) for x in ["--model_dir", svd_base, "--adapter", out, *ends, "--output_dir", tmp_path / "video"]]
    )
    sheet = Image.open(tmp_path / "video" / "frames.png")
    assert sheet.getpixel((0, 0)) == (255, 0, 0)
    assert sheet.getpixel((sheet.width - 1, 0)) == (0, 0, 255)
    assert all(path.is_file() for path in files)


def test_a_training_goes_on_from_another(train, svd_base, tmp_path):
    train(script, tmp_path / "first", trainable="all")
    train(script, tmp_path / "second", trainable="all", init_from=tmp_path / "first", learning_rate=0.0)
    first, second = (load_file(tmp_path / name / WEIGHTS) for name in ("first", "second"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(ValueError, match="--init_from .* is a LoRA: pass a folder with unet/"):
        train(script, tmp_path / "lora", trainable="lora")
        train(script, tmp_path / "third", trainable="all", init_from=tmp_path / "lora")


def test_too_few_frames_are_refused(train, tmp_path):
    with pytest.raises(ValueError, match="--num_frames 2 is too few: pass 3 or more"):
        train(script, tmp_path, num_frames=2)
