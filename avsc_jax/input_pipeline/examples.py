"""The rows of the splits in use: features from the cache, or media that is read when needed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, TypedDict, Unpack

import jax
import numpy as np
from ml_collections import ConfigDict

from avsc_jax import weights
from avsc_jax.data import folds, media, records
from avsc_jax.data.batches import Rows
from avsc_jax.data.sources import media_files
from avsc_jax.input_pipeline import feature_cache, pooling
from avsc_jax.input_pipeline import media as inputs
from avsc_jax.input_pipeline.encoders import EncoderSpec, TrainedSpec, embedding
from avsc_jax.models import sources

PREPROCESSING = (
    'frames', 'short_side', 'pictures', 'size', 'canvas', 'mean', 'std',
    'front_end', 'piece_s', 'inputs', 'pool', 'length', 'frames_per_row', 'standardize',
)  # fmt: skip


class KeptArrays(Protocol):
    """Keeps arrays that are measured once; see RunFolder."""

    def stats(self, measure: Callable[[], Mapping[str, np.ndarray]]) -> Mapping: ...

    def means(self, measure: Callable[[], Mapping[str, np.ndarray]]) -> Mapping: ...


class Folders(TypedDict):
    """Where extraction finds weights and video files, and keeps features."""

    cache_dir: Path
    weights_dir: Path
    media: Callable[[str], media.Source]


class Loaded(NamedTuple):
    """What training and scoring take.

    Attributes:
      splits: 'train', 'valid' and 'test', as far as the config has them.
      prepare, embed: see Steps.
    """

    splits: dict[str, Rows]
    prepare: Callable | None = None
    embed: tuple[Callable, Mapping] | None = None


def load(
    config: ConfigDict,
    kept: KeptArrays,
    dataset: records.Dataset,
    specs: Sequence[EncoderSpec | TrainedSpec],
    *,
    data_dir: Path,
    weights_dir: Path,
    media_dir: Path | None = None,
) -> Loaded:
    """The rows of the splits in use, and what makes the network's inputs of them.

    Args:
      kept: the run folder, which keeps what is measured over the training rows.
    """
    splits = splits_used(config)
    names, train = list(dict.fromkeys(splits.values())), config.data.get('train')
    settings, live = preprocessing(config, specs), embedded_live(config, specs)
    rows: dict[str, Rows] = {}
    arrays: dict[str, dict[str, np.ndarray]] = {name: {} for name in names}
    if specs:
        folders: Folders = {
            'cache_dir': data_dir / 'features',
            'weights_dir': weights_dir,
            'media': media_files(dataset, data_dir, media_dir),
        }
        encoded = encode(config, dataset, specs, live, **folders)
        stats = None
        if config.get('standardize'):
            stats = kept.stats(lambda: pooling.measure(settings, encoded[train].arrays))
        for name, found in encoded.items():
            arrays[name] = pooling.network_inputs(settings, found.arrays, stats)
        kept.means(lambda: means(arrays, first=train))  # for clips that lack sound or picture
        if 'size' not in config:
            stored = [name for name in names if not (live and name == train)]
            rows = {name: feature_rows(encoded[name], arrays[name]) for name in stored}
    prepare: Callable | None = None
    embed: tuple[Callable, Mapping] | None = None
    if live:
        reader = inputs.make(live.settings, None, live.augmentation)
        rows[train] = inputs.rows(dataset, train, reader, arrays[train])
        prepare, embed = partial(training_only, reader.prepare_batch), embedder(config, live)
    elif not rows:
        rows, prepare = read_live(config, kept, dataset, settings, arrays)
    return Loaded({part: rows[name] for part, name in splits.items()}, prepare, embed)


def encode(
    config: ConfigDict,
    dataset: records.Dataset,
    specs: Sequence[EncoderSpec | TrainedSpec],
    live: TrainedSpec | None,
    **folders: Unpack[Folders],
) -> dict[str, feature_cache.Features]:
    """The features of each split in use; those of the training split may be made otherwise."""
    names, train = dict.fromkeys(splits_used(config).values()), config.data.get('train')
    own = [spec for spec in specs if spec is not live]  # of the training rows
    if piece_s := config.get('training_piece_s'):  # sound is cut otherwise where it is scored
        own = [together(spec, piece_s) for spec in own]
    apart = [train] if own != [*specs] else []
    encoded = extract(config, dataset, [n for n in names if n not in apart], specs, **folders)
    return encoded | extract(config, dataset, apart, own, **folders)


def read_live(
    config: ConfigDict,
    kept: KeptArrays,
    dataset: records.Dataset,
    settings: Mapping,
    arrays: Mapping[str, Mapping[str, np.ndarray]],
) -> tuple[dict[str, Rows], Callable]:
    """The rows of splits whose media are read when needed, and what prepares a batch of them."""
    train, augmentation = config.data.get('train'), config.to_dict().get('augment', {})
    plain, reader = inputs.make(settings), inputs.make(settings, None, augmentation)
    rows = {
        name: inputs.rows(dataset, name, reader if name == train else plain, of_split)
        for name, of_split in arrays.items()
    }
    stats = None
    if reader.takes_stats:
        batch_size = config.batch_size
        stats = kept.stats(lambda: inputs.measure(reader, rows[train], batch_size=batch_size))
    return rows, inputs.make(settings, stats, augmentation).prepare_batch


def together(spec: EncoderSpec | TrainedSpec, piece_s: float) -> EncoderSpec:
    """The spec of a front end that takes as many of its pieces side by side as last so long."""
    assert isinstance(spec, EncoderSpec)  # runs have no pieces
    return spec.replace(pieces_together=max(1, round(piece_s / spec.reading['piece_s'])))


def preprocessing(config: ConfigDict, specs: Sequence[EncoderSpec | TrainedSpec]) -> dict:
    """What a record goes through before the network, for others who open the run."""
    settings = {'items': config.data['items']}
    settings |= {name: value for name, value in config.to_dict().items() if name in PREPROCESSING}
    if specs:
        settings['encoders'] = [spec.to_json() for spec in specs]
    elif 'frames' in config:
        mean, std = sources.IMAGENET_MEAN, sources.IMAGENET_STD
        if 'pretrained' in config:
            source = weights.source_of(config.pretrained)
            mean, std = source.mean, source.std
        settings = {'mean': mean, 'std': std} | settings
    return settings


def embedded_live(
    config: ConfigDict, specs: Sequence[EncoderSpec | TrainedSpec]
) -> TrainedSpec | None:
    """The run that sees augmented pictures, if one does: its embeddings cannot be kept."""
    if not config.get('augment_pictures'):
        return None
    (found,) = (s for s in specs if not isinstance(s, EncoderSpec) and s.takes == 'frames')
    return found


def embedder(config: ConfigDict, spec: TrainedSpec) -> tuple[Callable, Mapping]:
    """What puts the run's embedding of a batch's pictures in their place; see Steps."""
    model, variables = spec.network()
    (name,) = (name for name, encoder in config.inputs.items() if encoder == spec.name)

    def embed(variables: Mapping, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        others = {key: array for key, array in batch.items() if key != 'image'}
        return others | {name: embedding(model, variables, batch['image'])}

    return embed, variables


def training_only(prepare: Callable, keys: jax.Array | None, batch: Mapping) -> Mapping:
    """`prepare`, but for rows that are scored: they hold kept embeddings."""
    return batch if keys is None else prepare(keys, batch)


def extract(
    config: ConfigDict,
    dataset: records.Dataset,
    names: Iterable[str],
    specs: Sequence[EncoderSpec | TrainedSpec],
    **folders: Unpack[Folders],
) -> dict[str, feature_cache.Features]:
    """The encoders' features of each of these splits, as those that are stored have them."""
    names = list(names)
    if 'fold' in config.data:
        assert isinstance(dataset, folds.FoldedDataset)
        stored = feature_cache.extract(dataset.whole, folds.STORED, specs, **folders)
        return {name: picked(stored.values(), dataset.outlines(name)) for name in names}
    parts = {name: name.split('+') for name in names}
    stored = feature_cache.extract(
        dataset, {p: None for of in parts.values() for p in of}, specs, **folders
    )
    return {name: joined([stored[part] for part in of]) for name, of in parts.items()}


