"""The configurations that have published weights, and the settings that those were trained and measured with."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Configuration:
    """What `UniMatch` is built with, and what its `forward` takes; the names are the published code's.

    The lists have one entry a scale, from coarse to fine. A radius of -1 means everywhere.
    """

    num_scales: int
    upsample_factor: int
    reg_refine: bool
    attn_splits_list: tuple[int, ...]
    corr_radius_list: tuple[int, ...]
    prop_radius_list: tuple[int, ...]
    num_reg_refine: int = 1

    def __post_init__(self):
        for name in ("attn_splits_list", "corr_radius_list", "prop_radius_list"):
            if len(getattr(self, name)) != self.num_scales:
                raise ValueError(f"{name}={getattr(self, name)} must have one entry a scale, so {self.num_scales}.")
        if self.num_reg_refine < 1:
            raise ValueError(f"num_reg_refine={self.num_reg_refine} must be at least 1.")

    @property
    def scales(self) -> list[tuple[int, int, int]]:
        """For each scale: windows along a side, radius of the matching, radius of the propagation."""
        return list(zip(self.attn_splits_list, self.corr_radius_list, self.prop_radius_list, strict=True))

    @property
    def padding_factor(self) -> int:
        """The sides of an image must be multiples of this."""
        strides = (self.upsample_factor * 2**scale for scale in reversed(range(self.num_scales)))
        return math.lcm(*(stride * splits for stride, splits in zip(strides, self.attn_splits_list, strict=True)))


CONFIGURATIONS = {
    "scale1": Configuration(1, 8, False, (2,), (-1,), (-1,)),
    "scale2": Configuration(2, 4, False, (2, 8), (-1, 4), (-1, 1)),
    "scale2_regrefine6": Configuration(2, 4, True, (2, 8), (-1, 4), (-1, 1), num_reg_refine=6),
}

# The released files and the configuration of each. "mixdata" is trained on many data sets and meant for any video.
CHECKPOINTS = {
    "gmflow-scale1-things-e9887eda.pth": "scale1",
    "gmflow-scale1-mixdata-train320x576-4c3a6e9a.pth": "scale1",
    "gmflow-scale2-things-36579974.pth": "scale2",
    "gmflow-scale2-sintel-3ed1cf48.pth": "scale2",
    "gmflow-scale2-mixdata-train320x576-9ff1c094.pth": "scale2",
    "gmflow-scale2-regrefine6-things-776ed612.pth": "scale2_regrefine6",
    "gmflow-scale2-regrefine6-sintelft-6e39e2b9.pth": "scale2_regrefine6",
    "gmflow-scale2-regrefine6-kitti15-25b554d7.pth": "scale2_regrefine6",
    "gmflow-scale2-regrefine6-mixdata-train320x576-4e7b215d.pth": "scale2_regrefine6",
}


def default_configuration(num_scales: int, reg_refine: bool) -> Configuration:
    """The published configuration with that many scales and that refinement.

    Raises:
        ValueError: There is none.
    """
    for configuration in CONFIGURATIONS.values():
        if (configuration.num_scales, configuration.reg_refine) == (num_scales, reg_refine):
            return configuration
    raise ValueError(f"num_scales={num_scales}, reg_refine={reg_refine} has no published settings; give the lists.")
