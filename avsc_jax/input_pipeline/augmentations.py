"""The operations of a config's `augment` section: which there are, and their use on a batch."""

from collections.abc import Callable, Mapping
from functools import partial

import jax

from avsc_jax.augment import image, rand_augment, spectrogram
from avsc_jax.runtime import options
from avsc_jax.types import Array

# The operations of a config's `augment` section, in the order in which they are applied.
WAVEFORM = (spectrogram.random_gain,)
SPECTRUM = (spectrogram.frequency_mask, spectrogram.time_mask)
PICTURE = (
    image.random_resized_crop,
    image.horizontal_flip,
    image.random_affine,
    image.color_jitter,
    image.gaussian_blur,
)
NORMALIZED = (image.random_erasing,)
# before the normalisation too, but the last in the order of keys: those above keep theirs
LEVELS = (rand_augment.rand_augment,)
Op = partial[Array]


def chosen(
    augmentation: Mapping[str, Mapping], *stages: tuple[Callable[..., Array], ...]
) -> list[dict[int, Op]]:
    """Selects each stage's operations that a config names, keyed by their place among all."""
    names = [op.__name__ for stage in stages for op in stage]
    if unknown := sorted(set(augmentation) - set(names)):
        raise ValueError(
            f'no augmentation here is called {unknown[0]!r}; there are {", ".join(names)}'
        )
    for op in (op for stage in stages for op in stage if op.__name__ in augmentation):
        options.check(f'augment.{op.__name__}', op, augmentation[op.__name__])
    return [
        {
            names.index(op.__name__): partial(op, **augmentation[op.__name__])
            for op in stage
            if op.__name__ in augmentation
        }
        for stage in stages
    ]


def canvas(settings: Mapping, crop: Mapping) -> tuple[int, int]:
    """Returns the size that frames are cropped from; the crop must have the network's size."""
    canvas, size = settings.get('canvas', ()), tuple(settings['size'])
    if not (
        isinstance(canvas, tuple | list)
        and len(canvas) == 2
        and all(isinstance(side, int) and side > 0 for side in canvas)
    ):
        raise ValueError(
            f'canvas is {canvas!r}; a random_resized_crop needs the height and width of what it is '
            'cut from, such as --config.canvas="(480, 853)"'
        )
    if (cut := tuple(crop.get('size', ()))) != size:
        raise ValueError(
            f'random_resized_crop has size {cut}, the network takes {size}; give both the same, '
            f'such as --config.augment.random_resized_crop.size="{size}"'
        )
    return tuple(canvas)


def augmented(
    keys: jax.Array | None, ops: Mapping[int, Op], x: Array, extent: Array | None = None
) -> Array:
    """Applies operations to each example by a key of its own; does nothing without keys.

    Args:
      extent: `[B, 2]`, see `random_resized_crop`.
    """
    if keys is None:
        return x
    for place, op in ops.items():
        is_crop = extent is not None and op.func is image.random_resized_crop
        given = (x, extent) if is_crop else (x,)
        x = jax.vmap(op)(jax.vmap(jax.random.fold_in, (0, None))(keys, place), *given)
    return x
