"""Prompts as the networks of Stable Diffusion and of text to video read them."""

from collections.abc import Iterable

import torch
from transformers import CLIPTextModel, CLIPTokenizer

from utils.data.cache import cache_texts


class TextEncoder:
    """Texts to embeddings (B, L, D), read from a cache where there is one."""

    def __init__(self, tokenizer: CLIPTokenizer, encoder: CLIPTextModel):
        self.tokenizer, self.encoder = tokenizer, encoder.requires_grad_(False)
        self.cached = None

    def __call__(self, texts: list[str], device) -> torch.Tensor:
        if self.cached is not None:
            return torch.stack([self.cached[text] for text in texts]).to(device)
        return self.encode(texts)

    def cache(self, texts: Iterable[str], cache_dir: str) -> None:
        """Embed each text once; from then on no other one is known."""
        self.cached = cache_texts(set(texts), self.encoder, self.encode, cache_dir)

    @torch.no_grad()
    def encode(self, texts: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return self.encoder(tokens.to(self.encoder.device)).last_hidden_state
