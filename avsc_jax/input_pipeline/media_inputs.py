"""The inputs of networks that train on media: which rows a split has, and how a row is read.

A row is one frame of a record, or one piece of its sound, or both of one time. The host decodes it
and nothing more;
`prepare_batch` does the rest on the device, inside the jitted step: front end or normalisation, and
in training the augmentation, by one key for each example.
"""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax.audio import frontends
from avsc_jax.audio.resample import resampled
from avsc_jax.data import label_kinds, media, stored_pictures
from avsc_jax.data.batches import Rows, Stream, call_sizes, epoch_order
from avsc_jax.data.records import Dataset, Records
from avsc_jax.input_pipeline import augmentations, images, picture_size
from avsc_jax.input_pipeline.pooling import common_places
from avsc_jax.input_pipeline.sound import (
    padded,
    piece_facts,
    piece_notes,
    stereo_pieces,
)
from avsc_jax.input_pipeline.transform import Takes
from avsc_jax.runtime import compiler
from avsc_jax.types import Array

Batch = dict[str, Array]

ROWS_PER_CALL = 16  # outside of training; pictures of 456 x 456 are large


class RowInputs:
    """Rows of one array that a network takes: items made on the host, prepared on the device."""

    _jitted: Callable[[Array], Array]  # `prepare`
    name = 'image'  # of the network's input
    raw: str  # of the items in a batch
    item: Any  # shape and type of one item

    def items(self, record: Mapping) -> Any:
        """Returns the items of a record; see Transform."""
        raise NotImplementedError

    def __call__(self, record: Mapping) -> np.ndarray:
        """Returns the network's input for each row of a decoded record."""
        return self.each([record])[0]['image']

    def each(self, records: Sequence[Mapping]) -> list[dict[str, np.ndarray]]:
        """Returns the inputs of several records by name, prepared together."""
        rows = prepared(self._jitted, [np.asarray(self.items(record)) for record in records])
        return [{self.name: each} for each in rows]

    @property
    def batch_of_one(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and types of a batch of one item, before it is prepared."""
        return {self.raw: jax.ShapeDtypeStruct((1, *self.item.shape), self.item.dtype)}


class SoundInputs(RowInputs):
    """Rows that are made of a record's sound, at any sample rate."""

    def open(self, file: media.MediaFile) -> dict:
        """Reads the sound that `__call__` takes from a media file."""
        audio, rate = media.read_audio(file)
        return {'audio': audio, 'sample_rate': rate}


class SpectrogramInputs(SoundInputs):
    """Spectrograms of the pieces of a record's sound, as the input of a network.

    Args:
      settings: the run folder's preprocessing: `piece_s`, `front_end` (`name`, `sample_rate_hz`
        and other options) and `size` (bands and columns after the resize; None: as they are).
      stats: `mean` and `std` of each channel (see `measure`); None leaves values as they are.
      augmentation: operation -> its settings.
    """

    takes: Takes = 'audio'
    fields: tuple[str, ...] = ('audio',)  # of a record
    raw = 'audio'

    def __init__(
        self,
        settings: Mapping,
        stats: Mapping[str, np.ndarray] | None = None,
        augmentation: Mapping[str, Mapping] | None = None,
    ):
        self.settings, self._stats = dict(settings), stats
        self._waveform, self._spectrum = augmentations.chosen(
            augmentation or {}, augmentations.WAVEFORM, augmentations.SPECTRUM
        )
        self._front_end = frontends.make(**settings['front_end'])
        self._rate = settings['front_end']['sample_rate_hz']
        about = frontends.find(settings['front_end']['name'])
        self._resamples, self.takes_stats = about.resamples, not about.is_scaled
        self._length = round(settings['piece_s'] * self._rate)
        self.item = jax.ShapeDtypeStruct((self._length, 2), np.float32)
        self._jitted = jax.jit(self.prepare)

    @property
    def measured(self) -> 'SpectrogramInputs':
        """The inputs that need `stats`."""
        return self

    @property
    def facts(self) -> dict:
        """The transform in plain data, for other programs."""
        stats, size = self._stats, self.settings['size']
        return piece_facts(self._length, self._rate) | {
            'front_end': frontends.facts(**self.settings['front_end']),
            'standardize': stats and {name: array.tolist() for name, array in stats.items()},
            'resize': size
            and {
                'size': list(size),
                'how': 'bilinear, half-pixel centres',
            },
        }

    def count(self, outline: Mapping) -> int:
        """Returns the number of a record's pieces, of which the last may be padded."""
        rate = outline['sample_rate']
        if rate != self._rate and not self._resamples:
            raise ValueError(
                f'{outline["clip_id"]} has {rate} Hz, the config wants '
                f'{self._rate} Hz; build the data from files of that rate'
            )
        return media.num_pieces(outline['num_samples'] * self._rate // rate, self._length)

    def read(
        self, records: Records, index: int, part: int, outline: Mapping | None = None
    ) -> dict[str, np.ndarray]:
        start, stop = part * self._length, (part + 1) * self._length
        if outline is None or outline['sample_rate'] == self._rate:
            return {'audio': padded(records.sound(index, start, stop), self._length)}
        # pieces are cut of what is resampled as a whole, as `items` does
        sound = records.sound(index, 0, outline['num_samples'])
        whole = resampled(sound, outline['sample_rate'], self._rate)
        return {'audio': padded(whole[start:stop], self._length)}

    def items(self, record: Mapping) -> np.ndarray:
        """Returns the pieces `[T, N, 2]` of the record's sound, whatever its sample rate."""
        return stereo_pieces(record, self._length, self._rate)

    def prepare(self, items: Array) -> Array:
        """Turns pieces `[B, N, 2]` into spectrograms `[B, bands, columns, channels]`."""
        return self.prepare_batch(None, {'audio': items})[self.name]

    def notes(self, record: Mapping) -> list[str]:
        """Says what a user should know about how a record was read."""
        return piece_notes(record, self.settings['piece_s'])

    def prepare_batch(self, keys: jax.Array | None, batch: Batch) -> Batch:
        """Replaces `audio [B, N, K]` by `image [B, bands, columns, channels]`.

        Args:
          keys: one for each example; None augments nothing.
        """
        x = self._front_end(augmentations.augmented(keys, self._waveform, batch['audio']))
        if self._stats is not None:  # before the masks, whose 0 is then the mean
            mean, std = (self._stats[name].reshape(1, 1, 1, -1) for name in ('mean', 'std'))
            x = (x - mean) / std
        x = augmentations.augmented(keys, self._spectrum, x)
        if self.settings['size'] is not None:
            x = images.resize_bilinear(x, tuple(self.settings['size']))
        return {name: batch[name] for name in batch if name != 'audio'} | {self.name: x}


class SoundOfBoth(SpectrogramInputs):
    """Spectrograms or frames of sound for a network of both senses, as its input `sound`.

    A silent piece becomes zeros, by which the network knows that there is no sound.

    Args: as in SpectrogramInputs, but bands and columns are `spectrum_size`, which may be missing.
    """

    name = 'sound'

    def __init__(
        self,
        settings: Mapping,
        stats: Mapping[str, np.ndarray] | None = None,
        augmentation: Mapping[str, Mapping] | None = None,
    ):
        own = {**settings, 'size': settings.get('spectrum_size')}
        super().__init__(own, stats, augmentation)

    @property
    def facts(self) -> dict:
        """The transform in plain data, for other programs."""
        return super().facts | {'silence': 'a piece of nothing but zeros becomes zeros'}

    def prepare_batch(self, keys: jax.Array | None, batch: Batch) -> Batch:
        """Replaces `audio [B, N, K]` by `sound [B, ...]`; see SpectrogramInputs.prepare_batch."""
        is_heard = (batch['audio'] != 0).any(axis=(1, 2))
        made = super().prepare_batch(keys, batch)
        sound = made[self.name]
        heard = is_heard.reshape(-1, *[1] * (sound.ndim - 1))
        return made | {self.name: jnp.where(heard, sound, 0)}

    def notes(self, record: Mapping) -> list[str]:
        """Says what a user should know about how a record was read."""
        if record['audio'].any():
            return super().notes(record)
        answering = '; the picture alone answers' if 'frames' in record else ''
        return [f'the sound is silent{answering}']


class FrameInputs(RowInputs):
    """Frames of a record, each resized, as the input of a network.

    Frames are resized on the host, where they may differ in size, and where Pillow takes 2 ms for
    one of 796 x 448 and XLA 27 on the same cores. A `random_resized_crop` is cut on the device
    out of a larger `canvas`, onto which the host puts them instead.

    Args:
      settings: the run folder's preprocessing: `frames` (the picking rule), `short_side`, `size`
        and the other options of `picture_size` and, for random crops, `canvas` (height and width);
        and `mean` and `std` of each channel, pixels being in [0, 1]. `pictures`, if given, is how
        many evenly spaced frames of a record make one row, which black ones complete; else each
        frame is a row.
      augmentation: operation -> its settings.
    """

    takes: Takes = 'frames'
    fields: tuple[str, ...] = ('frames',)
    raw = 'frame'

    def __init__(self, settings: Mapping, augmentation: Mapping[str, Mapping] | None = None):
        self.settings = dict(settings)
        self._mean, self._std = tuple(settings['mean']), tuple(settings['std'])
        self._pictures: int | None = settings.get('pictures')
        chosen = augmentations.chosen(
            augmentation or {},
            augmentations.PICTURE,
            augmentations.NORMALIZED,
            augmentations.LEVELS,
        )
        self._picture, self._normalized, self._levels = chosen
        self._size = picture_size.make(settings)
        crop = (augmentation or {}).get('random_resized_crop')
        self._canvas = None if crop is None else augmentations.canvas(settings, crop)
        self._jitted = jax.jit(self.prepare)

    @property
    def item(self) -> jax.ShapeDtypeStruct:
        """Shape and type of one item."""
        together = (self._pictures,) if self._pictures else ()
        return jax.ShapeDtypeStruct((*together, *self._size.size, 3), np.uint8)

    @property
    def facts(self) -> dict:
        """The transform in plain data, for other programs."""
        return self._size.facts | {
            'pictures': self._pictures,  # of a clip, int((k + 0.5) n / count), that make one row
            'scale': 1 / 255,
            'mean': list(self._mean),
            'std': list(self._std),
        }

    def count(self, outline: Mapping) -> int:
        """Returns the number of a record's rows: its frames, or one if `pictures` is given."""
        return 1 if self._pictures else outline['num_frames']

    def read(
        self, records: Records, index: int, part: int, outline: Mapping | None = None
    ) -> dict[str, np.ndarray]:
        if not self._pictures:
            return self._read(records.picture(index, part))
        each = [self._read(frame) for frame in self._together(records[index])]
        return {name: np.stack([read[name] for read in each]) for name in each[0]}

    def _read(self, frame: media.Picture) -> dict[str, np.ndarray]:
        if self._canvas is None:
            return {'frame': self._size(frame)}
        return self._size.on_canvas(frame, self._canvas)

    def items(self, record: Mapping) -> np.ndarray:
        """Returns a record's rows at the network's size: frames, or one row of `pictures`."""
        frames = self._together(record) if self._pictures else record['frames']
        rows = np.stack([self._size(frame) for frame in frames])
        return rows[None] if self._pictures else rows

    def prepare(self, items: Array) -> Array:
        """Turns bytes `[B, (T,) H, W, 3]` into the network's input of that shape."""
        return self.prepare_batch(None, {'frame': items})['image']

    def notes(self, record: Mapping) -> list[str]:
        """Returns no notes: all pictures are read alike."""
        return []

    def prepare_batch(self, keys: jax.Array | None, batch: Batch) -> Batch:
        """Replaces the bytes `frame [B, (T,) H, W, 3]` by `image` of that shape.

        An `extent [B, (T,) 2]` is the part of each frame from which a random crop is cut. Each
        picture of a row is augmented by a key of its own; see SpectrogramInputs.prepare_batch.
        """
        shape = batch['frame'].shape
        if keys is not None and self._pictures:
            each = jax.vmap(partial(jax.random.split, num=self._pictures))(keys)
            keys = each.reshape(-1)
        x = batch['frame'].reshape(-1, *shape[-3:]).astype(jnp.float32)
        extent = batch['extent'].reshape(-1, 2) if 'extent' in batch else None
        x = augmentations.augmented(keys, self._picture, x / 255, extent)
        x = augmentations.augmented(keys, self._levels, x)
        x = images.normalize(255 * x, self._mean, self._std)
        x = augmentations.augmented(keys, self._normalized, x)
        x = x.reshape(*shape[:-3], *x.shape[1:])  # a crop has changed the size
        others = {name: batch[name] for name in batch if name not in ('frame', 'extent')}
        return others | {'image': x}

    def open(self, file: media.MediaFile) -> dict:
        """Reads the frames that `__call__` takes from a media file."""
        settings = self.settings
        rule, how = settings['frames'], stored_pictures.resize_of(settings)
        frames = media.read_frames(file, rule, short_side=settings['short_side'], resize=how)
        return {'frames': list(frames.images), 'frame_filled': frames.filled}

    def _together(self, record: Mapping) -> list[np.ndarray]:
        """Returns the pictures that make one row; see places_together."""
        assert self._pictures
        frames = record['frames']
        black = np.zeros_like(frames[0])
        places = places_together(record, self._pictures)
        return [black if place < 0 else frames[place] for place in places]


def places_together(record: Mapping, count: int) -> np.ndarray:
    """Returns which of a record's frames make a row of `count` pictures; -1 is a black one.

    Each stays at its time: black stands where a clip is shorter than the row, or has no picture.
    A record's only frame stands for all.
    """
    filled = record.get('frame_filled', np.ones(len(record['frames']), bool))
    places = np.where(filled, np.cumsum(filled) - 1, -1)
    if 1 < len(places) < count:
        places = np.pad(places, (0, count - len(places)), constant_values=-1)
    return places[media.evenly_spaced(len(places), count)]


class BothInputs:
    """Rows of a frame and the piece of sound of the same time, as inputs `image` and `sound`.

    A record that has one of the two gives that one; the network takes zeros for the other.

    Args:
      settings: those of FrameInputs and SoundOfBoth.
      stats: of the sound; see SpectrogramInputs.
      augmentation: operation -> its settings, of both.
    """

    fields: tuple[str, ...] = ('audio', 'frames')

    def __init__(
        self,
        settings: Mapping,
        stats: Mapping[str, np.ndarray] | None = None,
        augmentation: Mapping[str, Mapping] | None = None,
    ):
        if settings.get('pictures'):
            raise ValueError(
                f'pictures is {settings["pictures"]}, and a network of both senses takes one frame '
                'beside the sound of its time; leave it out'
            )
        given = dict(augmentation or {})
        augmentations.chosen(
            given,
            augmentations.WAVEFORM,
            augmentations.SPECTRUM,
            augmentations.PICTURE,
            augmentations.NORMALIZED,
            augmentations.LEVELS,
        )  # an error for others
        heard = {op.__name__ for op in (*augmentations.WAVEFORM, *augmentations.SPECTRUM)}
        self.settings = dict(settings)
        of_sound = {name: given[name] for name in given if name in heard}
        self._sound = SoundOfBoth(settings, stats, of_sound)
        self._frames = FrameInputs(settings, {n: given[n] for n in given if n not in heard})

    @property
    def takes_stats(self) -> bool:
        """Whether the sound is standardised by `stats`."""
        return self._sound.takes_stats

    @property
    def measured(self) -> SpectrogramInputs:
        """The inputs that need `stats`."""
        return self._sound

    @property
    def sources(self) -> dict[str, 'SpectrogramInputs | FrameInputs']:
        """The inputs of each sense, by the name of their items."""
        return {inputs.raw: inputs for inputs in (self._sound, self._frames)}

    @property
    def batch_of_one(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and types of a batch of one row, before it is prepared."""
        return self._sound.batch_of_one | self._frames.batch_of_one

    def count(self, outline: Mapping) -> int:
        """Returns the number of a record's rows: the times at which it has both."""
        counts = {inputs.name: inputs.count(outline) for inputs in self.sources.values()}
        common_places(counts, {})  # an error for lengths that differ by more than rounding
        return min(counts.values())

    def read(
        self, records: Records, index: int, part: int, outline: Mapping | None = None
    ) -> dict[str, np.ndarray]:
        read = [inputs.read(records, index, part, outline) for inputs in self.sources.values()]
        return read[0] | read[1]

    def open(self, file: media.MediaFile) -> dict:
        """Reads the sound and the frames that `__call__` takes from a media file."""
        return self._sound.open(file) | self._frames.open(file)

    def notes(self, record: Mapping) -> list[str]:
        """Says what a user should know about how a record was read."""
        return self._sound.notes(record) if 'audio' in record else []

    def prepare_batch(self, keys: jax.Array | None, batch: Batch) -> Batch:
        """Replaces `audio` and `frame` by `sound` and `image`, augmented by keys of their own."""
        of_sound = of_frames = None
        if keys is not None:
            of_sound, of_frames = jax.vmap(jax.random.split, out_axes=1)(keys)
        return self._frames.prepare_batch(of_frames, self._sound.prepare_batch(of_sound, batch))

    def __call__(self, record: Mapping) -> dict[str, np.ndarray]:
        """Returns the network's inputs for each row of a decoded record, by name."""
        return self.each([record])[0]

    def each(self, records: Sequence[Mapping]) -> list[dict[str, np.ndarray]]:
        """Returns the inputs of several records by name, as far as each has their fields."""
        made: list[dict[str, np.ndarray]] = [{} for _ in records]
        for inputs in self.sources.values():
            holding = [k for k, record in enumerate(records) if inputs.fields[0] in record]
            of_each = inputs.each([records[k] for k in holding]) if holding else []
            for place, rows in zip(holding, of_each, strict=True):
                made[place] |= rows
        return [_of_one_time(rows, record) for rows, record in zip(made, records, strict=True)]


def _of_one_time(rows: Mapping[str, np.ndarray], record: Mapping) -> dict[str, np.ndarray]:
    """Returns the rows at times that all of the inputs have."""
    if len(rows) < 2:
        return dict(rows)
    filled = {'image': record['frame_filled']} if 'frame_filled' in record else {}
    places = common_places({name: len(each) for name, each in rows.items()}, filled)
    return {name: each[places[name]] for name, each in rows.items()}


Inputs = SpectrogramInputs | FrameInputs | BothInputs


def make(
    settings: Mapping,
    stats: Mapping[str, np.ndarray] | None = None,
    augmentation: Mapping[str, Mapping] | None = None,
) -> Inputs:
    """Makes spectrogram inputs where the settings name a front end, or frame inputs, or both."""
    if {'front_end', 'frames'} <= {*settings}:
        return BothInputs(settings, stats, augmentation)
    if 'front_end' in settings:
        return SpectrogramInputs(settings, stats, augmentation)
    return FrameInputs(settings, augmentation)


def rows(
    dataset: Dataset, split: str, inputs: Inputs, beside: Mapping[str, np.ndarray] | None = None
) -> Rows:
    """Lists the rows of a split in the order of its records; each is read before its batch is due.

    Args:
      beside: arrays `[records, ...]`; each row also gets the entry of its record.
    """
    records = dataset.records(split, fields=inputs.fields).by_rows()
    outlines = dataset.outlines(split)
    counts = [inputs.count(outline) for outline in outlines]
    record = np.repeat(np.arange(len(counts)), counts)
    part = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
    # a record's only row covers what the record does: a second of a clip, or the whole clip
    whole = np.array([o['segment'] for o in outlines], np.int32)[record]
    labels = [outline['label'] for outline in outlines]
    label = label_kinds.stacked(labels, len(dataset.classes), dataset.kind)[record]

    def load(row: int) -> dict[str, np.ndarray]:
        of = int(record[row])
        read = inputs.read(records, of, int(part[row]), outlines[of])
        read |= {name: array[of] for name, array in (beside or {}).items()}
        return read | {'label': label[row]}

    return Rows(
        clip_id=[outlines[i]['clip_id'] for i in record],
        segment=np.where(np.array(counts)[record] > 1, part, whole),
        label=label,
        inputs=Stream(load),
    )


def measure(inputs: SpectrogramInputs, rows: Rows, *, batch_size: int) -> dict[str, np.ndarray]:
    """Measures mean and deviation of each channel over all rows; `inputs` must have no stats."""

    @jax.jit
    def moments(batch: Batch) -> tuple[Array, Array]:
        x = inputs.prepare_batch(None, batch)[inputs.name]
        return x.mean(axis=(1, 2)), x.var(axis=(1, 2))

    assert isinstance(rows.inputs, Stream)
    measured = []
    for batch in rows.inputs.batches(*epoch_order(len(rows), batch_size)):
        mask = batch['mask']
        measured.append([np.asarray(each, np.float64)[mask] for each in moments(batch)])
    means, variances = (np.concatenate(each) for each in zip(*measured, strict=True))
    std = np.sqrt(variances.mean(axis=0) + means.var(axis=0))
    return {'mean': means.mean(axis=0).astype(np.float32), 'std': std.astype(np.float32)}


def prepared(prepare: Callable[[Array], Array], rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Prepares the rows `[T, ...]` of several records in calls of one size."""
    every = np.concatenate(rows)
    made = [np.asarray(prepare(part))[:count] for part, count in calls(every, most=ROWS_PER_CALL)]
    ends = np.cumsum([len(each) for each in rows])[:-1]
    return np.split(np.concatenate(made), ends)


def calls(rows: Any, *, most: int) -> Iterator[tuple[Any, int]]:
    """Yields parts of arrays `[N, ...]` with the number of their rows; the rest of a part is zeros.

    Parts have few lengths, `most` at most; see `batches.call_sizes`.
    """
    (total,) = {len(array) for array in jax.tree.leaves(rows)}
    start = 0
    for length in call_sizes(total, most, **compiler.call_sizes()):
        count = min(length, total - start)
        part = jax.tree.map(operator.itemgetter(slice(start, start + count)), rows)
        yield jax.tree.map(partial(_filled_up, length), part), count
        start += count


def _filled_up(length: int, array: np.ndarray) -> np.ndarray:
    """Pads an array with rows of zeros to a length."""
    return np.pad(array, [(0, length - len(array))] + [(0, 0)] * (array.ndim - 1))
