"""Train a joint adapter: an image with its depth (--condition depth) or its edges (--condition edge).

python train_models/train_depth_image.py --train_data_dir data/scenes --output_dir outputs/depth_image

One network denoises rows of both sides, first all images x, then all conditions y; the k-th x pairs with the k-th y.
"""

import argparse

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

import patch
from utils.arguments import parse_args, positive_int, run_script
from utils.data.cache import add_cache_arguments, cache_latents, cache_texts, encode_pair
from utils.data.pairs import CONDITIONS, PairDataset, add_data_arguments
from utils.data.records import read_records
from utils.diffusion.noise import min_snr_weight
from utils.diffusion.pairs import GIVEN_TIMESTEP, check_share_arguments, draw_direction, draw_given, with_trigger
from utils.images import to_image
from utils.latents import LatentScale
from utils.pretrained import loading
from utils.processes import process_state
from utils.training.loop import add_training_arguments, check_output_dir, fit
from utils.training.seeding import SeededDataset

SCALE_SAMPLES = 256  # pictures that the latent scale of the condition is measured on


def main(argv=None) -> None:
    args = parse_args(make_parser(), argv)
    args.adapter_name = args.adapter_name or args.condition
    args.trigger_word = f"{args.condition}_map" if args.trigger_word is None else args.trigger_word
    check_shares(args)
    check_output_dir(args)
    dataset, shown = read_data(args)
    vae, unet, scheduler, text = load_base(args)
    check_prediction_type(scheduler)
    check_resolution(args.resolution, vae)
    torch.manual_seed(args.seed)
    patch.add_joint(unet, args.adapter_name, args.rank, args.lora_alpha, args.post)
    if args.cache_latents:
        dataset = cache_latents(dataset, vae, args.cache_dir, args.train_batch_size)
        captions = dataset.captions
        text.cached = cache_texts(
            {"", *captions, *(with_trigger(args.trigger_word, caption) for caption in ["", *captions])},
            text.encoder,
            text.encode,
            args.cache_dir,
        )
    scale = measure_scale(dataset, vae, args.seed)

    def compute_loss(unet_in_use, batch):
        return joint_loss(unet, unet_in_use, batch, vae, text, scheduler, scale, args)

    def save(unet, folder):
        training = {**vars(args), "trigger": args.trigger_word, "latent_scale": vars(scale)}
        base_model = args.pretrained_model_name_or_path
        patch.save(unet, folder, args.adapter_name, base_model, training, torch.float16, overwrite=True)

    def validate(unet, step):
        pipe = make_pipeline(unet, vae, text, scheduler, args, scale)
        return draw_validation(pipe, args, shown)

    validate = validate if args.validation_prompts or shown else None
    parameters = patch.joint_parameters(unet, args.adapter_name)
    frozen = (vae, text.encoder)
    fit(args, unet, dataset, compute_loss, save=save, validate=validate, parameters=parameters, frozen=frozen)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument_group("pair").add_argument
    add("--pretrained_model_name_or_path", default="weights/tiny_sd", help="folder or hub name of the base")
    add("--revision", help="of the base on the hub")
    add("--condition", choices=CONDITIONS, default="depth")
    add("--adapter_name", help="by default that of the condition")
    add("--rank", type=positive_int, default=64)
    add("--lora_alpha", type=float, help="by default the rank")
    add(
        "--post",
        choices=patch.POSTS,
        default="fuse",
        help="output projection of the joint attention; aligned for a base that knows little of places",
    )
    add("--trigger_word", help="leads the caption of the condition; by default depth_map or edge_map")
    add(
        "--one_way_share",
        type=float,
        default=0.4,
        help="batches in which one side is given and does not read the other",
    )
    add("--clean_image_share", type=float, default=0.2, help="pairs whose image is given, in the other batches")
    add("--clean_condition_share", type=float, default=0.2, help="pairs whose condition is given, likewise")
    add("--equal_noise_share", type=float, default=0.25, help="pairs with one noise level for both sides")
    add("--drop_image_prompt", type=float, default=0.1)
    add("--drop_condition_prompt", type=float, default=0.1)
    add("--drop_both_prompts", type=float, default=0.1)
    add("--snr_gamma", type=float, default=5.0, help="of min-SNR weights (Hang et al., arXiv 2303.09556); 0 is off")
    add("--noise_offset", type=float, default=0.0, help="of noise that is constant over each channel")
    add("--validation_prompts", nargs="+", default=[], help="drawn as pairs every --validation_steps")
    add("--validation_data_dir", help="as --train_data_dir; its first images are shown with their estimated condition")
    add("--num_validation_samples", type=positive_int, default=4, help="of --validation_data_dir")
    add_data_arguments(parser)
    add_cache_arguments(parser)
    add_training_arguments(parser)
    return parser


