"""Data sets of TFDS builders: TAU with its made-up demo, and builders of the user's modules."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from avsc_jax.data import label_kinds, records
from avsc_jax.data.sources.source import CLIP_S, DataSource, Forecast, build
from avsc_jax.runtime import nearest
from avsc_jax.runtime.files import locked

# Builder config of tfds_tau -> the config whose records are the same clips, uncut.
WHOLE = {'segments': 'clips', 'frames10': 'clips', 'demo_segments': 'demo'}


class Tau(DataSource):
    """TAU if it is prepared; otherwise the demo, made-up clips in its layout that a run builds."""

    has_demo = True

    def choose(self, config: ConfigDict, data_dir: Path, *, named: bool) -> None:
        """Chooses TAU if prepared or named, else the demo; raises if a named TAU is missing."""
        data = config.data
        if data.source == 'auto':
            data.source = 'tau' if named or self.is_prepared(data, data_dir) else 'demo'
        if data.source == 'demo':
            data.config = 'demo_segments' if data.config == 'segments' else 'demo'
        elif config.kind != 'ensemble':  # an ensemble reads only tables
            self.open({'name': data.name, 'config': data.config}, data_dir)

    def command(self, data: Mapping, data_dir: Path) -> str:
        has_media = data['config'].startswith('demo')
        wanted = ' --manual_dir=FOLDER_WITH_THE_FILES, or --download in its place to fetch them'
        media = '' if has_media else wanted
        return f'python -m tfds_tau.build --config={data["config"]} --data_dir={data_dir}{media}'

    def prepare(self, config: ConfigDict, data_dir: Path) -> None:
        """Builds the demo if it is missing; TAU is never built by a run."""
        if config.data.source == 'demo' and not self.is_prepared(config.data, data_dir):
            build(
                _module('tfds_tau_dataset_builder').Builder(
                    config=config.data.config, data_dir=data_dir
                )
            )

    def warnings(self, data: Mapping, dataset: records.Dataset) -> list[str]:
        """Warns of made-up clips, and of folds that are not the official one."""
        fold = (
            'reported on a fold made here, not on the official one: published scores are of other '
            'clips'
        )
        return super().warnings(data, dataset) + [fold] * ('fold' in data)

    def has_one_frame(self, data: Mapping) -> bool:
        return data['config'] in ('segments', 'demo_segments')

    def media_dir(self, config: str, data_dir: Path) -> Path:
        """Returns the folder of the video files; renders the demo's if they are missing."""
        if not config.startswith('demo'):
            return super().media_dir(config, data_dir)
        folder = _demo_dir(data_dir)
        return folder if folder.is_dir() else demo_media(data_dir)


def demo_media(data_dir: Path) -> Path:
    """Renders the demo's media files that are missing; returns their folder."""
    demo, folder = _module('demo'), _demo_dir(data_dir)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        return demo.render(folder)


def _demo_dir(data_dir: Path) -> Path:
    version = _module('tfds_tau_dataset_builder').Builder.VERSION
    return data_dir / 'downloads' / f'tfds_tau_demo-{version}'


def _module(name: str) -> ModuleType:
    """Imports a module of the package tfds_tau, unless another tfds_tau is in its way."""
    import tfds_tau

    place = Path(tfds_tau.__file__ or next(iter(tfds_tau.__path__)))
    if not (place.parent / f'{name}.py').exists():
        raise ValueError(
            f'{place} hides the tfds_tau that is installed with this package; rename it, or give '
            'the command in another folder'
        )
    return importlib.import_module(f'tfds_tau.{name}')


def same_clips(one: str, other: str) -> bool:
    """Returns whether two data sets are different cuts of the same clips.

    Args:
      one, other: their names in environment.json.
    """
    names = [tuple(text.split()[0].split('/')) for text in (one, other)]
    if min(map(len, names)) < 3:
        return False
    whole = {(name, WHOLE.get(config, config), version) for name, config, version in names}
    return names[0] != names[1] and len(whole) == 1


