"""Gives pictures of any size the size of a network's input, on the host."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from avsc_jax.data import media
from avsc_jax.runtime import nearest

RESIZES, INTERPOLATIONS = ('squash', 'crop'), ('bilinear', 'bicubic')
OPTIONS = ('resize', 'crop_fraction', 'interpolation')  # of a run's preprocessing
CROP_FRACTION = 0.875  # of 256 pixels 224, as is usual for ImageNet


@dataclasses.dataclass(frozen=True)
class PictureSize:
    """The size of a network's pictures, and how pictures of other sizes and proportions get it.

    Attributes:
      size: height and width; equal for 'crop'.
      resize: 'squash' resizes the whole picture, whatever its proportions. 'crop' keeps them: the
        short side becomes `size / crop_fraction`, and the square in the middle is cropped.
      crop_fraction: see `resize`.
      interpolation: 'bilinear' or 'bicubic', of Pillow.

    Source of 'crop': timm's and torchvision's transform for evaluation.
    """

    size: tuple[int, int]
    resize: str = 'squash'
    crop_fraction: float = CROP_FRACTION
    interpolation: str = 'bilinear'

    def __post_init__(self) -> None:
        for name, allowed in (('resize', RESIZES), ('interpolation', INTERPOLATIONS)):
            nearest.check(name, getattr(self, name), allowed)
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f'crop_fraction is {self.crop_fraction}; it must lie in (0, 1]')
        if self.resize == 'crop' and self.size[0] != self.size[1]:
            raise ValueError(
                f"resize is 'crop', which takes squares, and size is {self.size}; give equal "
                "sides, or resize='squash'"
            )

    @property
    def facts(self) -> dict:
        """The resize and the crop in plain data, for other programs."""
        if self.resize == 'squash':
            how = f"the whole picture, Pillow's {self.interpolation}"
            return {'resize': {'size': list(self.size), 'how': how}}
        return {
            'resize': {'short side': self._resized, 'how': f"Pillow's {self.interpolation}"},
            'crop': {'centre': list(self.size)},
        }

    def __call__(self, picture: media.Picture) -> np.ndarray:
        """Resizes a picture to the size, or crops it, uint8 `[H, W, 3]`."""
        if self.resize == 'squash':
            return media.resize_picture(picture, *self.size, self.interpolation)
        return media.crop_picture(picture, self.size[0], self._resized, self.interpolation)

    def on_canvas(self, picture: media.Picture, canvas: tuple[int, int]) -> dict[str, np.ndarray]:
        """Resizes a picture to the canvas from which a crop is cut later.

        Returns:
          `frame`, of the canvas's height and width. For 'crop' the picture keeps its proportions,
          so that it may fill a part of the canvas only, in the top left corner; `extent` is the
          height and width of that part.
        """
        if self.resize == 'squash':
            return {'frame': media.resize_picture(picture, *canvas, self.interpolation)}
        padded, extent = media.pad_picture(picture, *canvas, self.interpolation)
        return {'frame': padded, 'extent': np.array(extent, np.int32)}

    @property
    def _resized(self) -> int:
        return math.floor(self.size[0] / self.crop_fraction)


def make(settings: Mapping) -> PictureSize:
    """Makes the size of a run's preprocessing, of which only `size` must be given."""
    options = {name: settings[name] for name in OPTIONS if name in settings}
    return PictureSize(tuple(settings['size']), **options)
