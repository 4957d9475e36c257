"""Networks of Stable Diffusion and Stable Video Diffusion as ONNX files, held against PyTorch by onnxruntime.

Every size that may change from call to call is a name in the file: batch, frames, tokens, height, width.
"""

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class Part:
    """A network, or the piece of one, that becomes a file.

    Attributes:
        module: Takes the inputs in their order and returns one tensor; float32, on the CPU.
        inputs: Name and shape of each; a size that may change is a name.
        output: Name and shape of what it returns.
        multiple: Tracing and check take heights and widths that are multiples of it; a network that halves them needs
            this.
    """

    module: nn.Module
    inputs: dict[str, Shape]
    output: tuple[str, Shape]
    multiple: int = 4

    def sizes(self, batch: int, frames: int, tokens: int, height: int, width: int) -> dict[str, int]:
        """Values of the names; height and width count multiples."""
        return {
            "batch": batch, "frames": frames, "tokens": tokens,
            "height": height * self.multiple, "width": width * self.multiple,
        }  # fmt: skip

    def draw_inputs(self, sizes: dict[str, int]) -> tuple[torch.Tensor, ...]:
        """Normal noise of the inputs' shapes, float32."""
        shapes = [[sizes.get(size, size) for size in shape] for shape in self.inputs.values()]
        return tuple(torch.randn(shape) for shape in shapes)


class Call(nn.Module):
    """A function of a network as a module, which is what the exporter takes."""

    def __init__(self, network: nn.Module, function: Callable):
        super().__init__()
        self.network, self.function = network.eval().requires_grad_(False), function

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.function(self.network, *inputs)


def video_unet(unet: nn.Module) -> Part:
    """`UNetSpatioTemporalConditionModel`: the prediction v."""
    config = unet.config
    latents = ("batch", "frames", config.in_channels, "height", "width")
    ids = config.projection_class_embeddings_input_dim // config.addition_time_embed_dim
    inputs = {
        "sample": latents, "timestep": ("batch",),
        "encoder_hidden_states": ("batch", "tokens", _width(config.cross_attention_dim)),
        "added_time_ids": ("batch", ids),
    }  # fmt: skip
    output = ("prediction", ("batch", "frames", config.out_channels, "height", "width"))
    return Part(Call(unet, _predict), inputs, output, 2 ** (len(config.block_out_channels) - 1))


def image_unet(unet: nn.Module) -> Part:
    """`UNet2DConditionModel` of a text to image model: the prediction, whatever its type."""
    config = unet.config
    inputs = {
        "sample": ("batch", config.in_channels, "height", "width"),
        "timestep": ("batch",),
        "encoder_hidden_states": ("batch", "tokens", _width(config.cross_attention_dim)),
    }
    output = ("prediction", ("batch", config.out_channels, "height", "width"))
    return Part(Call(unet, _predict), inputs, output, 2 ** (len(config.block_out_channels) - 1))


def video_decoder(vae: nn.Module) -> Part:
    """Scaled latents, as of the UNet, to frames in [-1, 1] (a little beyond, where the decoder overshoots)."""
    latents = ("batch", "frames", vae.config.latent_channels, "height", "width")
    output = ("frames", ("batch", "frames", 3, "image_height", "image_width"))
    return Part(Call(vae, _decode_frames), {"latents": latents}, output)


def image_decoder(vae: nn.Module) -> Part:
    """The same for single images."""
    latents = ("batch", vae.config.latent_channels, "height", "width")
    return Part(Call(vae, _decode), {"latents": latents}, ("image", ("batch", 3, "image_height", "image_width")))


def condition_encoder(vae: nn.Module) -> Part:
    """Images in [-1, 1], noise added, to condition latents of Stable Video Diffusion: the mode, **not** scaled."""
    config = vae.config
    output = ("latents", ("batch", config.latent_channels, "latent_height", "latent_width"))
    inputs = {"image": ("batch", 3, "height", "width")}
    return Part(Call(vae, _encode), inputs, output, 2 ** (len(config.block_out_channels) - 1))