def load_base(args):
    """Autoencoder, UNet, noise schedule and text encoder of the base."""
    base = {"pretrained_model_name_or_path": args.pretrained_model_name_or_path, "revision": args.revision}
    with loading(args.pretrained_model_name_or_path):
        vae = AutoencoderKL.from_pretrained(**base, subfolder="vae", dtype=torch.float32).requires_grad_(False)
        unet = UNet2DConditionModel.from_pretrained(**base, subfolder="unet", dtype=torch.float32)
        return vae, unet, DDPMScheduler.from_pretrained(**base, subfolder="scheduler"), TextEncoder(base)


def joint_loss(unet, unet_in_use, batch, vae, text, scheduler, scale, args):
    """Denoising error of both sides, each with its own noise level; a given side has no error of its own."""
    x_0, y_0 = encode_pair(batch, vae)
    x_0, y_0 = x_0.float(), scale.normalize(y_0.float())
    B, device = len(x_0), x_0.device
    direction = draw_direction(args)
    t_x, t_y = draw_timesteps(B, direction, scheduler.config.num_train_timesteps, args)
    t = torch.cat([t_x, t_y]).to(device)
    clean = torch.cat([x_0, y_0])
    noise = torch.randn_like(clean)
    if args.noise_offset:
        noise = noise + args.noise_offset * torch.randn_like(noise[..., :1, :1])
    given = (t == GIVEN_TIMESTEP)[:, None, None, None]
    noisy = torch.where(given, clean, scheduler.add_noise(clean, noise, t))
    prompts = draw_prompts(batch["caption"], args)
    pair_up(unet, args.adapter_name, B, direction)
    prediction = unet_in_use(noisy, t, text(prompts, device)).sample.float()
    error = (prediction - target(scheduler, clean, noise, t)).square().mean(dim=(1, 2, 3))
    learns = ~given.flatten()
    loss = error * min_snr_weight(scheduler, t, args.snr_gamma) * learns
    return loss.sum() / learns.sum().clamp(min=1)


def pair_up(unet, name: str, B: int, direction: str) -> None:
    """Row i of the images with row B + i, unless they are paired so already."""
    pairs = patch.get_pairs(unet)
    if len(pairs) != B or pairs[0].direction != direction:
        patch.set_pairs(unet, [(i, B + i, name, 1.0, direction) for i in range(B)])


