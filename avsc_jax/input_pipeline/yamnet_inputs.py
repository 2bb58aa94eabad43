"""The sound of records as the input of YAMNet itself, for its tags."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from avsc_jax.audio import yamnet
from avsc_jax.data import media
from avsc_jax.input_pipeline.media_inputs import prepared
from avsc_jax.input_pipeline.sound import YAMNetWindows


class YAMNetInputs(YAMNetWindows):
    """YAMNet's patches as the input of the network itself, which then gives tags.

    Args:
      settings: the preprocessing: `gain`, and `hop_s` if it is not the published one.
    """

    fields: tuple[str, ...] = ('audio',)  # of a record

    def __init__(self, settings: Mapping[str, Any]):
        super().__init__({'hop_s': yamnet.HOP_S, **settings})
        self.settings = dict(settings)
        self._jitted = jax.jit(self.prepare)

    def open(self, file: media.MediaFile) -> dict:
        """Reads the sound that `__call__` takes from a media file."""
        audio, rate = media.read_audio(file)
        return {'audio': audio, 'sample_rate': rate}

    def __call__(self, record: Mapping) -> np.ndarray:
        """Returns the network's input for each patch of a decoded record, at any sample rate."""
        return self.each([record])[0]['image']

    def each(self, records: Sequence[Mapping]) -> list[dict[str, np.ndarray]]:
        """Returns the inputs of several records by name, prepared together."""
        return prepared(self._jitted, [np.stack(self.items(record)) for record in records])
