"""Preprocessing by frozen encoders: a record or a media file in, a network's inputs out."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from avsc_jax.data import media, stored_pictures
from avsc_jax.input_pipeline.encoders import Encoder
from avsc_jax.input_pipeline.media_inputs import FrameInputs
from avsc_jax.input_pipeline.pooling import network_inputs
from avsc_jax.input_pipeline.transform import FIELDS, filled_times


class FeatureInputs:
    """Features of frozen encoders, as the inputs of a network.

    Args:
      settings: the run folder's preprocessing: the settings of `network_inputs` and, if an encoder
        takes frames of records, how these are picked: `frames` (the rule) and `short_side`.
      encoders: in the run's order.
      stats: see `pooling.measure`.
    """

    def __init__(
        self,
        settings: Mapping,
        encoders: Sequence[Encoder],
        stats: Mapping[str, np.ndarray] | None = None,
    ):
        self.settings, self.encoders, self._stats = dict(settings), list(encoders), stats
        self.fields = tuple(sorted({FIELDS[e.spec.takes] for e in self.encoders}))  # of a record

    def open(self, file: media.MediaFile, *, max_duration_s: float | None = None) -> dict:
        """Reads the record that `__call__` takes from a media file.

        Args:
          max_duration_s: of the file, which is read as a whole; None: media.MAX_DURATION_S.
        """
        record = self.pictures(file, max_duration_s=max_duration_s)
        if 'audio' in self.fields:
            sound = media.read_sound(file, max_duration_s=max_duration_s)
            record |= {'audio': sound.samples, 'sample_rate': sound.rate_hz}
            record |= {'channels': media.audio_channels(file)}
            record |= media.clipped_field(sound.clipped)
        if 'frames' in self.fields:
            rule, short_side = self.settings['frames'], self.settings['short_side']
            how = stored_pictures.resize_of(self.settings)
            frames = media.read_frames(
                file, rule, short_side=short_side, resize=how, max_duration_s=max_duration_s
            )
            record |= {'frames': list(frames.images), 'frame_times': frames.times_s}
            record['frame_filled'] = frames.filled
        return record

    def pictures(self, file: media.MediaFile, *, max_duration_s: float | None = None) -> dict:
        """Reads `media_frames`, which no stored record has, if an encoder takes them."""
        record: dict[str, Any] = {}
        for encoder in self.encoders:
            if encoder.spec.takes == 'media':
                record |= encoder.spec.pictures(file, max_duration_s=max_duration_s)
        return record

    def notes(self, record: Mapping) -> list[str]:
        """Says what a user should know about how the encoders read a record."""
        reading = (e for e in self.encoders if FIELDS[e.spec.takes] in record)
        return [note for encoder in reading for note in encoder.notes(record)]

    def __call__(self, record: Mapping) -> dict[str, np.ndarray] | np.ndarray:
        """Returns the network's inputs for a record that `open` or a data set gives."""
        (inputs,) = self.each([record])
        return inputs['image'] if [*inputs] == ['image'] else inputs  # a backbone takes one array

    def each(self, records: Sequence[Mapping]) -> list[dict[str, np.ndarray]]:
        """Returns the inputs of several records by name, whose items are encoded together.

        Inputs of fields that a record does not have are left out.
        """
        arrays: list[dict[str, np.ndarray]] = [{} for _ in records]
        for encoder in self.encoders:
            field = FIELDS[encoder.spec.takes]
            holding = {k: record for k, record in enumerate(records) if field in record}
            with ThreadPoolExecutor(os.cpu_count()) as threads:  # Pillow releases the lock
                made = threads.map(encoder.items, holding.values())
                items = dict(zip(holding, made, strict=True))
            shape_of = {place: each[0].shape for place, each in items.items()}
            for shape in sorted({*shape_of.values()}):
                alike = [place for place in items if shape_of[place] == shape]
                rows = encoder([item for place in alike for item in items[place]])
                ends = np.cumsum([encoder.count(items[place]) for place in alike])[:-1]
                for place, part in zip(alike, np.split(rows, ends), strict=True):
                    arrays[place][encoder.spec.name] = part[None]
        return [self._inputs(*each) for each in zip(arrays, records, strict=True)]

    def _inputs(self, arrays: Mapping[str, np.ndarray], record: Mapping) -> dict[str, np.ndarray]:
        """Returns the inputs of the encoders whose arrays are given."""
        if not arrays:
            return {}
        filled = filled_times(record, {e.spec.name: e.spec.takes for e in self.encoders})
        return network_inputs(self.settings, arrays, self._stats, filled)


class FeaturesAndFrames:
    """Features of frozen encoders and, beside them, frames for the network itself.

    Args:
      frames: inputs whose rows are whole clips.
    """

    def __init__(self, features: FeatureInputs, frames: FrameInputs):
        self._features, self._frames = features, frames
        self.settings, self.encoders = frames.settings, features.encoders
        self.fields = tuple(sorted({*features.fields, *frames.fields}))
        self.notes, self.pictures = features.notes, features.pictures

    def open(self, file: media.MediaFile) -> dict:
        """Reads the record that `__call__` takes from a media file."""
        return self._features.open(file) | self._frames.open(file)

    def __call__(self, record: Mapping) -> dict[str, np.ndarray]:
        """Returns the network's inputs for a decoded record by name."""
        return self._features(record) | {'image': self._frames(record)}

    def each(self, records: Sequence[Mapping]) -> list[dict[str, np.ndarray]]:
        """Returns the inputs of several records by name, as far as each has their fields."""
        inputs = self._features.each(records)
        seen = [place for place, record in enumerate(records) if 'frames' in record]
        frames = self._frames.each([records[place] for place in seen]) if seen else []
        for place, of_frames in zip(seen, frames, strict=True):
            inputs[place] |= of_frames
        return inputs
