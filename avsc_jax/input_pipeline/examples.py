"""Loads the rows of a config's splits: cached features, or media that is read when needed."""

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
from avsc_jax.input_pipeline import feature_cache, kept_statistics, picture_size, pooling
from avsc_jax.input_pipeline import media_inputs as inputs
from avsc_jax.input_pipeline.encoders import EncoderSpec, TrainedSpec, embedding
from avsc_jax.input_pipeline.kept_features import Features
from avsc_jax.models import sources

PREPROCESSING = (
    'frames', 'short_side', 'pictures', 'size', 'canvas', 'mean', 'std', *picture_size.OPTIONS,
    'front_end', 'piece_s', 'spectrum_size', 'inputs', 'pool', 'length', 'frames_per_row',
    'standardize',
)  # fmt: skip


class KeptArrays(Protocol):
    """The interface of a store of arrays that are measured once; see RunFolder."""

    def stats(self, measure: Callable[[], Mapping[str, np.ndarray]]) -> Mapping: ...

    def means(self, measure: Callable[[], Mapping[str, np.ndarray]]) -> Mapping: ...


class Folders(TypedDict):
    """The folders of features and weights, and how features are made.

    Attributes:
      media: a function that gives a clip's video file.
      fresh: whether to compute anew what is cached.
    """

    cache_dir: Path
    weights_dir: Path
    media: Callable[[str], media.MediaFile]
    fresh: bool


class Loaded(NamedTuple):
    """The rows of each split, and the functions that prepare their batches.

    Attributes:
      splits: the rows of 'train', 'valid' and 'test', as far as the config has them.
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
    fresh: bool = False,
) -> Loaded:
    """Loads the rows of the config's splits, and makes the functions that prepare batches.

    Args:
      kept: the run folder, which stores what is measured over the training rows.
      fresh: whether to compute anew what is cached.
    """
    splits = splits_used(config)
    names, train = list(dict.fromkeys(splits.values())), config.data.get('train')
    settings, live = preprocessing(config, specs), embedded_live(config, specs)
    folder = data_dir / 'features' / dataset.name.replace('/', '-')
    statistics = partial(kept_statistics.kept, folder, fresh=fresh)
    rows: dict[str, Rows] = {}
    arrays: dict[str, dict[str, np.ndarray]] = {name: {} for name in names}
    counts: dict[str, np.ndarray] = {}
    if specs:
        folders: Folders = {
            'cache_dir': data_dir / 'features',
            'weights_dir': weights_dir,
            'media': media_files(dataset, data_dir, media_dir),
            'fresh': fresh,
        }
        encoded = encode(config, dataset, specs, live, **folders)
        stats = None
        if config.get('standardize'):
            facts = facts_of(config, dataset, settings, specs)
            stats = kept.stats(
                lambda: statistics(facts, lambda: measured_of(settings, encoded[train]))
            )
        for name, features in encoded.items():
            arrays[name], counts[name] = pooling.clip_inputs(
                settings, features.arrays, features.all_counts, stats, overwrite=True
            )
        kept.means(lambda: means(arrays, first=train))  # for clips without sound or picture
        if 'size' not in config:
            stored = [name for name in names if not (live and name == train)]
            rows = {
                name: feature_rows(encoded[name], arrays[name], counts[name]) for name in stored
            }
    prepare: Callable | None = None
    embed: tuple[Callable, Mapping] | None = None
    if live:
        reader = inputs.make(live.settings, None, live.augmentation)
        rows[train] = inputs.rows(dataset, train, reader, arrays[train])
        prepare, embed = partial(training_only, reader.prepare_batch), embedder(config, live)
    elif not rows:
        rows, prepare = read_live(config, kept, dataset, settings, arrays, statistics)
    return Loaded({part: rows[name] for part, name in splits.items()}, prepare, embed)


def measured_of(settings: Mapping, features: Features) -> dict[str, np.ndarray]:
    return pooling.measure(settings, features.arrays, features.counts)


def encode(
    config: ConfigDict,
    dataset: records.Dataset,
    specs: Sequence[EncoderSpec | TrainedSpec],
    live: TrainedSpec | None,
    **folders: Unpack[Folders],
) -> dict[str, Features]:
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
    statistics: Callable[[Mapping, Callable], Mapping],
) -> tuple[dict[str, Rows], Callable]:
    """The rows of splits whose media are read when needed, and what prepares a batch of them."""
    train, augmentation = config.data.get('train'), config.to_dict().get('augment', {})
    plain, reader = inputs.make(settings), inputs.make(settings, None, augmentation)
    rows = {
        name: inputs.rows(dataset, name, reader if name == train else plain, of_split)
        for name, of_split in arrays.items()
    }
    stats = None
    if not isinstance(reader, inputs.FrameInputs) and reader.takes_stats:
        measured, batch_size = reader.measured, config.batch_size
        its = rows[train] if measured is reader else inputs.rows(dataset, train, measured)
        facts = facts_of(config, dataset, settings)
        stats = kept.stats(
            lambda: statistics(
                facts | {'batch_size': batch_size},  # of which their last digits depend
                lambda: inputs.measure(measured, its, batch_size=batch_size),
            )
        )
    return rows, inputs.make(settings, stats, augmentation).prepare_batch


def facts_of(
    config: ConfigDict,
    dataset: records.Dataset,
    settings: Mapping,
    specs: Sequence[EncoderSpec | TrainedSpec] = (),
) -> dict:
    """Returns what the statistics of training rows depend on."""
    train = config.data.train
    return {
        'encoders': {spec.name: spec.key(dataset.fingerprint) for spec in specs},
        'data': [dataset.fingerprint, train, dataset.title(train)],
        'settings': dict(settings),
        'augment': [*config.get('augment', {})],
        'training_piece_s': config.get('training_piece_s'),
    }


def together(spec: EncoderSpec | TrainedSpec, piece_s: float) -> EncoderSpec:
    """Returns a front end's spec with as many pieces to an item as last `piece_s` seconds."""
    assert isinstance(spec, EncoderSpec)  # runs have no pieces
    return spec.replace(pieces_together=media.num_pieces(piece_s, spec.reading['piece_s']))


