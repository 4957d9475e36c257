"""Names under which notebooks know our functions."""

from utils.weights.lora import load_lora as load_lora_weights

__all__ = ["load_lora_weights"]
