"""Sound in video files."""

import av
import numpy as np


def mux_silence(container, stream) -> None:
    """Fills a stream of sound with a moment of silence."""
    silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
    silence.sample_rate = stream.rate
    container.mux(stream.encode(silence))
    container.mux(stream.encode())
