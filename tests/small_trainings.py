"""Trainings small enough for tests: their flags, and a network that keeps what it sees."""

import torch

from tests.flags import flags

SIZE, F = 32, 3
VIDEO = {
    "num_frames": F, "height": SIZE, "width": SIZE, "train_batch_size": 2, "max_train_steps": 2, "learning_rate": 1e-2,
    "num_inference_steps": 1,
}  # fmt: skip
IMAGE = {"resolution": SIZE, "train_batch_size": 4, "max_train_steps": 2, "learning_rate": 1e-2, "rank": 2}


class Seen(torch.nn.Module):
    """A video UNet, with or without a control, that keeps what it is given, and predicts `value`."""

    def __init__(self, value: float = 0.0):
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(value))

    def forward(self, inputs, timestep, embeddings, added_time_ids, control=None, return_dict=False):
        self.inputs, self.timestep, self.embeddings, self.ids = inputs, timestep, embeddings, added_time_ids
        self.control = control
        self.output = torch.zeros_like(inputs[:, :, :4]) + self.value
        self.output.retain_grad()
        return (self.output,)


def arguments(script, *more, **values):
    """Parsed flags of a training on videos of this size."""
    sizes = {"num_frames": F, "height": SIZE, "width": SIZE}
    return script.make_parser().parse_args(
        flags(*more, **{"train_data_dir": "d", "output_dir": "o", **sizes, **values})
    )


def clip_batch(size: int) -> dict[str, torch.Tensor]:
    """What every training on clips reads of a batch of cached ones, by a fixed seed; draw the rest after it."""
    torch.manual_seed(0)
    return {
        "latents": torch.randn(size, F, 4, SIZE // 4, SIZE // 4),
        "image": torch.rand(size, 3, SIZE, SIZE) * 2 - 1,
        "fps": torch.full((size,), 8.0),
        "motion_bucket_id": torch.full((size,), 100),
    }
