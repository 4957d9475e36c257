"""Networks that judge images of the procedural world, for their depth and their objects, and one that judges clips."""

from utils.judges.networks import AttributeJudge, DepthJudge
from utils.judges.storage import load_judge, save_judge
from utils.judges.video import VideoJudge

__all__ = ["AttributeJudge", "DepthJudge", "VideoJudge", "load_judge", "save_judge"]
