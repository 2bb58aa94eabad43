"""A record, or a media file, in; the inputs of a network out: what training saw, for any clip."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from avsc_jax.data import media
from avsc_jax.input_pipeline.encoders import Encoder
from avsc_jax.input_pipeline.media_inputs import FrameInputs
from avsc_jax.input_pipeline.pooling import network_inputs
from avsc_jax.input_pipeline.transform import FIELDS


class FeatureInputs:
    """The arrays of a network that takes what frozen encoders give.

    Args:
      settings: the run folder's preprocessing: what `network_inputs` takes and, if an encoder takes
        frames of records, how they were picked for those: `frames` (the rule) and `short_side`.
      encoders: in the order of the run's.
      stats: see `measure`.
    """

    def __init__(
        self,
        settings: Mapping,
        encoders: Sequence[Encoder],
        stats: Mapping[str, np.ndarray] | None = None,
    ):
        self.settings, self.encoders, self._stats = dict(settings), list(encoders), stats
        self.fields = tuple(sorted({FIELDS[e.spec.takes] for e in self.encoders}))  # of a record

    def open(self, file: media.MediaFile) -> dict:
        """What `__call__` takes of a media file."""
        record = self.pictures(file)
        if 'audio' in self.fields:
            audio, rate = media.read_audio(file)
            channels = media.audio_channels(file)
            record |= {'audio': audio, 'sample_rate': rate, 'channels': channels}
        if 'frames' in self.fields:
            rule, short_side = self.settings['frames'], self.settings['short_side']
            found = media.read_frames(file, rule, short_side=short_side)
            record |= {'frames': list(found.images), 'frame_times': found.times_s}
        return record

    def pictures(self, file: media.MediaFile) -> dict:
        """The `media_frames`, if it takes any, which no stored record has, of a video file."""
        found: dict[str, Any] = {}
        for encoder in self.encoders:
            if encoder.spec.takes == 'media':
                found |= encoder.spec.pictures(file)
        return found

    def notes(self, record: Mapping) -> list[str]:
        """See Encoder.notes."""
        there = (e for e in self.encoders if FIELDS[e.spec.takes] in record)
        return [note for encoder in there for note in encoder.notes(record)]

    def __call__(self, record: Mapping) -> dict[str, np.ndarray] | np.ndarray:
        """The network's inputs for a record that `open` or a dataset gives."""
        (found,) = self.each([record])
        return found['image'] if [*found] == ['image'] else found  # a backbone takes one array

    def each(self, records: Sequence[Mapping]) -> list[dict[str, np.ndarray]]:
        """The same of several records, by names; what a record does not hold is not among them.

        The items of all are encoded together.
        """
        arrays: list[dict[str, np.ndarray]] = [{} for _ in records]
        for encoder in self.encoders:
            there = [place for place, r in enumerate(records) if FIELDS[encoder.spec.takes] in r]
            items = {place: encoder.items(records[place]) for place in there}
            shape_of = {place: items[place][0].shape for place in there}
            for shape in sorted({*shape_of.values()}):
                alike = [place for place in there if shape_of[place] == shape]
                found = encoder([item for place in alike for item in items[place]])
                ends = np.cumsum([encoder.count(items[place]) for place in alike])[:-1]
                for place, part in zip(alike, np.split(found, ends), strict=True):
                    arrays[place][encoder.spec.name] = part[None]
        return [self._inputs(found) for found in arrays]

    def _inputs(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The network's inputs that follow from what is there."""
        return network_inputs(self.settings, arrays, self._stats) if arrays else {}


class FeaturesAndFrames:
    """Frozen encoders' features of a clip and, beside them, frames that the network itself sees.

    Args:
      frames: whose rows are whole clips.
    """

    def __init__(self, features: FeatureInputs, frames: FrameInputs):
        self._features, self._frames = features, frames
        self.settings, self.encoders = frames.settings, features.encoders
        self.fields = tuple(sorted({*features.fields, *frames.fields}))
        self.notes, self.pictures = features.notes, features.pictures

    def open(self, file: media.MediaFile) -> dict:
        """See FeatureInputs.open."""
        return self._features.open(file) | self._frames.open(file)

    def __call__(self, record: Mapping) -> dict[str, np.ndarray]:
        """The network's inputs for a decoded record, by their names."""
        return self._features(record) | {'image': self._frames(record)}

    def each(self, records: Sequence[Mapping]) -> list[dict[str, np.ndarray]]:
        """The same of several; what a record does not hold is not among them."""
        found = self._features.each(records)
        seen = [place for place, record in enumerate(records) if 'frames' in record]
        frames = self._frames.each([records[place] for place in seen]) if seen else []
        for place, of_frames in zip(seen, frames, strict=True):
            found[place] |= of_frames
        return found