def preprocessing(config: ConfigDict, specs: Sequence[EncoderSpec | TrainedSpec]) -> dict:
    """Returns the settings of a record's preprocessing, which the run folder stores."""
    settings = {'items': config.data['items']}
    settings |= {name: value for name, value in config.to_dict().items() if name in PREPROCESSING}
    if specs:
        settings['encoders'] = [spec.to_json() for spec in specs]
    elif 'frames' in config:
        normal: dict = {'mean': sources.IMAGENET_MEAN, 'std': sources.IMAGENET_STD}
        share = picture_size.CROP_FRACTION
        if 'pretrained' in config:
            source = weights.source_of(config.pretrained)
            normal, share = {'mean': source.mean, 'std': source.std}, source.crop_fraction
        if config.get('resize') == 'crop':
            normal['crop_fraction'] = share
        settings = normal | settings
    return settings


def embedded_live(
    config: ConfigDict, specs: Sequence[EncoderSpec | TrainedSpec]
) -> TrainedSpec | None:
    """Returns the run that encodes augmented pictures, if any: its output cannot be cached."""
    if not config.get('augment_pictures'):
        return None
    (spec,) = (s for s in specs if not isinstance(s, EncoderSpec) and s.takes == 'frames')
    return spec


def embedder(config: ConfigDict, spec: TrainedSpec) -> tuple[Callable, Mapping]:
    """Returns a function that replaces a batch's pictures by embeddings, and its variables."""
    model, variables = spec.network()
    (name,) = (name for name, encoder in config.inputs.items() if encoder == spec.name)

    def embed(variables: Mapping, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        others = {key: array for key, array in batch.items() if key != 'image'}
        return others | {name: embedding(model, variables, batch['image'])}

    return embed, variables


def training_only(prepare: Callable, keys: jax.Array | None, batch: Mapping) -> Mapping:
    """Prepares training batches; batches that are scored hold cached embeddings already."""
    return batch if keys is None else prepare(keys, batch)


def extract(
    config: ConfigDict,
    dataset: records.Dataset,
    names: Iterable[str],
    specs: Sequence[EncoderSpec | TrainedSpec],
    **folders: Unpack[Folders],
) -> dict[str, Features]:
    """Returns each split's features; a split may be a part of a fold, or several joined by '+'."""
    names = list(names)
    if 'fold' in config.data:
        assert isinstance(dataset, folds.FoldedDataset)
        whole = dataset.whole
        wanted = {name: dataset.stored_records(name) for name in names}
        return feature_cache.extract(whole, wanted, specs, **folders)
    parts = {name: dict.fromkeys(name.split('+')) for name in names}
    return feature_cache.extract(dataset, parts, specs, **folders)


def feature_rows(features: Features, inputs: dict[str, np.ndarray], counts: np.ndarray) -> Rows:
    """Makes rows of a network's inputs, clip after clip.

    Args:
      counts: how many rows each record has: its frames, or one.
    """
    record = np.repeat(np.arange(len(counts)), counts)
    part = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
    return Rows(
        clip_id=[features.clip_id[k] for k in record],
        segment=np.where(counts[record] > 1, part, features.segment[record]),
        label=features.label[record],
        inputs=inputs,
    )


def means(arrays: Mapping[str, Mapping[str, np.ndarray]], first: str | None) -> dict:
    """Returns each input's mean over the split `first`, else over one that has the input."""
    mean_of: dict[str, np.ndarray] = {}
    for split in sorted(arrays, key=lambda split: split != first):
        for name, array in arrays[split].items():
            mean_of.setdefault(name, array.mean(axis=0, dtype=np.float64).astype(np.float32))
    return mean_of


def splits_used(config: ConfigDict) -> dict[str, str]:
    """Maps 'train', 'valid' and 'test', as far as the config has them, to the data's splits."""
    return {part: config.data[part] for part in ('train', 'valid', 'test') if part in config.data}
