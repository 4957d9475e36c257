"""Latents and text embeddings, encoded once and kept on disk (`--cache_latents`).

A cache is a folder whose name is a hash of everything that decides its content: files, captions, resolution, and the
weights of the encoder. Changed inputs therefore give another folder, and an unchanged one is used again. Mean and
standard deviation of the posterior are kept, not a draw of it, so that training samples it anew at each access as it
would without a cache.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from utils.data.geometry import Geometry
from utils.data.pairs import PairDataset
from utils.data.records import Record
from utils.files import replacing
from utils.formats.folders import IMAGE_SUFFIXES, list_files
from utils.processes import process_state

SIDES = {"pixel_values": "latents", "conditioning_pixel_values": "conditioning_latents"}


def add_cache_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--cache_latents` and `--cache_dir`; a script that has them calls `cache_latents` and `cache_texts`."""
    parser.add_argument(
        "--cache_latents", action="store_true", help="encode images and captions once, cropped at the centre"
    )
    parser.add_argument("--cache_dir", default="cache", help="folder of all caches")


class CachedPairs(Dataset):
    """The samples of a `PairDataset` as latents.

    A sample has `latents` (C, h, w), `conditioning_latents` where there is a condition, and `caption`. They are samples
    of the posterior, float32, not yet multiplied by the autoencoder's scaling factor.
    """

    def __init__(self, folder: Path, captions: list[str]):
        self.captions = captions
        # (N, flips, mean and std, C, h, w)
        self.arrays = {path.stem: np.load(path, mmap_mode="r") for path in list_files(folder, {".npy"})}

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> dict:
        flips = next(iter(self.arrays.values())).shape[1]
        flip = int(torch.randint(flips, ()))
        sample = {name: draw_posterior(array[index, flip]) for name, array in self.arrays.items()}
        return {**sample, "caption": self.captions[index]}


def cache_latents(dataset: PairDataset, vae: nn.Module, cache_dir: str | Path, batch_size: int = 8) -> CachedPairs:
    """Encode a data set once.

    The crop is the centre, since a random one has no latent to keep; mirrored samples are encoded as well where the
    data set flips.

    Args:
        dataset: Images, with or without a condition.
        vae: An `AutoencoderKL`; moved to the training device.
        cache_dir: Folder of all caches.
    """
    key = cache_key(
        _content(dataset), [dataset.resolution, dataset.condition, dataset.random_flip], weights_digest(vae)
    )
    folder = Path(cache_dir) / f"latents-{key}"
    build_once(folder, lambda temporary: _write_latents(dataset, vae, temporary, batch_size))
    return CachedPairs(folder, [record.caption for record in dataset.records])


class CachedTexts(Mapping):
    """From a text to its embedding (L, D), float32; raises KeyError for a text that was not cached."""

    def __init__(self, folder: Path):
        self.rows = {text: row for row, text in enumerate(json.loads((folder / "texts.json").read_text()))}
        self.array = np.load(folder / "embeddings.npy", mmap_mode="r")

    def __getitem__(self, text: str) -> torch.Tensor:
        return torch.from_numpy(self.array[self.rows[text]].astype(np.float32))

    def __iter__(self):
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def cache_texts(
    texts: Iterable[str],
    text_encoder: nn.Module,
    encode: Callable[[list[str]], torch.Tensor],
    cache_dir: str | Path,
    batch_size: int = 64,
) -> CachedTexts:
    """Embed each different text once.

    Args:
        texts: All texts of a training, the empty one of dropped prompts and those with a trigger word included.
        text_encoder: The network behind `encode`; its weights name the cache, and it is moved to the training device.
        encode: From B texts to embeddings (B, L, D).
        cache_dir: Folder of all caches.
    """
    texts = sorted(set(texts))
    folder = Path(cache_dir) / f"texts-{cache_key(texts, weights_digest(text_encoder))}"
    build_once(folder, lambda temporary: _write_texts(texts, text_encoder, encode, temporary, batch_size))
    return CachedTexts(folder)


