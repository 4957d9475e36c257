"""Pretrained models by name."""

import pytest
from diffusers import AutoencoderKL

from utils.pretrained import loading


@pytest.mark.parametrize("name", ["nowhere", "/nowhere", "a/b/c", "../nowhere"])
def test_what_is_neither_a_folder_nor_a_name_on_the_hub_is_refused_in_one_sentence(name):
    with pytest.raises(FileNotFoundError) as caught, loading(name):
        AutoencoderKL.from_pretrained(name)
    assert str(caught.value) == f"{name} is neither a model folder nor one on the hub that can be reached."
