"""Videos that follow dragged points, by the joint model of video and flow.

    coarse    tracks -> dense flow by interpolation -> the flow starts from a partly noised version of it
    guided    the flow starts from noise and is guided to the tracks at every step, at the pixels that they decide

In both the video is sampled with the flow or after it, as `StableVideoDiffusionJointPipeline` does. Videos that
follow points by a ControlNet are made by `pipelines/pipeline_trajectory_controlnet.py`.
"""

from collections.abc import Sequence

import torch

from pipelines.pipeline_stable_video_diffusion import Images
from pipelines.pipeline_stable_video_diffusion_joint import StableVideoDiffusionJointPipeline
from pipelines.steering import FlowSteer, Steering
from pipelines.track_inputs import check_tracks
from pipelines.video_inputs import FlowVideoInputs
from utils.commands.settings import check
from utils.diffusion.sampling import VideoSampling
from utils.tracks import Tracks, dense_flow, known_flow, point_discs
from utils.tracks.guess import track_flow

METHODS = ("coarse", "guided")
INTERPOLATIONS = ("edge_aware", "distance")


class StableVideoDiffusionTrajectoryPipeline(StableVideoDiffusionJointPipeline):
    """Stable Video Diffusion that moves points along tracks.

    pipe = StableVideoDiffusionTrajectoryPipeline.from_pretrained("weights/tiny_svd")
    pipe.load_flow_adapter("outputs/flow_video/flow.safetensors")
    tracks = read_track_file("tracks.json", *image.size).on_video(num_frames=8, width=64, height=64)
    out = pipe(image, tracks)     # out.frames[0], PIL images; out.flows[0], (F - 1, 2, H, W)
    """

    @torch.no_grad()
    def prepare(
        self,
        image: Images,
        sampling: VideoSampling | None,
        tracks: Tracks | Sequence[Tracks],
        method: str = "coarse",
        *,
        interpolation: str = "edge_aware",
        reach: float | None = None,
        radius: float | None = None,
        **options,
    ) -> FlowVideoInputs:
        """As of `StableVideoDiffusionJointPipeline`, for a video that is sampled from noise and follows tracks.

        Args:
            tracks: For all images, or one for each; of the images' size. They decide the number of frames.
            method: "coarse" or "guided".
            interpolation: Of "coarse": what a point lies on moves as a whole ("edge_aware",
                `utils/tracks/heuristic_flow.py`), or its motion falls off with the distance alone ("distance",
                `dense_flow`).
            reach: Of "distance" and of "guided" under a camera: pixels over which a track's motion falls off.
            radius: Of the disc around a point, in pixels, in which its motion is known.
            options: Fields of `Steering` for "guided", and arguments of the base class. flow_strength is of "coarse"
                alone; with 0, the default, the guess is given: it is run once and cached, and measures best with
                `weights/flow_video`.

        Raises:
            ValueError: What was passed cannot be sampled, or moves faster than the adapter's flow can say.
        """
        check("method", method, str, choices=METHODS)
        check("interpolation", interpolation, str, choices=INTERPOLATIONS)
        for name, pixels in (("reach", reach), ("radius", radius)):
            check(name, pixels, above=0, optional=True)
        if options.get("video") is not None:
            raise ValueError("A video that follows tracks is sampled from noise: leave video out.")
        steering, options = Steering.take(options)
        pixels = self.check_pixels(image)
        tracks = check_tracks(tracks, pixels)
        if method == "coarse":
            flow = guess_flow(pixels, tracks, interpolation, reach, radius)
            return super().prepare(pixels, sampling, flow=flow, **options)
        steer = self.steer_along(tracks, steering, reach, radius, options.get("decode_chunk_size"))
        return super().prepare(pixels, sampling, num_frames=tracks[0].num_frames, steer=steer, **options)

    def steer_along(
        self, tracks: Sequence[Tracks], steering: Steering, reach, radius, decode_chunk_size: int | None
    ) -> FlowSteer:
        """The function that guides the flow to the tracks at the pixels that they decide."""
        self.check_adapter()
        flow, known = (
            torch.stack(parts) for parts in zip(*(known_flow(one, radius, reach) for one in tracks), strict=True)
        )
        self.check_speed(flow)
        discs = torch.stack([point_discs(one, radius) for one in tracks])
        device = self._execution_device
        return FlowSteer(self, flow.to(device), known.to(device), steering, discs.to(device), decode_chunk_size)


def guess_flow(
    pixels: torch.Tensor, tracks: Sequence[Tracks], interpolation: str, reach: float | None, radius: float | None
) -> torch.Tensor:
    """Dense flow (B, F - 1, 2, H, W) in pixels by tracks and images (B, 3, H, W)."""
    if interpolation == "distance":
        return torch.stack([dense_flow(one, reach, radius) for one in tracks])
    return torch.stack([track_flow(*known, radius) for known in zip(tracks, pixels.cpu(), strict=True)])
