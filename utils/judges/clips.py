"""Training data of the video judge: clips with their facts, some of them damaged."""

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from utils.data.clip_frames import list_frames
from utils.data.video_records import METADATA
from utils.formats.text import read_json_lines
from utils.images import read_image
from utils.judges.damage import damage
from utils.judges.data import from_bytes
from utils.judges.video import CAMERAS, DAMAGES
from utils.scenes import COLORS
from utils.scenes.clips import REACHES

DAMAGED = 0.3  # share of the samples
REACH_FRAMES = 15  # frame steps of a camera's whole move: clips are planned for 16 frames


class Clips:
    """A data set of `utils.scenes.write_clips` in memory.

    Attributes:
        videos: uint8 (N, F, 3, H, W).
        facts: For each clip the values of `facts_of`.

    Raises:
        FileNotFoundError: There is no such data set.
        ValueError: Its metadata lacks the motion of camera and objects.
    """

    def __init__(self, folder: str | Path, count: int | None = None):
        folder = Path(folder)
        if not (folder / METADATA).is_file():
            raise FileNotFoundError(f"There are no clips in {folder}; write some with utils.scenes.write_clips.")
        rows = [row for _, row in read_json_lines(folder / METADATA)][:count]
        if any(not {"camera", "objects"} <= row.keys() for row in rows):
            raise ValueError(f"{folder} does not say how things move; write it with utils.scenes.write_clips.")
        self.videos = torch.stack([read_frames(folder / row["video_folder"]) for row in tqdm(rows, desc="read clips")])
        flows = (torch.from_numpy(np.load(folder / row["flow_file_name"])).float() for row in rows)
        width = self.videos.shape[-1]
        self.facts = [facts_of(row, flow, width) for row, flow in zip(rows, flows, strict=True)]

    def __len__(self) -> int:
        return len(self.videos)


class ClipJudgeDataset(Dataset):
    """Samples of the judge's training: every other one mirrored, every other one backwards, `DAMAGED` of them damaged.

    A sample has `video` (F, 3, H, W) in [-1, 1], `intact` (1 if it is not damaged: only then the facts hold) and the
    facts by name.
    """

    def __init__(self, clips: Clips):
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        mirrored, backwards, damaged = torch.rand(3).tolist()
        kind = int(torch.randint(1, len(DAMAGES), ())) if damaged < DAMAGED else 0
        return self.sample(index, mirrored < 0.5, backwards < 0.5, kind)

    def sample(
        self, index: int, mirrored: bool = False, backwards: bool = False, kind: int = 0
    ) -> dict[str, torch.Tensor]:
        """kind: Index into `DAMAGES`."""
        video, facts = from_bytes(self.clips.videos[index]), self.clips.facts[index]
        if mirrored:
            video, facts = video.flip(-1), mirror_facts(facts)
        if backwards:
            video, facts = video.flip(0), reverse_facts(facts)
        about = {"damage": torch.tensor(kind), "intact": torch.tensor(float(kind == 0))}
        return {"video": damage(video, DAMAGES[kind]), **facts, **about}


def facts_of(row: dict, flow: torch.Tensor, width: int) -> dict[str, torch.Tensor]:
    """Facts of a clip from its row of the metadata and its flow (F - 1, 2, H, W)."""
    moved = [row["camera"][name] * REACH_FRAMES / REACHES[name] for name in CAMERAS[1:]]
    kind = next((i for i, way in enumerate(moved, 1) if way), 0)
    speeds = [one["speed"] * width for one in row["objects"]]
    colors = {one["color"] for one in row["objects"]}
    return {
        "camera": torch.tensor(kind),
        "camera_way": torch.tensor(moved),
        "motion": flow.norm(dim=1).mean().log1p()[None],
        "direction": flow.mean(dim=(0, 2, 3)),
        "speed": torch.tensor(speeds).mean().log1p()[None],
        "count": torch.tensor(len(row["objects"]) - 1),
        "colors": torch.tensor([float(color in colors) for color in COLORS]),
    }


def mirror_facts(facts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Left and right exchanged: pan, truck and the flow's x change their sign, dolly and the flow's y do not."""
    signs = {"camera_way": torch.tensor([-1.0, -1.0, 1.0]), "direction": torch.tensor([-1.0, 1.0])}
    return {name: value * signs[name] if name in signs else value for name, value in facts.items()}


def reverse_facts(facts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Last frame first; the mean backward flow counts as minus the forward one, which it is but for borders."""
    return {name: -value if name in ("camera_way", "direction") else value for name, value in facts.items()}


def read_frames(folder: Path) -> torch.Tensor:
    """uint8 (F, 3, H, W)"""
    frames = np.stack([np.array(read_image(path)) for path in list_frames(folder)])
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()