def image_encoder(encoder: nn.Module) -> Part:
    """`CLIPVisionModelWithProjection`: pixels, resized and normalised as CLIP's, to embeddings (B, 1, D)."""
    config = encoder.config
    inputs = {"pixels": ("batch", 3, config.image_size, config.image_size)}
    return Part(Call(encoder, _embed), inputs, ("embeddings", ("batch", 1, config.projection_dim)))


def check_packages(*names: str) -> None:
    """Raises ValueError: one of the packages is not installed."""
    if missing := [name for name in names if importlib.util.find_spec(name) is None]:
        raise ValueError(f'The export needs {missing[0]}: pip install -e ".[export]".')


def write_onnx(part: Part, path: Path, opset: int) -> None:
    """Trace the part and write it; weights of more than 2 GB lie in files beside, see `gather_weights`.

    The exporter is the one by tracing: on video UNets the one by `torch.export` takes minutes with named sizes, and
    what it writes fixes the batch.
    """
    named = {name: _dynamic(shape) for name, shape in [*part.inputs.items(), part.output]}
    inputs = part.draw_inputs(part.sizes(batch=2, frames=3, tokens=2, height=2, width=3))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of numbers that tracing fixes: `largest_error` tries other sizes
        torch.onnx.export(
            part.module, inputs, str(path), dynamo=False, opset_version=opset,
            input_names=list(part.inputs), output_names=[part.output[0]], dynamic_axes=named,
        )  # fmt: skip


def gather_weights(path: Path) -> None:
    """Bring the weights that lie beside a model, one file for each tensor, into one file."""
    import onnx

    beside = [file for file in path.parent.iterdir() if file != path]
    if not beside:
        return
    model = onnx.load(path)
    for file in (path, *beside):
        file.unlink()
    weights = path.with_name(f"{path.name}.data")
    onnx.save_model(model, path, save_as_external_data=True, location=weights.name)
    if weights.exists():  # onnx lets only the owner read it
        weights.chmod(path.stat().st_mode)


@torch.no_grad()
def draw_examples(part: Part) -> list[tuple[tuple[torch.Tensor, ...], torch.Tensor]]:
    """Inputs and PyTorch's outputs, of the sizes of the tracing and of others."""
    generator = torch.random.get_rng_state()
    torch.manual_seed(0)
    sizes = [part.sizes(2, 3, 2, 2, 3), part.sizes(1, 2, 1, 3, 2), part.sizes(3, 4, 3, 2, 2)]
    inputs = [part.draw_inputs(size) for size in sizes]
    torch.random.set_rng_state(generator)
    return [(values, part.module(*values)) for values in inputs]


def largest_error(path: Path, examples: list[tuple[tuple[torch.Tensor, ...], torch.Tensor]]) -> float:
    """Largest absolute difference of what onnxruntime computes from the file, on the CPU, and the examples' outputs.

    Raises:
        ValueError: onnxruntime refuses the file or one of the sizes.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]
        found = [session.run(None, dict(zip(names, map(_numpy, inputs), strict=True)))[0] for inputs, _ in examples]
    except Exception as error:  # onnxruntime's own, which have no common class
        raise ValueError(f"onnxruntime does not run {path}: {' '.join(str(error).split())}") from error
    pairs = zip(found, examples, strict=True)
    return max((torch.from_numpy(values) - expected).abs().max().item() for values, (_, expected) in pairs)


def _predict(unet, *inputs):
    return unet(*inputs, return_dict=False)[0]


def _decode(vae, latents):
    return vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]


def _decode_frames(vae, latents):
    frames = latents.shape[1]
    pixels = vae.decode(latents.flatten(0, 1) / vae.config.scaling_factor, num_frames=frames, return_dict=False)[0]
    return pixels.unflatten(0, (-1, frames))


def _encode(vae, image):
    return vae.encode(image).latent_dist.mode()


def _embed(encoder, pixels):
    return encoder(pixels).image_embeds[:, None]


def _width(cross_attention_dim: int | tuple[int, ...]) -> int:
    return cross_attention_dim if isinstance(cross_attention_dim, int) else cross_attention_dim[0]


def _dynamic(shape: Shape) -> dict[int, str]:
    return {axis: size for axis, size in enumerate(shape) if isinstance(size, str)}


def _numpy(values: torch.Tensor):
    return values.contiguous().numpy()
