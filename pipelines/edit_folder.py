"""The folder of a video edit: what is finished of it, so that a run that was stopped goes on.

settings.json                     what decides the result: arguments, and hashes of the inputs and the weights
keyframes/000008_before.png       the keyframe as it was, _after.png as it became, _mask.png where it was edited
segments/000000-000008/           the frames between two keyframes, 000001.png and on
"""

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from utils.commands.results import check_output_dir, write_png
from utils.files import replacing
from utils.images import read_image, to_image, to_pixels

SETTINGS = "settings.json"
CONTENT = "content"  # setting with the hashes of the inputs
PARTS = ("keyframes", "segments")
WRITTEN = re.compile(r"keyframes/\d{6,}_(before|after|mask)\.png|segments/\d{6,}-\d{6,}")


@dataclass(frozen=True)
class EditFolder:
    """The files of one edit, read and written.

    Attributes:
        root: Existing or not.
    """

    root: Path

    def check(self, settings: Mapping, overwrite: bool, inputs: Iterable[str | Path | None] = ()) -> None:
        """Raises FileExistsError where an edit with these settings can neither begin nor go on in the folder."""
        changed = self._changed(settings)
        if changed and not overwrite:
            name, before = changed
            held = f"with {name} {before!r}, not {settings.get(name)!r}"
            if name == CONTENT:
                held = "of what the video or mask held before" if before else "that an earlier version began"
            raise FileExistsError(
                f"--output_dir {self.root} holds an edit {held}: choose another folder, or pass --overwrite to begin "
                "anew."
            )
        begun = self._settings() is not None
        check_output_dir(self.root, overwrite or begun, inputs)
        for part in PARTS:
            if (self.root / part).exists() and not begun:
                raise FileExistsError(
                    f"--output_dir {self.root} has {part}, which no edit has written: choose another folder."
                )

    def open(self, settings: Mapping) -> None:
        """Begin, or go on where the settings are the same."""
        if self._settings() is not None and not self._changed(settings):
            return
        for path in self._parts():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with replacing(self.root / SETTINGS) as temporary:
            temporary.write_text(json.dumps(_plain(settings), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def has_keyframe(self, number: int) -> bool:
        """Whether it was edited."""
        return self._keyframe(number, "after").is_file()

    def write_keyframe(self, number: int, before, after, mask=None) -> None:
        """Write a keyframe (3, H, W) in [-1, 1] as it was and became, and where it was edited, (1, H, W) or None."""
        write_png(self._keyframe(number, "before"), to_image(before))
        if mask is not None:
            write_png(self._keyframe(number, "mask"), to_image(mask.expand(3, -1, -1) * 2 - 1))
        write_png(self._keyframe(number, "after"), to_image(after))  # last, as it says that all is there

    def read_keyframe(self, number: int) -> torch.Tensor:
        """The edited keyframe (3, H, W) in [-1, 1]."""
        return to_pixels(read_image(self._keyframe(number, "after")))

    def read_mask(self, number: int) -> torch.Tensor:
        """Where the keyframe was edited, (1, H, W) of 0 and 1."""
        return (to_pixels(read_image(self._keyframe(number, "mask")))[:1] > 0).float()

    def has_segment(self, start: int, end: int) -> bool:
        """Whether the frames between two keyframes are there; between neighbours there are none."""
        return end - start == 1 or self._segment(start, end).is_dir()

    def write_segment(self, start: int, frames: torch.Tensor) -> None:
        """Write the frames (F, 3, H, W) from a keyframe to the next; these two are left out."""
        end = start + len(frames) - 1
        with replacing(self._segment(start, end)) as temporary:
            for number, frame in enumerate(frames[1:-1], start=start + 1):
                write_png(temporary / f"{number:06}.png", to_image(frame))

    def read_video(self, keyframes: list[int]) -> torch.Tensor:
        """The whole video (F, 3, H, W) in [-1, 1]."""
        frames = [self.read_keyframe(keyframes[0])]
        for start, end in pairwise(keyframes):
            paths = [self._segment(start, end) / f"{number:06}.png" for number in range(start + 1, end)]
            frames += [*(to_pixels(read_image(path)) for path in paths), self.read_keyframe(end)]
        return torch.stack(frames)

    def _changed(self, settings: Mapping) -> tuple[str, object] | None:
        """Name and former value of a setting that is another one now."""
        before, now = self._settings(), _plain(settings)
        if before is None:
            return None
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        return (names[0], before.get(names[0])) if names else None

    def _settings(self) -> dict | None:
        """The settings of the edit in the folder; None without one.

        Raises:
            FileExistsError: They are not those of an edit.
        """
        path = self.root / SETTINGS
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if not isinstance(found, dict) or "input_video" not in found:
            raise FileExistsError(f"{path} is not of an edit: choose another --output_dir.")
        return found

    def _parts(self) -> list[Path]:
        """Keyframes and segments in the folder; other files beside them are not an edit's."""
        found = [path for part in PARTS for path in (self.root / part).glob("*")]
        return [path for path in found if WRITTEN.fullmatch(f"{path.parent.name}/{path.name}")]

    def _keyframe(self, number: int, what: str) -> Path:
        return self.root / "keyframes" / f"{number:06}_{what}.png"

    def _segment(self, start: int, end: int) -> Path:
        return self.root / "segments" / f"{start:06}-{end:06}"


def _plain(settings: Mapping) -> dict:
    """As JSON gives them back."""
    return json.loads(json.dumps(dict(settings), default=str))
