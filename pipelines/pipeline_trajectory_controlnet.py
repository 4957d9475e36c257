"""Videos that follow dragged points, by a ControlNet of `train_trajectory.py`.

tracks -> control maps, which the ControlNet reads, and the image warped by a guess of the motion, which conditions
the base frame by frame
"""

from collections.abc import Sequence

import torch

from pipelines.pipeline_stable_video_diffusion import Images
from pipelines.pipeline_stable_video_diffusion_controlnet import StableVideoDiffusionControlNetPipeline
from pipelines.track_inputs import check_tracks
from pipelines.video_inputs import VideoInputs
from utils.diffusion.sampling import VideoSampling
from utils.tracks import Tracks
from utils.tracks.control_map import track_control
from utils.tracks.guess import track_images


class StableVideoDiffusionTrajectoryControlNetPipeline(StableVideoDiffusionControlNetPipeline):
    """Stable Video Diffusion that moves points along tracks.

    pipe = StableVideoDiffusionTrajectoryControlNetPipeline.from_pretrained("weights/tiny_svd")
    pipe.load_controlnet("weights/trajectory")
    tracks = read_track_file("tracks.json", *image.size).on_video(num_frames=8, width=64, height=64)
    frames = pipe(image, tracks).frames[0]     # PIL images
    """

    @torch.no_grad()
    def prepare(
        self, image: Images, sampling: VideoSampling | None, tracks: Tracks | Sequence[Tracks], **options
    ) -> VideoInputs:
        """As of `StableVideoDiffusionControlNetPipeline`, with tracks in place of a control.

        Args:
            tracks: For all images, or one for each; of the images' size. They decide the number of frames.
            options: Of the base class: controlnet_conditioning_scale, …; with 0 the base has the warped images
                alone.

        Raises:
            ValueError: What was passed cannot be sampled.
        """
        pixels = self.check_pixels(image)
        tracks = check_tracks(tracks, pixels)
        frames = [track_images(*known) for known in zip(tracks, pixels.cpu(), strict=True)]
        control = torch.stack([track_control(one) for one in tracks])
        shape = {"num_frames": tracks[0].num_frames, "image_frames": torch.stack(frames)}
        return super().prepare(pixels, sampling, control, **shape, **options)