def encode_pair(batch: dict, vae: nn.Module) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Scaled latents (B, C, h, w) of image and condition, from a batch of pixels or of cached latents."""
    image, condition = (_latents(batch, vae, pixels, latents) for pixels, latents in SIDES.items())
    return image, condition


@torch.no_grad()
def _latents(batch: dict, vae: nn.Module, pixels: str, latents: str) -> torch.Tensor | None:
    if latents in batch:
        values = batch[latents].to(vae.dtype)
    elif pixels in batch:
        values = vae.encode(batch[pixels].to(vae.dtype)).latent_dist.sample()
    else:
        return None
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    return (values - shift) * vae.config.scaling_factor


def draw_posterior(posterior: np.ndarray) -> torch.Tensor:
    """A sample (C, h, w), float32 and not scaled, of a posterior (2, C, h, w): mean and standard deviation."""
    mean, std = torch.from_numpy(posterior.astype(np.float32))
    return mean + std * torch.randn_like(mean)


def build_once(folder: Path, write: Callable[[Path], None]) -> None:
    """Build a cache in the first process of a machine while the others wait."""
    with process_state().local_main_process_first():
        if folder.is_dir():
            return
        with replacing(folder) as temporary:
            temporary.mkdir()
            write(temporary)


@torch.no_grad()
def _write_latents(dataset: PairDataset, vae: nn.Module, folder: Path, batch_size: int) -> None:
    vae.to(process_state().device)
    flips = (False, True) if dataset.random_flip else (False,)
    arrays = {}
    for start in tqdm(range(0, len(dataset), batch_size), desc="encode images"):
        indices = range(start, min(start + batch_size, len(dataset)))
        for flip, mirrored in enumerate(flips):
            samples = [dataset.sample(i, Geometry(dataset.resolution, flip=mirrored)) for i in indices]
            for pixels, latents in SIDES.items():
                if pixels not in samples[0]:
                    continue
                values = posterior_moments(vae, torch.stack([sample[pixels] for sample in samples]))
                if latents not in arrays:
                    shape = (len(dataset), len(flips), *values.shape[1:])
                    arrays[latents] = np.lib.format.open_memmap(folder / f"{latents}.npy", "w+", np.float16, shape)
                arrays[latents][indices.start : indices.stop, flip] = values
    for array in arrays.values():
        array.flush()


def posterior_moments(vae: nn.Module, pixels: torch.Tensor) -> np.ndarray:
    """Mean and standard deviation, (B, 2, C, h, w)."""
    posterior = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist
    return torch.stack([posterior.mean, posterior.std], dim=1).float().cpu().numpy()


@torch.no_grad()
def _write_texts(texts: list[str], text_encoder: nn.Module, encode, folder: Path, batch_size: int) -> None:
    text_encoder.to(process_state().device)
    starts = tqdm(range(0, len(texts), batch_size), desc="encode texts")
    parts = [encode(texts[start : start + batch_size]).to(torch.float16).cpu().numpy() for start in starts]
    np.save(folder / "embeddings.npy", np.concatenate(parts))
    (folder / "texts.json").write_text(json.dumps(texts))


def cache_key(*parts) -> str:
    """16 hexadecimal digits that name a cache; parts: JSON values that decide its content."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _content(dataset: PairDataset) -> list:
    """What tells one state of a data set from another without reading its images: files, and what depth holds."""
    files = [[file_state(path) for path in _paths(record) if path] for record in dataset.records]
    kinds = [record.depth_kind if dataset.condition == "depth" else "" for record in dataset.records]
    return [files, kinds]


def _paths(record: Record) -> tuple:
    return record.image, record.depth, record.paired


def file_state(path: Path) -> list:
    """What tells one state of a file from another without reading it: place, size, time; for a folder of all frames."""
    if path.is_dir():
        return [str(path.resolve()), [[file.name, *_size_and_time(file)] for file in list_files(path, IMAGE_SUFFIXES)]]
    return [str(path.resolve()), *_size_and_time(path)]


def _size_and_time(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def weights_digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
