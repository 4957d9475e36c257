"""How good a judge is on scenes and clips that it was not trained on."""

import numpy as np
import torch

from utils.depth import read_depth
from utils.judges import AttributeJudge, DepthJudge
from utils.judges.clips import ClipJudgeDataset
from utils.judges.data import JudgeDataset, from_bytes
from utils.judges.video import DAMAGES, VideoJudge
from utils.metrics.attributes import score_objects
from utils.metrics.depth import depth_errors


@torch.no_grad()
def depth_metrics(judge: DepthJudge, dataset: JudgeDataset, indices: range, version: int) -> dict[str, float]:
    """Mean errors against the renderer's depth."""
    disparities = torch.cat([judge(pixels).float().cpu() for pixels in batches(judge, dataset, indices, version)])
    truths = [read_depth(dataset.scenes.depth_files[index]) for index in indices]
    errors = [depth_errors(d.numpy(), metres) for d, metres in zip(disparities, truths, strict=True)]
    return {"abs_rel": mean(e.abs_rel for e in errors), "delta1": mean(e.delta1 for e in errors)}


def attribute_metrics(judge: AttributeJudge, dataset: JudgeDataset, indices: range, version: int) -> dict[str, float]:
    """Shares that are right: colours and shapes of objects, and the number of objects."""
    found = [objects for pixels in batches(judge, dataset, indices, version) for objects in judge.read(pixels)]
    expected = [[(one["color"], one["shape"]) for one in dataset.scenes.objects[index]] for index in indices]
    scores = [score_objects(*pair) for pair in zip(found, expected, strict=True)]
    objects = sum(score.objects for score in scores)
    return {
        "color": sum(score.color for score in scores) / objects,
        "shape": sum(score.shape for score in scores) / objects,
        "count": mean(score.count for score in scores),
    }


@torch.no_grad()
def video_metrics(judge: VideoJudge, dataset: ClipJudgeDataset, indices: range) -> dict[str, float]:
    """Shares that are right: camera, number of objects, colours that are there or not, damage.

    Mean error of the motion, pixels.
    """
    intact = judged(judge, [dataset.sample(i) for i in indices])
    kinds = [i % len(DAMAGES) for i in indices]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        damaged = judged(judge, [dataset.sample(i, kind=kind) for i, kind in zip(indices, kinds, strict=True)])
    motion = [(said["motion"].expm1() - sample["motion"].expm1()).abs().item() for said, sample in intact]
    return {
        **{name: mean(said[name].argmax() == sample[name] for said, sample in intact) for name in ("camera", "count")},
        "colors": mean(((said["colors"] > 0) == sample["colors"].bool()).float().mean() for said, sample in intact),
        "motion": mean(motion),
        "damage": mean(said["damage"].argmax() == sample["damage"] for said, sample in damaged),
    }


def judged(judge: VideoJudge, samples: list[dict]) -> list[tuple[dict, dict]]:
    """What the judge says of each sample, with the sample."""
    device = next(judge.parameters()).device
    said = [{k: v[0].cpu() for k, v in judge(sample["video"][None].to(device)).items()} for sample in samples]
    return list(zip(said, samples, strict=True))


def batches(judge, dataset: JudgeDataset, indices: range, version: int):
    """Pixels (B, 3, H, W) of some scenes where the judge is."""
    device = next(judge.parameters()).device
    for values in dataset.versions[version][indices.start : indices.stop].split(50):
        yield from_bytes(values).to(device)


def mean(values) -> float:
    return float(np.mean(list(values)))
