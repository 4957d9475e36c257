"""The two kinds of bases of TRIP: Stable Video Diffusion, and text to video. Their pipelines."""

from pathlib import Path

from models.trip import TripFusion
from pipelines.pipeline_trip import StableVideoDiffusionTripPipeline
from pipelines.pipeline_trip_text import TextToVideoTripPipeline
from utils.pretrained import load_pipeline
from utils.weights.model_kinds import index_of

SVD_ONLY = "applies to Stable Video Diffusion: leave it out with a text to video base"
TripPipeline = StableVideoDiffusionTripPipeline | TextToVideoTripPipeline


def trip_pipeline(name: str | Path) -> type[TripPipeline]:
    """The pipeline of a base: that of text to video where its UNet is a `UNet3DConditionModel`."""
    unet = (index_of(name) or {}).get("unet")
    return TextToVideoTripPipeline if unet and unet[1] == "UNet3DConditionModel" else StableVideoDiffusionTripPipeline


def load_trip(model_dir: str | Path, dtype: str) -> TripPipeline:
    """A trained base with its fusion, on the CPU.

    Raises:
        FileNotFoundError, ValueError: There is none.
    """
    pipe = load_pipeline(trip_pipeline(model_dir), model_dir, dtype, "--model_dir")
    if pipe.fusion is None:
        raise ValueError(f"--model_dir {model_dir} has no TRIP fusion: train one with train_models/train_trip.py.")
    return pipe


def start_fusion(pipe: TripPipeline, form: str, width: int, heads: int) -> None:
    """The fusion of a base that has one, or a new one.

    Raises:
        ValueError: The base was trained with another form.
    """
    if pipe.fusion is None:
        pipe.register_modules(fusion=TripFusion(form, pipe.vae.config.latent_channels, width, heads))
    elif pipe.fusion.config.form != form:
        raise ValueError(
            f"{pipe.name_or_path} was trained with --form {pipe.fusion.config.form}, not {form}: pass that, or a base "
            "without TRIP."
        )
