"""What sampling needs to know of a joint adapter of video and flow besides its weights."""

from dataclasses import dataclass

from utils.flow.code import FlowCode


@dataclass(frozen=True)
class FlowAdapter:
    """How an adapter was trained.

    Attributes:
        name: In the network.
        code: How its flow is encoded.
        one_way: Whether it was also trained with sides that do not read the other; if not, both always read.
        flow_alone: Whether it was also trained to draw a flow that reads no video, and a video by such a flow.
        moved_picture: Whether a video whose flow is given is told the first image as that flow moves it.
        found_flow: Whether a flow whose video is given is told the flow that DIS finds in that video, in place of the first image.
    """

    name: str
    code: FlowCode
    one_way: bool = True
    flow_alone: bool = False
    moved_picture: bool = False
    found_flow: bool = False

    @classmethod
    def from_training(cls, name: str, code: FlowCode, training: dict) -> "FlowAdapter":
        """By what `train_flow_video.py` was told; adapters older than one of its flags were trained without."""
        one_way = training.get("one_way_share", 0) > 0
        flow_alone = one_way and training.get("flow_alone_share", 0) > 0
        moved_picture, found_flow = (training.get(flag, False) for flag in ("moved_picture", "found_flow"))
        return cls(name, code, one_way, flow_alone, moved_picture, found_flow)
