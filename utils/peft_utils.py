"""Names under which notebooks know PEFT's functions."""

from peft import get_peft_model_state_dict

__all__ = ["get_peft_model_state_dict"]