def draw_timesteps(B: int, direction: str, timesteps: int, args) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise levels (B,) of both sides, independent but for some equal pairs; `GIVEN_TIMESTEP` where a side is given.

    With one direction the side that is read is given, and so has nothing to learn; independent draws almost never
    meet that.
    """
    t_x, t_y = torch.randint(1, timesteps, (2, B))
    t_y = torch.where(torch.rand(B) < args.equal_noise_share, t_x, t_y)
    x_given, y_given = draw_given(B, direction, args.clean_image_share, args.clean_condition_share)
    return t_x.masked_fill(x_given, GIVEN_TIMESTEP), t_y.masked_fill(y_given, GIVEN_TIMESTEP)


def draw_prompts(captions: list[str], args) -> list[str]:
    """Captions of x, then of y with the trigger word, some of them dropped: x's, y's, or both."""
    x_limit = args.drop_image_prompt
    y_limit = x_limit + args.drop_condition_prompt
    both_limit = y_limit + args.drop_both_prompts
    draws = torch.rand(len(captions)).tolist()
    x = ["" if d < x_limit or y_limit <= d < both_limit else c for c, d in zip(captions, draws, strict=True)]
    y = ["" if x_limit <= d < both_limit else c for c, d in zip(captions, draws, strict=True)]
    return x + [with_trigger(args.trigger_word, caption) for caption in y]


def target(scheduler, clean, noise, t):
    """What the network predicts: the noise, or v = alpha noise - sigma x_0."""
    if scheduler.config.prediction_type == "epsilon":
        return noise
    return scheduler.get_velocity(clean, noise, t)


def check_shares(args) -> None:
    names = ("one_way_share", "clean_image_share", "clean_condition_share", "equal_noise_share")
    prompts = ("drop_image_prompt", "drop_condition_prompt", "drop_both_prompts")
    check_share_arguments(args, (*names, *prompts), [("clean_image_share", "clean_condition_share"), prompts])
    if args.snr_gamma < 0:
        raise ValueError(f"--snr_gamma is {args.snr_gamma}: take 5, or 0 to weigh all noise levels alike.")


def check_prediction_type(scheduler) -> None:
    kind = scheduler.config.prediction_type
    if kind not in ("epsilon", "v_prediction"):
        raise ValueError(f"The base predicts {kind!r}: take one that predicts epsilon or v_prediction.")


def check_resolution(resolution: int, vae) -> None:
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    if resolution % factor:
        raise ValueError(f"--resolution {resolution} does not divide by the base's {factor}: choose a multiple of it.")


def read_data(args) -> tuple[PairDataset, list]:
    """The training data, and the first samples of the validation data."""
    dataset = PairDataset.from_args(args, args.condition)
    if args.validation_data_dir is None:
        return dataset, []
    records = read_records(args.validation_data_dir)[: args.num_validation_samples]
    return dataset, list(PairDataset(records, args.resolution, args.condition, center_crop=True))


class TextEncoder:
    """Texts to embeddings (B, L, D), read from a cache where there is one."""

    def __init__(self, base: dict):
        self.tokenizer = CLIPTokenizer.from_pretrained(**base, subfolder="tokenizer")
        self.encoder = CLIPTextModel.from_pretrained(**base, subfolder="text_encoder", dtype=torch.float32)
        self.encoder.requires_grad_(False)
        self.cached = None

    def __call__(self, texts: list[str], device) -> torch.Tensor:
        if self.cached is not None:
            return torch.stack([self.cached[text] for text in texts]).to(device)
        return self.encode(texts)

    @torch.no_grad()
    def encode(self, texts: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return self.encoder(tokens.to(self.encoder.device)).last_hidden_state


@torch.no_grad()
def measure_scale(dataset, vae, seed: int) -> LatentScale:
    """Mean and deviation of the condition's latents over the first samples."""
    vae.to(process_state().device)
    seeded = SeededDataset(dataset, seed)  # a resumed run has to find the same scale
    latents = []
    for i in range(min(SCALE_SAMPLES, len(dataset))):
        sample = {key: value[None] for key, value in seeded[0, i].items() if key.startswith("conditioning")}
        latents.append(encode_pair({key: value.to(vae.device) for key, value in sample.items()}, vae)[1].float())
    return LatentScale.measure(torch.cat(latents))


def make_pipeline(unet, vae, text, scheduler, args, scale):
    from pipelines.pipeline_stable_diffusion_joint import StableDiffusionJointPipeline

    sampler = DDIMScheduler.from_config(scheduler.config)
    pipe = StableDiffusionJointPipeline(vae, text.encoder, text.tokenizer, unet, sampler)
    pipe.register_adapter_pair(args.adapter_name, args.trigger_word, scale, one_way=args.one_way_share > 0)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw_validation(pipe, args, shown: list) -> dict[str, Image.Image]:
    """pairs: drawn for the prompts. samples: image and condition, the condition from the image, a pair for the caption."""
    sample = {"num_inference_steps": 25, "height": args.resolution, "width": args.resolution}
    pictures = {}
    if args.validation_prompts:
        pictures["pairs"] = grid(draw(pipe, args, prompt=args.validation_prompts, **sample))
    if shown:
        known = [[to_image(s[key]) for s in shown] for key in ("pixel_values", "conditioning_pixel_values")]
        captions = [s["caption"] for s in shown]
        estimated = draw(pipe, args, prompt=captions, image=known[0], **sample)[1]
        pictures["samples"] = grid([*known, estimated, *draw(pipe, args, prompt=captions, **sample)])
    return pictures


def draw(pipe, args, **inputs) -> list[list[Image.Image]]:
    """Images and conditions."""
    out = pipe(generator=torch.Generator().manual_seed(args.seed), **inputs)
    return [out.images, out.conditions[args.adapter_name]]


def grid(columns: list[list[Image.Image]]) -> Image.Image:
    rows = [np.concatenate([np.asarray(picture) for picture in row], axis=1) for row in zip(*columns, strict=True)]
    return Image.fromarray(np.concatenate(rows))


if __name__ == "__main__":
    run_script(main)
