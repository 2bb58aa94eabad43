"""Makes the networks that configs describe, and the shapes of their checkpoints."""

from collections.abc import Mapping

import flax.linen as nn

from avsc_jax import models


def make_model(settings: Mapping, *, num_classes: int) -> nn.Module:
    """Makes the network of a config's `model` section, with a head for the data's classes."""
    options = {name: value for name, value in settings.items() if name != 'name'}
    wanted = options.pop('num_classes', num_classes)
    if wanted != num_classes:
        raise ValueError(
            f'config.model.num_classes is {wanted}, the data has {num_classes} classes; leave it '
            'out, it is taken from the data'
        )
    if not isinstance(settings.get('name'), str):
        raise ValueError('config.model has no name; name one of avsc_jax.models.list_models()')
    return models.create_model(settings['name'], num_classes=num_classes, **options)


def checkpoint_shapes(model: nn.Module) -> dict:
    """Returns the shapes of a checkpoint's variables; `batch_stats` may be empty."""
    return {'batch_stats': {}} | models.variable_shapes(model)
