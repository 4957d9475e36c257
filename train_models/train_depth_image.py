"""Train a joint adapter: an image with its depth (--condition depth), its edges (edge), or a pair of your own.

python train_models/train_depth_image.py --train_data_dir data/scenes --output_dir outputs/depth_image
python train_models/train_depth_image.py --objective one_step --learning_rate 1e-2 --rank 2 --train_data_dir …

One network denoises rows of both sides, first all images x, then all conditions y; the k-th x pairs with the k-th y.
With --objective one_step a LoRA estimates the condition of an image instead, in one deterministic step.
"""

import argparse

import torch
from diffusers import UNet2DConditionModel

import patch
from pipelines.pair_validation import show_estimates, show_samples
from pipelines.pipeline_stable_diffusion_joint import StableDiffusionJointPipeline
from utils import arguments
from utils.arguments import check_choice, parse_args, positive_int, run_script, weight
from utils.data.cache import add_cache_arguments, cache_latents, encode_pair
from utils.data.pairs import PairDataset, add_data_arguments
from utils.diffusion.noise import min_snr_weight
from utils.diffusion.one_step import DENOISING, ONE_STEP
from utils.diffusion.pairs import GIVEN_TIMESTEP, check_share_arguments, draw_direction, relate_levels, with_trigger
from utils.latents import LatentScale
from utils.training.arguments import add_base_arguments, base_size
from utils.training.estimation import begin_estimator, estimation_loss, save_estimator, start_estimator
from utils.training.joint_adapter import add_adapter_arguments, pair_up, read_beginning, save_adapter, start_adapter
from utils.training.loop import add_training_arguments, check_output_dir, fit
from utils.training.resume import kept_scale
from utils.training.sd import SDBase, draw_prompts, measure_latent_scale, read_validation_pairs

OBJECTIVES = (DENOISING, ONE_STEP)
PROMPTS = ("drop_image_prompt", "drop_condition_prompt", "drop_both_prompts")
GIVEN = ("clean_image_share", "clean_condition_share")
SHARES = ("one_way_share", "equal_noise_share", *GIVEN, *PROMPTS)
PAIR = ("post", "y_layers", "adapter_name", "trigger_word", "snr_gamma", "noise_offset", "validation_prompts")
READ_BY = {name: [DENOISING] for name in (*SHARES, *PAIR)} | {"lora_targets": [ONE_STEP]}


def main(argv=None) -> None:
    args = parse_args(make_parser(), argv)
    check_arguments(args)
    estimates = args.objective == ONE_STEP
    scale = begin_estimator(args) if estimates else begin(args)
    args.resolution = args.resolution or base_size(args, StableDiffusionJointPipeline)[0]
    dataset, shown = PairDataset.from_args(args, args.condition), read_validation_pairs(args)
    base = SDBase.load(args)
    base.check_resolution(args.resolution)
    torch.manual_seed(args.seed)
    train = train_estimator if estimates else train_pairs
    train(args, base, dataset, scale, shown)


def check_arguments(args) -> None:
    """One sentence about what would fail after a long time."""
    check_choice(make_parser(), args, "objective", {}, READ_BY)
    check_share_arguments(args, SHARES, [GIVEN, PROMPTS])
    args.adapter_name = args.adapter_name or args.condition
    check_output_dir(args)


def train_pairs(args, base: SDBase, dataset, scale: LatentScale | None, shown: list[dict]) -> None:
    """Trains a joint adapter.

    Args:
        scale: Of the condition's latents, where it is not measured on the data.
        shown: Samples of validations.
    """
    start_adapter(base.unet, args)
    if args.cache_latents:
        dataset = cache_latents(dataset, base.vae, args.cache_dir, args.train_batch_size)
        captions = ["", *dataset.captions]
        base.text.cache([*captions, *(with_trigger(args.trigger_word, c) for c in captions)], args.cache_dir)
    scale = kept_scale(args) or scale or measure_latent_scale(dataset, base.vae, args.seed)

    def loss(unet, batch):
        return joint_loss(unet, batch, base, scale, args)

    def save(unet, folder):
        return save_adapter(unet, folder, args, trigger=args.trigger_word, latent_scale=vars(scale))

    def validate(unet, step):
        return show_samples(base, scale, shown, args)

    parameters = patch.joint_parameters(base.unet, args.adapter_name)
    validate = validate if args.validation_prompts or shown else None
    shared = {"parameters": parameters, "frozen": base.frozen, "keep": {"latent_scale": vars(scale)}}
    fit(args, base.unet, dataset, loss, save=save, validate=validate, **shared)


