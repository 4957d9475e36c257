"""How an adapter of video and flow was trained, which sampling has to know besides its weights."""

from dataclasses import dataclass

from utils.diffusion.one_step import ONE_STEP
from utils.diffusion.sampling import VideoSampling
from utils.flow.code import FlowCode
from utils.weights.lora import read_training
from utils.weights.model_kinds import check_adapter, check_lora, joint_names

# Of flow of a given video in one step: the numbers of the condition are those of the training.
ESTIMATION = VideoSampling(num_inference_steps=1, max_guidance_scale=1.0, noise_aug_strength=0.05)
STANDSTILL = 0  # motion bucket that guidance of flow by itself leads away from
# Of flow by itself: no guidance, as a LoRA was trained, and the solver that does not underestimate motion.
FLOW_ALONE = {"max_guidance_scale": 1.0, "solver_order": 2}


@dataclass(frozen=True)
class FlowAdapter:
    """What the training of an adapter of video and flow says about how to sample with it.

    Attributes:
        name: Of the adapter in the network.
        code: How its flow is encoded.
        one_way: Whether it was also trained with sides that do not read the other; if not, both always read.
        flow_alone: Whether it was also trained on a flow that reads no video, and on a video by such a flow.
        moved_image: Whether a video whose flow is given is conditioned on the first frame warped by that flow.
        seen_video: Whether a flow whose video is given is conditioned on all of its frames, not on the first one alone.
        motion_buckets: Whether it was trained with the motion bucket of each clip, not with one for all.
        lora: Whether it is a plain LoRA on the base and has no joint attention.
        one_step: Whether it estimates the flow of a given video in one deterministic step, and samples nothing.
    """

    name: str
    code: FlowCode
    one_way: bool = True
    flow_alone: bool = False
    moved_image: bool = False
    seen_video: bool = False
    motion_buckets: bool = True
    lora: bool = False
    one_step: bool = False

    @property
    def flow_guidance_scale(self) -> float:
        """The default guidance scale of flow that is sampled without its video.

        With it such flow moves as far as true flow does, measured with `weights/flow_video`. Guidance leads away from
        motion bucket 0, so that an adapter trained with one bucket for all has none; a plain LoRA, with which it was
        not measured, has none either.
        """
        return 1.1 if self.motion_buckets and not self.lora else 1.0

    @property
    def sampling_alone(self) -> dict:
        """Values of `VideoSampling` with which it samples flow by itself, as flow that comes before its video."""
        if (scale := self.flow_guidance_scale) <= 1:
            return FLOW_ALONE
        guidance = {"min_guidance_scale": scale, "max_guidance_scale": scale, "negative_motion_bucket_id": STANDSTILL}
        return FLOW_ALONE | guidance

    def check_unread(self, **others) -> None:
        """Raises ValueError where an estimate in one step would not read a value that is no default.

        Args:
            others: By name, the value and its default.
        """
        unread = [name for name, (value, default) in others.items() if repr(value) != repr(default)]
        if unread:
            raise ValueError(
                f"This adapter estimates flow in one step and does not read {', '.join(unread)}: leave it out, or load "
                "a joint adapter of train_flow_video.py."
            )

    @classmethod
    def from_lora(cls, name: str, path) -> "FlowAdapter":
        """Of a LoRA of `train_svd_flow.py --objective one_step`.

        Raises:
            ValueError: It was trained on something else.
        """
        training = read_training(path)
        if training.get("objective") != ONE_STEP:
            raise ValueError(
                f"{path} is a LoRA that was not trained with --objective one_step: pass one that was, or a joint "
                "adapter of train_flow_video.py."
            )
        return cls(name, FlowCode.from_training(training), lora=True, one_step=True)

    @classmethod
    def alone(cls, path, flag: str) -> "FlowAdapter":
        """Of weights that sample flow by itself, which `load_lora` loads.

        Args:
            path: Of a LoRA of `train_svd_flow.py`, or of a joint adapter that was trained on flow alone as well.
            flag: What the user passed it by, such as "--lora".

        Raises:
            FileNotFoundError: There is no such file or folder.
            ValueError: They do not sample flow by itself.
        """
        if not joint_names(path):
            check_lora(path, "train_svd_flow.py, or a joint adapter of train_flow_video.py,", flag, flow=True)
            training = read_training(path)
            if training.get("objective") == ONE_STEP:
                raise ValueError(
                    f"{flag} {path} estimates the flow of a video: pass it to run_flow_video.py --mode video_to_flow "
                    "as --adapter."
                )
            return cls("default", FlowCode.from_training(training), flow_alone=True, lora=True)
        check_adapter(path, "UNetSpatioTemporalConditionModel", "train_flow_video.py", flag)
        training = read_training(path)
        adapter = cls.from_training("default", FlowCode.from_training(training), training)
        if not adapter.flow_alone:
            raise ValueError(
                f"{flag} {path} has not learned flow alone: pass a joint adapter trained with --flow_alone_share above "
                "0, or a LoRA of train_svd_flow.py."
            )
        return adapter

    @classmethod
    def from_training(cls, name: str, code: FlowCode, training: dict) -> "FlowAdapter":
        """By the arguments of `train_flow_video.py`; adapters older than one of its flags were trained without it.

        Flow learned alone is kept by what trains after it; all else is as in the last training of pairs.
        """
        stages = [training]
        while earlier := stages[-1].get("began_as"):
            stages.append(earlier)
        pairs = next((stage for stage in stages if _trains_pairs(stage)), {})
        return cls(
            name,
            code,
            one_way=pairs.get("one_way_share", 0) > 0,
            flow_alone=any(_trains_flow_alone(stage) for stage in stages),
            moved_image=pairs.get("moved_picture", False),
            seen_video=pairs.get("seen_video", False),
            motion_buckets=not training.get("fixed_motion_bucket", False),
        )


def _counts_batches(training: dict) -> bool:
    """Whether its --flow_alone_share is a share of all batches; for older adapters it is one of the one-way pairs."""
    return "init_adapter" in training


def _trains_pairs(training: dict) -> bool:
    return not _counts_batches(training) or training["flow_alone_share"] < 1


def _trains_flow_alone(training: dict) -> bool:
    share = training.get("flow_alone_share", 0)
    return share > 0 if _counts_batches(training) else training.get("one_way_share", 0) > 0 and 0 < share < 1
