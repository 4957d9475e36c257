"""Smallest requests to the pages, by their names."""

SMALLEST = {
    "depth_image": {
        "image": None, "depth": None, "edges": None, "prompt": "a", "negative_prompt": "", "image_strength": 0,
        "condition_strength": 0, "with_edges": False, "pairs": 1, "num_inference_steps": 2, "guidance_scale": 2,
        "condition_guidance_scale": 0, "seed": 0, "base": "", "adapters": "",
    },
}  # fmt: skip


def ask(name: str, **values) -> dict:
    """A request with other values."""
    return SMALLEST[name] | values
