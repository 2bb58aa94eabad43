"""Names the scenes of clips: `Predictor.load('runs/clip_fusion')('clip.mp4').scene`."""

import lazy_loader

# JAX comes with the first use of a name of __init__.pyi; --help does without.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