def picked(
    stored: Iterable[feature_cache.Features], outlines: Iterable[Mapping]
) -> feature_cache.Features:
    """The features of the clips that the outlines are of, out of several splits."""
    wanted = [outline['clip_id'] for outline in outlines]
    return joined([part.kept(np.isin(part.clip_id, wanted)) for part in stored])


def joined(parts: Sequence[feature_cache.Features]) -> feature_cache.Features:
    """The features of several splits, one behind the other."""
    if len(parts) == 1:
        return parts[0]
    return feature_cache.Features(
        clip_id=[name for part in parts for name in part.clip_id],
        segment=np.concatenate([part.segment for part in parts]),
        label=np.concatenate([part.label for part in parts]),
        arrays={
            name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays
        },
    )


def feature_rows(found: feature_cache.Features, inputs: dict[str, np.ndarray]) -> Rows:
    """The network's inputs as rows: one for each frame of each record, or one a record."""
    num_rows, num_records = len(next(iter(inputs.values()))), len(found.clip_id)
    frames = num_rows // num_records
    segment = np.tile(np.arange(frames, dtype=np.int32), num_records)
    return Rows(
        clip_id=np.repeat(found.clip_id, frames).tolist(),
        segment=segment if frames > 1 else found.segment,
        label=np.repeat(found.label, frames),
        inputs=inputs,
    )


def means(arrays: Mapping[str, Mapping[str, np.ndarray]], first: str | None) -> dict:
    """Of each input over the rows of the training split, or of another if that has it only live."""
    found: dict[str, np.ndarray] = {}
    for split in sorted(arrays, key=lambda split: split != first):
        for name, array in arrays[split].items():
            found.setdefault(name, array.mean(axis=0, dtype=np.float64).astype(np.float32))
    return found


def splits_used(config: ConfigDict) -> dict[str, str]:
    """'train' and 'valid', of a system that is trained, and 'test' -> the data's split."""
    return {part: config.data[part] for part in ('train', 'valid', 'test') if part in config.data}
