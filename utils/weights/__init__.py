"""What files of weights hold: kinds of models, LoRAs of networks that cannot read them, and the embedded models."""
