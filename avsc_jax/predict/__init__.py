"""Names the scenes of clips: `Predictor.load('runs/clip_fusion')('clip.mp4').scene`."""

import lazy_loader

# JAX is loaded on the first use of a name in __init__.pyi, so that --help is quick.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
