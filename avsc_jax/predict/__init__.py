"""Names the scenes of clips: `Predictor.load('runs/clip_fusion')('clip.mp4').scene`."""

from typing import Any

__all__ = ['Predictor']


def __getattr__(name: str) -> Any:
    if name == 'Predictor':  # loads JAX, which --help does without
        from avsc_jax.predict.predictor import Predictor

        return Predictor
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
