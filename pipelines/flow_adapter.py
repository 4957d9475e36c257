"""What sampling needs to know of a joint adapter of video and flow besides its weights."""

from dataclasses import dataclass

from utils.flow.code import FlowCode

FLOW_SAMPLING = {
    "max_guidance_scale": 1.0,
    "solver_order": 2,
}  # of flow by itself: as it was learned, and as far as it goes


@dataclass(frozen=True)
class FlowAdapter:
    """How an adapter was trained.

    Attributes:
        name: In the network.
        code: How its flow is encoded.
        one_way: Whether it was also trained with sides that do not read the other; if not, both always read.
        flow_alone: Whether it was also trained to draw a flow that reads no video, and a video by such a flow.
        moved_picture: Whether a video whose flow is given is told the first image as that flow moves it.
        told_motion: Whether it was told each clip's motion bucket, not one for all.
    """

    name: str
    code: FlowCode
    one_way: bool = True
    flow_alone: bool = False
    moved_picture: bool = False
    told_motion: bool = True

    @property
    def flow_guidance_scale(self) -> float:
        """With which flow drawn alone moves as true flow does, measured with `weights/flow_video`; away from motion that it never was told it would lead nowhere."""
        return 1.2 if self.told_motion else 1.0

    @classmethod
    def from_training(cls, name: str, code: FlowCode, training: dict) -> "FlowAdapter":
        """By what `train_flow_video.py` was told; adapters older than one of its flags were trained without.

        Flow learned alone is kept by what trains after it; all else is as the last training of pairs had it.
        """
        stages = [training]
        while earlier := stages[-1].get("began_as"):
            stages.append(earlier)
        pairs = next((stage for stage in stages if _trains_pairs(stage)), {})
        one_way = pairs.get("one_way_share", 0) > 0
        return cls(
            name,
            code,
            one_way,
            any(_trains_flow_alone(stage) for stage in stages),
            pairs.get("moved_picture", False),
            not training.get("fixed_motion_bucket", False),
        )


def _counts_batches(training: dict) -> bool:
    """Whether its --flow_alone_share is one of all batches; before, it was one of pairs that read one way."""
    return "init_adapter" in training


def _trains_pairs(training: dict) -> bool:
    return not _counts_batches(training) or training["flow_alone_share"] < 1


def _trains_flow_alone(training: dict) -> bool:
    share = training.get("flow_alone_share", 0)
    return share > 0 if _counts_batches(training) else training.get("one_way_share", 0) > 0 and 0 < share < 1
