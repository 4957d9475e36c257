"""Sentences that people read on a terminal: what is said once, what is kept quiet, and numbers with their nouns."""