class Module(DataSource):
    """A data set whose TFDS builder is defined by a module of the user.

    Args:
      name: name of the module.
      known: names of other data sets, for errors.
    """

    def __init__(self, name: str, known: Iterable[str]):
        self.name, self._class = name, _builder_class(name, known)

    def choose(self, config: ConfigDict, data_dir: Path, *, named: bool) -> None:
        """Reads the user's clips; the token demo makes only the networks small."""
        if config.data.source != 'demo':
            config.data.source = 'own'

    def settle(self, config: ConfigDict) -> None:
        """Checks the builder's config, and removes the published scores."""
        data, known = config.data, [*self._class.builder_configs]
        data.source = 'own'
        if not known:
            data.config = ''
        elif data.config not in known:
            raise ValueError(
                f'{self.name} has no config {data.config!r}; name one of its own by '
                f'--config.data.config={known[0]}' + ''.join(f' or {name}' for name in known[1:])
            )
        config.paper = ConfigDict()

    def command(self, data: Mapping, data_dir: Path) -> str:
        """Returns a Python command, because TFDS's own needs TensorFlow."""
        config = f'config={data["config"]!r}, ' * bool(data['config'])
        name = self._class.__name__
        return (
            f'python -c "from {self._class.__module__} import {name}; {name}({config}'
            f"data_dir={str(data_dir)!r}, file_format='array_record').download_and_prepare()\""
        )

    def is_prepared(self, data: Mapping, data_dir: Path) -> bool:
        return records.is_prepared(self._class.name, data['config'], data_dir)

    def prepare(self, config: ConfigDict, data_dir: Path) -> None:
        """Builds the version that the builder class names, if it is missing."""
        builder = self._builder(config.data, data_dir)
        if not builder.is_prepared():
            build(builder)

    def open(self, data: Mapping, data_dir: Path) -> records.Dataset:
        """Opens the data set under the builder's name, which need not be the module's."""
        return super().open({**data, 'name': self._class.name}, data_dir)

    def forecast(self, data: Mapping, data_dir: Path) -> Forecast:
        label = self._builder(data, data_dir).info.features['label']
        return Forecast(label_kinds.of_feature(label)[0], {})

    def window_s(self, data: Mapping, dataset: records.Dataset | None = None) -> float:
        """Returns what the builder's config says, else the length of the first record's clip."""
        stated = getattr(self._class.builder_configs.get(data['config']), 'window_s', None)
        if stated or dataset is None:
            return float(stated or CLIP_S)
        return _clip_s(dataset) or CLIP_S

    def suffix(self, data: Mapping) -> str:
        return ''.join(f'-{part}' for part in (self.name, data['config']) if part)

    def overrides(self, data: Mapping) -> tuple[str, ...]:
        return tuple(f'--config.data.{name}={data[name]}' for name in ('name', 'config'))

    def _builder(self, data: Mapping, data_dir: Path) -> tfds.core.DatasetBuilder:
        """Returns the builder; raises ValueError unless its records have all fields."""
        builder = self._class(
            config=data['config'] or None, data_dir=data_dir, file_format='array_record'
        )
        features = builder.info.features
        if missing := [name for name in records.FIELDS if name not in features]:
            raise ValueError(
                f'the records of {self.name} have no field {missing[0]!r}; a builder must give '
                f'{", ".join(records.FIELDS)}: avsc_jax.data.builder.record_features(classes) does'
            )
        try:
            label_kinds.of_feature(features['label'])
        except ValueError as error:
            raise ValueError(
                f'the field label of {self.name} is {features["label"]}; it must be a ClassLabel '
                'with names, as of avsc_jax.data.builder.record_features(classes)'
            ) from error
        return builder


def _clip_s(dataset: records.Dataset) -> float | None:
    """Measures the sound of the first clip, of one or several records; None if it has none."""
    whole = records.Dataset(dataset.builder, dataset.command)  # not cut into folds
    stored = whole.records(next(iter(dataset.builder.info.splits)), fields=())
    total_s, first = 0.0, None
    for index in range(len(stored)):
        outline = stored.outline(index)
        first = outline['clip_id'] if first is None else first
        if outline['clip_id'] != first or not outline['num_samples']:
            break
        total_s += outline['num_samples'] / outline['sample_rate']
        if outline['segment'] < 0:
            break
    return round(total_s, 2) or None


def is_module(name: str) -> bool:
    """Returns whether a module of this name exists; a folder without modules is none."""
    _search_working_directory()
    return (
        name.isidentifier() and getattr(importlib.util.find_spec(name), 'origin', None) is not None
    )


def _search_working_directory() -> str:
    """Makes modules of the working directory importable, as python -m does; returns its path."""
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.append(folder)
    return folder


def _builder_class(name: str, known: Iterable[str]) -> type[tfds.core.DatasetBuilder]:
    """Imports a module and returns its builder; raises ValueError unless it has exactly one."""
    folder = _search_working_directory()
    try:
        module = importlib.import_module(name) if name and name[0] != '.' else None
    except ModuleNotFoundError as error:
        if not f'{name}.'.startswith(f'{error.name}.'):
            raise  # the user's module imports a missing one
        module = None
    if module is None:
        raise ValueError(
            f'there is no data set {name!r}{nearest.meant(name, known)}; data.name must be one of '
            f'{", ".join(known)}, or a module in {folder} that defines a subclass of '
            'avsc_jax.data.builder.RecordBuilder'
        )
    classes = _classes_of(module)
    inner = f'{name}.{name}_dataset_builder'  # in TFDS's folder layout
    if not classes and hasattr(module, '__path__') and importlib.util.find_spec(inner):
        classes = _classes_of(importlib.import_module(inner))
    if len(classes) != 1:
        named = ', '.join(cls.__name__ for cls in classes) or 'none'
        raise ValueError(
            f'{name}, {module.__spec__.origin or "a folder"}, must define one TFDS builder, and '
            f'defines {named}; put one subclass of avsc_jax.data.builder.RecordBuilder into a '
            'module of its own, and name that module by data.name'
        )
    return classes[0]


def _classes_of(module: ModuleType) -> list[type[tfds.core.DatasetBuilder]]:
    """Returns the builders that a module or its submodules define, but not imported ones."""
    classes = dict.fromkeys(value for value in vars(module).values() if isinstance(value, type))
    return [
        cls
        for cls in classes
        if issubclass(cls, tfds.core.DatasetBuilder)
        and f'{cls.__module__}.'.startswith(f'{module.__name__}.')
        and not inspect.isabstract(cls)
    ]