def train_estimator(args, base: SDBase, dataset, scale: LatentScale | None, shown: list[dict]) -> None:
    """Trains a LoRA that estimates the condition; see `train_pairs`."""
    parameters = start_estimator(base.unet, args)
    if args.cache_latents:
        dataset = cache_latents(dataset, base.vae, args.cache_dir, args.train_batch_size)
    scale = kept_scale(args) or scale or measure_latent_scale(dataset, base.vae, args.seed)

    text = base.text([""], base.unet.device)

    def loss(unet, batch):
        return estimation_loss(unet, batch, base.vae, text, scale)

    def save(unet, folder):
        training = {name: value for name, value in vars(args).items() if ONE_STEP in READ_BY.get(name, OBJECTIVES)}
        return save_estimator(unet, folder, args, parameters, training, scale)

    def validate(unet, step):
        return show_estimates(base, scale, shown)

    shared = {"parameters": parameters, "frozen": base.frozen, "keep": {"latent_scale": vars(scale)}}
    fit(args, base.unet, dataset, loss, save=save, validate=validate if shown else None, **shared)


def begin(args) -> LatentScale | None:
    """Settles the trigger word; returns the latent scale of `--init_adapter` where its condition goes on."""
    kept = ("post",) if args.y_layers == "all" else ("post", "y_layers")
    beginning = read_beginning(args, kept, UNet2DConditionModel.__name__, "train_depth_image.py")
    goes_on = args.init_adapter and beginning.get("condition", args.condition) == args.condition
    if args.trigger_word is None:
        args.trigger_word = beginning.get("trigger", "") if goes_on else f"{args.condition}_map"
    return LatentScale.read(beginning.get("latent_scale", {})) if goes_on else None


def make_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    group = parser.add_argument_group("pair")
    add_base_arguments(group, "tiny_sd")
    add_adapter_arguments(group, "image", "condition", post="fuse", one_way_share=0.4, y_layers="attention")
    add = group.add_argument
    what = f"{DENOISING} of both sides by a joint adapter, or estimation of the condition in {ONE_STEP} by a LoRA"
    add("--objective", choices=OBJECTIVES, default=DENOISING, help=what)
    layers = "all for attention, or a regular expression in names of layers (default: ., which is in all names)"
    add("--lora_targets", default=".", help=f"layers with a LoRA for --objective one_step: {layers}")
    own = "a name of your own pairs each image with that under NAME_file_name in metadata.jsonl"
    add("--condition", default="depth", metavar="NAME", help=f"what the image is paired with: depth, edge, or {own}")
    add("--adapter_name", help="name of the adapter (default: the condition)")
    add("--trigger_word", help="words that begin the condition's caption (default: --init_adapter's, else NAME_map)")
    for name in PROMPTS:
        add(f"--{name}", type=float, default=0.1, help=f"share of pairs without {name[5:].replace('_', ' ')}")
    add("--snr_gamma", type=weight, default=5.0, help="gamma of min-SNR weights (arXiv 2303.09556); 0: none")
    add("--noise_offset", type=weight, default=0.0, help="standard deviation of noise that is constant over a channel")
    add("--validation_prompts", nargs="+", default=[], help="captions of pairs that are sampled in each validation")
    add("--validation_data_dir", help="images whose condition is estimated in each validation (default: none)")
    add("--num_validation_samples", type=positive_int, default=4, help="images of --validation_data_dir to show")
    add_data_arguments(parser, resolution=None)
    add_cache_arguments(parser)
    add_training_arguments(parser)
    return parser


def joint_loss(unet, batch, base: SDBase, scale: LatentScale, args):
    """Denoising error of both sides, each with its own noise level; a given side has no error of its own."""
    x_0, y_0 = encode_pair(batch, base.vae)
    clean = torch.cat([x_0.float(), scale.normalize(y_0.float())])
    B, device = len(x_0), x_0.device
    direction = draw_direction(args)
    t_x, t_y = draw_timesteps(B, direction, base.scheduler.config.num_train_timesteps, args)
    t = torch.cat([t_x, t_y]).to(device)
    noise = torch.randn_like(clean)
    if args.noise_offset:
        noise = noise + args.noise_offset * torch.randn_like(noise[..., :1, :1])
    given = (t == GIVEN_TIMESTEP)[:, None, None, None]
    noisy = torch.where(given, clean, base.scheduler.add_noise(clean, noise, t))
    prompts = draw_prompts(batch["caption"], args)
    pair_up(base.unet, args.adapter_name, B, direction)
    prediction = unet(noisy, t, base.text(prompts, device)).sample.float()
    error = (prediction - base.target(clean, noise, t)).square().mean(dim=(1, 2, 3))
    learns = ~given.flatten()
    loss = error * min_snr_weight(base.scheduler, t, args.snr_gamma) * learns
    return loss.sum() / learns.sum().clamp(min=1)


def draw_timesteps(B: int, direction: str, timesteps: int, args) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise levels (B,) of both sides; `GIVEN_TIMESTEP` where a side is given."""
    shares = args.equal_noise_share, args.clean_image_share, args.clean_condition_share
    return relate_levels(*torch.randint(1, timesteps, (2, B)), direction, shares, GIVEN_TIMESTEP)


if __name__ == "__main__":
    run_script(main)
