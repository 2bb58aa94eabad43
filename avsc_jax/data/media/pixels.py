"""Turns decoded frames of films into upright RGB pictures."""

import av
import numpy as np


def rgb(frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
    """Converts a frame to RGB [H, W, 3] uint8 of a width and height, then rotates it upright."""
    frame_rgb = frame.reformat(*size, format='rgb24', interpolation='BICUBIC')
    return np.rot90(frame_rgb.to_ndarray(), round(frame.rotation / 90))
