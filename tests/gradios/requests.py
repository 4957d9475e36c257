"""Smallest requests to the pages, by their names, and what comes back."""

import json
import shlex
import zipfile

VIDEO = {
    "num_inference_steps": 1, "max_guidance_scale": 1, "motion_bucket_id": 127, "fps": 7, "num_frames": 0, "seed": 0,
    "base": "",
}  # fmt: skip
SMALLEST = {
    "depth_image": {
        "image": None, "depth": None, "edges": None, "prompt": "a", "negative_prompt": "", "image_strength": 0,
        "condition_strength": 0, "with_edges": False, "pairs": 1, "num_inference_steps": 2, "guidance_scale": 2,
        "condition_guidance_scale": 0, "seed": 0, "base": "", "adapters": "",
    },
    "depth_video": {"video": None, "base": "", "estimator": ""},
    "trajectory": {
        "image": None, "tracks": '{"tracks": [[[8, 8], [12.5, 8]]]}', "camera": "", "camera_speed": 1,
        "method": "controlnet", **VIDEO, "controlnet": "", "adapter": "",
    },
    "flow_video": {
        "mode": "joint", "image": None, "flows": None, "video": None, "flow_strength": 0.6, **VIDEO, "adapter": "",
    },
    "interpolation": {
        "first": None, "middle": None, "last": None, "loop": False, "total_frames": 0, **VIDEO, "adapter": "",
    },
    "keyframe_edit": {
        "video": None, "source_prompt": "a", "prompt": "b", "find_mask": False, "keyframe_interval": 2,
        "structure": "strength", "edit_steps": 2, "edit_guidance_scale": 2, **VIDEO, "image_model": "",
        "depth_adapter": "", "adapter": "",
    },
}  # fmt: skip


def ask(name: str, **values) -> dict:
    """A request with other values."""
    return {"api_name": f"/{name}"} | SMALLEST[name] | values


def unpack(archive, folder) -> dict:
    """Unpack what was downloaded into a folder; the record in it."""
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    return json.loads((folder / "run.json").read_text())


def arguments(record: dict, folders: dict) -> list[str]:
    """Those of the command in a record, with the folders of models that it names without their places."""
    words = shlex.split(record["command"])[2:]
    return [_placed(word, folders) for word in words]


def _placed(word: str, folders: dict) -> str:
    flag, equals, value = word.rpartition("=")
    return f"{flag}{equals}{folders[value]}" if value in folders and flag != "--method" else word
