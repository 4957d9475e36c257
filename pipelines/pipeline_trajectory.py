"""Videos that follow dragged points, by the joint model of video and flow.

    coarse    tracks -> dense flow by interpolation -> the flow starts from a partly noised version of it
    guided    the flow starts from noise and is led to the tracks at every step, where they say something and nowhere else

In both the video is drawn with the flow or after it, as `StableVideoDiffusionJointPipeline` does.
"""

from collections.abc import Sequence

import torch

from pipelines.pipeline_stable_video_diffusion import Images
from pipelines.pipeline_stable_video_diffusion_joint import FlowVideoOutput, StableVideoDiffusionJointPipeline
from pipelines.steering import FlowSteer, Guidance
from utils.tracks import Tracks, dense_flow, known_flow, point_discs
from utils.tracks.guess import track_flow

METHODS = ("coarse", "guided")
INTERPOLATIONS = ("edge_aware", "distance")


class StableVideoDiffusionTrajectoryPipeline(StableVideoDiffusionJointPipeline):
    """Stable Video Diffusion that moves points along tracks.

    pipe = StableVideoDiffusionTrajectoryPipeline.from_pretrained("weights/tiny_svd")
    pipe.load_flow_adapter("outputs/flow_video/flow.safetensors")
    tracks = read_track_file("tracks.json", *image.size).on_video(num_frames=8, width=64, height=64)
    out = pipe(image, tracks)     # out.frames[0], PIL pictures; out.flows[0], (F - 1, 2, H, W)
    """

    def __call__(
        self,
        image: Images,
        tracks: Tracks | Sequence[Tracks],
        method: str = "coarse",
        interpolation: str = "edge_aware",
        guidance: Guidance | None = None,
        reach: float | None = None,
        radius: float | None = None,
        **sampling,
    ) -> FlowVideoOutput:
        """Videos with their flow that begin with pictures and follow tracks.

        Args:
            image: As of `StableVideoDiffusionEDMPipeline`.
            tracks: For all pictures, or one for each; of the pictures' size. They decide the number of frames.
            method: "coarse" or "guided".
            interpolation: Of "coarse": what a point lies on moves as a whole ("edge_aware", `utils/tracks/heuristic_flow.py`), or its
                motion falls off with the distance alone ("distance", `dense_flow`).
            guidance: Of "guided"; by default `Guidance()`.
            reach: Of "distance" and of "guided" under a camera: pixels over which a track's motion falls off.
            radius: Of the disc around a point, in pixels, in which its motion is known.
            sampling: Further arguments of `StableVideoDiffusionJointPipeline`, for a video that is sampled from noise. flow_strength is of "coarse" alone;
                with 0, the default, the guess is given: it is run once and cached, and measures best with `weights/flow_video`.

        Raises:
            ValueError: What was passed cannot be drawn, or moves faster than the adapter's flow can say.
        """
        if method not in METHODS:
            raise ValueError(f"method={method!r} is unknown: choose one of {', '.join(METHODS)}.")
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation={interpolation!r} is unknown: choose one of {', '.join(INTERPOLATIONS)}.")
        if sampling.get("video") is not None:
            raise ValueError("A video that follows tracks is drawn from noise: leave video out.")
        self.check_adapter()
        tracks = self.check_tracks(image, tracks)
        if method == "coarse":
            flow = self.guess_flow(image, tracks, interpolation, reach, radius)
            self.check_speed(flow)
            return super().__call__(image, flow=flow, **sampling)
        flow, known = (
            torch.stack(parts) for parts in zip(*(known_flow(t, radius, reach) for t in tracks), strict=True)
        )
        self.check_speed(flow)
        discs = torch.stack([point_discs(one, radius) for one in tracks])
        device = self._execution_device
        steer = FlowSteer(self, flow.to(device), known.to(device), guidance or Guidance(), discs.to(device))
        return super().__call__(image, num_frames=tracks[0].num_frames, steer=steer, **sampling)

    def guess_flow(self, image: Images, tracks: list[Tracks], interpolation: str, reach, radius) -> torch.Tensor:
        """Dense flow (B, F - 1, 2, H, W) in pixels."""
        if interpolation == "distance":
            return torch.stack([dense_flow(one, reach, radius) for one in tracks])
        pixels = self.check_pixels(image).cpu()
        return torch.stack([track_flow(*known, radius) for known in zip(tracks, pixels, strict=True)])

    def check_tracks(self, image: Images, tracks: Tracks | Sequence[Tracks]) -> list[Tracks]:
        """Those of each picture, of its size and of one length."""
        B, _, H, W = self.check_pixels(image).shape
        tracks = [tracks] * B if isinstance(tracks, Tracks) else list(tracks)
        if len(tracks) != B:
            raise ValueError(
                f"There are tracks for {len(tracks)} videos and {B} pictures: pass one for each, or one for all."
            )
        for one in tracks:
            if (one.width, one.height) != (W, H):
                raise ValueError(
                    f"The tracks are of {one.width}x{one.height} pixels and the picture of {W}x{H}: see Tracks.resized."
                )
            if one.num_frames != tracks[0].num_frames:
                raise ValueError(
                    f"Tracks of {tracks[0].num_frames} and of {one.num_frames} frames cannot be drawn together."
                )
        return tracks

    def check_speed(self, flow: torch.Tensor) -> None:
        fastest, largest = float(flow.abs().max()), self.flow_adapter.code.picture.max_flow
        if fastest > largest * (1 + 1e-6):
            raise ValueError(
                f"Something is to move {fastest:.1f} pixels from one frame to the next and the adapter's flow holds "
                f"{largest:g}: take more frames, shorter tracks or a slower camera."
            )
