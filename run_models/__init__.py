"""Scripts that load a model, sample and write files."""
