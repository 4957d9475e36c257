"""`fuse_lora` of a patched model refuses before it changes a layer, since layers are merged one after the other."""

import inspect

from torch import nn

from patch.call import pick_up_loras
from patch.lora import MaskedLora, refuse_merging


class FuseLora:
    """Stands on a patched model in place of its method; an object, so that copies and pickles merge themselves."""

    def __init__(self, net: nn.Module):
        self.net = net

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(type(self.net).fuse_lora.__get__(self.net))

    def __call__(
        self, lora_scale: float = 1.0, safe_fusing: bool = False, adapter_names: list[str] | None = None
    ) -> None:
        pick_up_loras(self.net)
        for layer in self.net.modules():
            if isinstance(layer, MaskedLora):
                refuse_merging(layer, adapter_names)
        type(self.net).fuse_lora(self.net, lora_scale, safe_fusing, adapter_names)
