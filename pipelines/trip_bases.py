"""The two kinds of bases of TRIP: Stable Video Diffusion, and text to video. Their pipelines, and what is trained."""

from pathlib import Path

from models.trip import TripFusion
from models.trip_text import FORMS_OF_TEXT
from pipelines.pipeline_trip import StableVideoDiffusionTripPipeline
from pipelines.pipeline_trip_text import TextToVideoTripPipeline
from utils.pretrained import load_pipeline
from utils.training.parameters import choose_parameters
from utils.weights.model_kinds import index_of

NOT_OF_TEXT = "applies to Stable Video Diffusion: leave it out with a text to video base"
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


def check_text_form(form: str) -> None:
    """Raises ValueError for a form that text to video bases do not have."""
    if form not in FORMS_OF_TEXT:
        raise ValueError(
            f"--form {form} is about channels for an image, and text to video bases have none: "
            f"choose one of {', '.join(FORMS_OF_TEXT)}."
        )


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


def parameter_groups(pipe: TripPipeline, trainable: str, fusion_learning_rate: float, fusion_only_steps: int) -> list:
    """Optimizer groups: the UNet, which learns after fusion_only_steps, and the fusion at its own learning rate.

    Args:
        trainable: "all", "temporal", or "none" of the UNet.
    """
    groups = []
    if trainable != "none":
        groups.append({"params": choose_parameters(pipe.unet, trainable), "start_step": fusion_only_steps})
    if fusion := list(pipe.fusion.parameters()):
        groups.append({"params": fusion, "lr": fusion_learning_rate})
    return groups
