"""The weights of a video edit: which ones it needs, checked before they are loaded, and its two pipelines."""

from dataclasses import dataclass

from diffusers import StableDiffusionPipeline, StableVideoDiffusionPipeline

from models.unet_spatio_temporal_condition import check_masked_unet
from pipelines.edit_fill import StableVideoDiffusionLedTransPipeline
from pipelines.image_pairs import check_samples
from pipelines.pipeline_keyframe_edit import EditSettings, StableDiffusionKeyframeEditPipeline
from pipelines.trans_adapter import choose_adapter
from utils.pretrained import check_kind, choose_device, load_pipeline, shipped
from utils.weights.embedded import is_embedded
from utils.weights.model_kinds import check_adapter


@dataclass(frozen=True)
class EditModels:
    """Names of the weights of one edit, which are checked and can be loaded.

    Attributes:
        image_model: Folder or hub name of a Stable Diffusion base.
        model_dir: Of a Stable Video Diffusion base.
        depth_adapter: Joint adapter for the image base, where the structure is kept by it.
        adapter: Folder of train_svd_trans.py; None: training-free.
    """

    image_model: str
    model_dir: str
    depth_adapter: str | None
    adapter: str | None
    device: str | None = None
    dtype: str = "float32"

    @classmethod
    def from_args(cls, args, settings: EditSettings) -> "EditModels":
        """Of parsed arguments.

        Raises:
            FileNotFoundError, ValueError: Some are missing, of another kind, or not needed.
        """
        choose_device(args.device)
        depth = choose_depth_adapter(args.image_model, args.depth_adapter, settings)
        check_kind(args.image_model, StableDiffusionPipeline, "--image_model")
        check_kind(args.model_dir, StableVideoDiffusionPipeline, "--model_dir")
        if depth:
            check_adapter(depth, "UNet2DConditionModel", "train_depth_image.py", "--depth_adapter")
            check_samples(depth, "--depth_adapter")
        adapter = choose_adapter(args.model_dir, args.adapter, args.training_free)
        if adapter:
            check_masked_unet(adapter)
        return cls(args.image_model, args.model_dir, depth, adapter, args.device, args.dtype)

    @property
    def names(self) -> list[str | None]:
        """Of all that is loaded."""
        return [self.image_model, self.depth_adapter, self.model_dir, self.adapter]

    def load_images(self) -> StableDiffusionKeyframeEditPipeline:
        """The pipeline that edits keyframes."""
        pipe = load_pipeline(StableDiffusionKeyframeEditPipeline, self.image_model, self.dtype, "--image_model")
        if self.depth_adapter:
            pipe.load_adapter_pair(self.depth_adapter)
        return pipe.to(choose_device(self.device))

    def load_videos(self) -> StableVideoDiffusionLedTransPipeline:
        """The pipeline that fills gaps."""
        pipe = load_pipeline(StableVideoDiffusionLedTransPipeline, self.model_dir, self.dtype, "--model_dir")
        if self.adapter:
            pipe.load_adapter(self.adapter)
        return pipe.to(choose_device(self.device))


def choose_depth_adapter(image_model: str, asked: str | None, settings: EditSettings) -> str | None:
    """The joint adapter for a base; raises ValueError where there is none, or no use for it."""
    if not settings.keeps("depth"):
        if asked:
            raise ValueError(
                f"--depth_adapter applies to --structure depth: remove it, or change --structure {settings.structure}."
            )
        return None
    if asked or is_embedded(image_model):
        return asked or shipped("depth_image/depth.safetensors")
    raise ValueError(
        f"--structure {settings.structure} needs a --depth_adapter for {image_model}: train one with "
        "train_depth_image.py, or pass --structure inversion."
    )
