"""The sound of records as the input of YAMNet itself, for its tags."""

from collections.abc import Mapping
from typing import Any

import jax

from avsc_jax.audio import yamnet
from avsc_jax.input_pipeline.media_inputs import SoundInputs
from avsc_jax.input_pipeline.sound import YAMNetWindows


class YAMNetInputs(YAMNetWindows, SoundInputs):
    """YAMNet's patches as the input of the network itself, which then gives tags.

    Args:
      settings: the preprocessing: `gain`, and `hop_s` if it is not the published one.
    """

    fields: tuple[str, ...] = ('audio',)  # of a record

    def __init__(self, settings: Mapping[str, Any]):
        super().__init__({'hop_s': yamnet.HOP_S, **settings})
        self.settings = dict(settings)
        self._jitted = jax.jit(self.prepare)
