"""Count the arithmetic of a Stable Diffusion UNet and of the joint attention, from the configuration.

python -m benchmarks.flops --models sd15 tiny_sd --latent_size 32

Floating point operations of matrix products, convolutions and attention, two for a multiplication with its addition.
Letters: N tokens and C channels of a self-attention, T tokens and D channels of the text, r ranks, p ranks of `post`.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch

import patch
from benchmarks.patch_forms import TOKENS, default_rank, make_base
from utils.arguments import make_parser, parse_args, positive_int, run_script

FORMS = ("joint", "joint, fused", "cached, fused")


@dataclass(frozen=True)
class Layer:
    """kind: "resnet", "convolution" (3x3) or "transformer", of one block."""

    kind: str
    before: int
    width: int
    tokens: int


@dataclass(frozen=True)
class Adapter:
    """A joint adapter with the output projection "fuse"."""

    rank: int
    post_rank: int


def main(argv=None) -> None:
    args = parse_args(parser(), argv)
    for model in args.models:
        with torch.device("meta"):
            config = make_base(model, "meta").config
        latent_size, rank = args.latent_size or min(config.sample_size, 32), args.rank or default_rank(model)
        print(f"\n{model}, {latent_size}x{latent_size} latents, rank {rank}: share of the base on the same rows")
        base = base_flops(config, latent_size)
        print_parts(f"base, {base.total() / 1e9:.1f} GFLOP a row", base, base.total())
        for form in FORMS:
            rows = 2 if form.startswith("cached") else 4
            extra = joint_flops(config, latent_size, Adapter(rank, 2 * rank), form)
            print_parts(form, extra, rows * base.total())


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument
    add("--models", nargs="+", default=["tiny_sd", "sd15"], help="sd15, tiny_sd, folders of pipelines")
    add("--latent_size", type=positive_int, help="side of the latents (default: the model's own, at most 32)")
    add("--rank", type=positive_int, help="rank of the LoRAs (default: 64, for tiny_sd 16)")
    return result


def print_parts(title: str, parts: Counter, base: int) -> None:
    shares = ", ".join(f"{part} {100 * flops / base:.1f}%" for part, flops in parts.items() if flops)
    print(f"{title}: {100 * parts.total() / base:.1f}% ({shares})")


def base_flops(config, latent_size: int) -> Counter:
    """Operations of the UNet for one row, by what they belong to."""
    first, time_width = config.block_out_channels[0], 4 * config.block_out_channels[0]
    ends = 9 * latent_size**2 * first * (config.in_channels + config.out_channels)
    parts = Counter({"convolutions": 2 * (ends + first * time_width + time_width**2)})
    for layer in layers(config, latent_size):
        if layer.kind == "transformer":
            parts += transformer_flops(layer.width, layer.tokens, config.cross_attention_dim, TOKENS)
        else:
            parts["convolutions"] += convolution_flops(layer, time_width)
    return parts


def layers(config, latent_size: int) -> Iterator[Layer]:
    """Layers of a UNet whose blocks are (CrossAttn)DownBlock2D and (CrossAttn)UpBlock2D, in their order."""
    widths, depth, size = config.block_out_channels, config.layers_per_block, latent_size
    width, skips = widths[0], [widths[0]]
    for i, kind in enumerate(config.down_block_types):
        for _ in range(depth):
            yield from stage(width, widths[i], size, "CrossAttn" in kind)
            width = widths[i]
            skips.append(width)
        if i < len(widths) - 1:
            size //= 2
            yield Layer("convolution", width, width, size**2)
            skips.append(width)
    yield from stage(width, width, size, True)
    yield Layer("resnet", width, width, size**2)
    for i, kind in enumerate(config.up_block_types):
        for _ in range(depth + 1):
            yield from stage(width + skips.pop(), widths[-1 - i], size, "CrossAttn" in kind)
            width = widths[-1 - i]
        if i < len(widths) - 1:
            size *= 2
            yield Layer("convolution", width, width, size**2)


def stage(before: int, width: int, size: int, attends: bool) -> Iterator[Layer]:
    yield Layer("resnet", before, width, size**2)
    if attends:
        yield Layer("transformer", width, width, size**2)


def convolution_flops(layer: Layer, time_width: int) -> int:
    weights = 9 * layer.before * layer.width
    if layer.kind == "convolution":
        return 2 * layer.tokens * weights
    shortcut = layer.before * layer.width if layer.before != layer.width else 0
    return 2 * (layer.tokens * (weights + 9 * layer.width**2 + shortcut) + time_width * layer.width)


def transformer_flops(C: int, N: int, D: int, T: int) -> Counter:
    return Counter(
        {
            "self-attention": 4 * N * N * C,
            "its projections": 8 * N * C * C,
            "cross-attention": 4 * N * T * C + 4 * N * C * C + 4 * T * D * C,
            "feed-forward": 24 * N * C * C + 4 * N * C * C,
        }
    )


def joint_flops(config, latent_size: int, adapter: Adapter, form: str) -> Counter:
    """What a form of `benchmarks.patch_forms` adds to the base, for all of its rows: two of x, and two of y or none."""
    sides, merges = (1, True) if form.startswith("cached") else (2, form.endswith("fused"))
    parts = Counter()
    for layer in layers(config, latent_size):
        if layer.kind == "transformer":
            C, N = layer.width, layer.tokens
            parts["joint attention"] += 2 * sides * 4 * N * N * C
            parts["its LoRAs"] += 2 * sides * (3 if sides == 2 else 1) * thin(C, C, N, adapter.rank)
            parts["its output"] += 2 * sides * output_flops(C, N, adapter, merges)
            if sides == 2:
                parts["y_lora"] += 2 * y_flops(C, N, config.cross_attention_dim, TOKENS, adapter.rank, merges)
    return parts


def thin(before: int, after: int, tokens: int, rank: int) -> int:
    return 2 * tokens * rank * (before + after)


def output_flops(C: int, N: int, adapter: Adapter, merges: bool) -> int:
    """Operations of one row: through the attention's own output projection and `post`, or through their product."""
    post = thin(C, C, N, adapter.post_rank)
    return post if merges else post + 2 * N * C * C + thin(C, C, N, adapter.rank)


def y_flops(C: int, N: int, D: int, T: int, rank: int, merges: bool) -> int:
    """Operations of a row of y: `y_lora` on q, k, v and out of both attentions, unless they are second matrices."""
    shared = 3 * thin(C, C, N, rank)
    others = 3 * thin(C, C, N, rank) + 2 * thin(D, C, T, rank)
    return shared if merges and 2 * rank >= patch.MERGED_FROM * C else shared + others


if __name__ == "__main__":
    run_script(main)
