"""A variant of the video pipeline overrides `prepare` alone, as the documentation shows it."""

import re
from pathlib import Path

import torch

from tests.tiny_pipeline import quiet

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def test_the_pipeline_of_the_documentation_samples_a_loop(tiny_svd):
    page = (REPOSITORY / "docs/video_diffusion.md").read_text()
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def prepare" in code]
    names = {}
    exec(code, names)  # noqa: S102
    pipe = quiet(names["StableVideoDiffusionLoopPipeline"](**tiny_svd.components))
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    options = {"num_inference_steps": 2, "generator": torch.Generator().manual_seed(0)}
    latents = pipe(image, fps=8, output_type="latent", **options).frames
    torch.testing.assert_close(latents[:, -1:], pipe.encode_frames(image[:, None]))
    assert pipe(image, output_type="pt", **options).frames.shape == (1, 4, 3, 32, 32)
