"""Networks that judge pictures of the procedural world: their depth, and the objects in them."""

from utils.judges.networks import AttributeJudge, DepthJudge
from utils.judges.storage import load_judge, save_judge

__all__ = ["AttributeJudge", "DepthJudge", "load_judge", "save_judge"]
