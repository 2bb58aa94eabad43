"""Data sets of TFDS builders: TAU with its made-up demo, and those of the user's own modules."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from avsc_jax.data import records
from avsc_jax.data.sources.source import Forecast, Source, build
from avsc_jax.runtime.files import locked

# Builder config of tfds_tau -> the one that has the same clips whole.
WHOLE = {'segments': 'clips', 'frames10': 'clips', 'demo_segments': 'demo'}


class Tau(Source):
    """TAU where it is prepared; else made-up clips in its layout, which a run builds itself."""

    def choose(self, config: ConfigDict, data_dir: Path, *, named: bool) -> None:
        """TAU if it is there or named, else the demo; a named TAU that is missing is an error."""
        data = config.data
        if data.source == 'auto':
            data.source = 'tau' if named or self.is_prepared(data, data_dir) else 'demo'
        if data.source == 'demo':
            data.config = 'demo_segments' if data.config == 'segments' else 'demo'
        elif config.kind != 'ensemble':  # which reads tables alone
            self.open({'name': data.name, 'config': data.config}, data_dir)

    def command(self, data: Mapping, data_dir: Path) -> str:
        """TFDS's build command without TensorFlow."""
        media = '' if data['config'].startswith('demo') else ' --manual_dir=FOLDER_WITH_THE_FILES'
        return f'python -m tfds_tau.build --config={data["config"]} --data_dir={data_dir}{media}'

    def prepare(self, config: ConfigDict, data_dir: Path) -> None:
        """Builds the demo."""
        if config.data.source == 'demo' and not self.is_prepared(config.data, data_dir):
            from tfds_tau.tfds_tau_dataset_builder import (
                Builder,  # only the demo is built from here
            )

            build(Builder(config=config.data.config, data_dir=data_dir))

    def warnings(self, data: Mapping, dataset: records.Dataset) -> list[str]:
        """Made-up clips, and folds."""
        fold = (
            'reported on a fold made here, not on the official one: published scores are of other '
            'clips'
        )
        return super().warnings(data, dataset) + [fold] * ('fold' in data)

    def has_one_frame(self, data: Mapping) -> bool:
        """Whether records are seconds."""
        return data['config'] in ('segments', 'demo_segments')

    def media_dir(self, config: str, data_dir: Path) -> Path:
        """Those of the demo are rendered where there are none."""
        if not config.startswith('demo'):
            return super().media_dir(config, data_dir)
        folder = _demo_dir(data_dir)
        return folder if folder.is_dir() else demo_media(data_dir)


def demo_media(data_dir: Path) -> Path:
    """The folder of the demo's media, after those that are missing are rendered."""
    from tfds_tau import demo

    folder = _demo_dir(data_dir)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        return demo.render(folder)


def _demo_dir(data_dir: Path) -> Path:
    from tfds_tau.tfds_tau_dataset_builder import Builder

    return data_dir / 'downloads' / f'tfds_tau_demo-{Builder.VERSION}'


def same_clips(one: str, other: str) -> bool:
    """Whether two data sets, named as in environment.json, are different cuts of the same clips."""
    names = [tuple(text.split()[0].split('/')) for text in (one, other)]
    if min(map(len, names)) < 3:
        return False
    whole = {(name, WHOLE.get(config, config), version) for name, config, version in names}
    return names[0] != names[1] and len(whole) == 1


class Module(Source):
    """The one TFDS builder that a module of the user's defines.

    Args:
      name: of the module.
      known: names of other data sets, for errors.
    """

    def __init__(self, name: str, known: Iterable[str]):
        self.name, self._class = name, _builder_class(name, known)

    def choose(self, config: ConfigDict, data_dir: Path, *, named: bool) -> None:
        """The token demo makes the networks small; the clips are the user's all the same."""
        if config.data.source != 'demo':
            config.data.source = 'own'

    def settle(self, config: ConfigDict) -> None:
        """The builder's config, if it has any, and no published scores."""
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
        """Python, as TFDS's own command needs TensorFlow."""
        config = f'config={data["config"]!r}, ' * bool(data['config'])
        name = self._class.__name__
        return (
            f'python -c "from {self._class.__module__} import {name}; {name}({config}'
            f"data_dir={str(data_dir)!r}, file_format='array_record').download_and_prepare()\""
        )

    def is_prepared(self, data: Mapping, data_dir: Path) -> bool:
        """Whether a version of it is there."""
        return records.is_prepared(self._class.name, data['config'], data_dir)

    def prepare(self, config: ConfigDict, data_dir: Path) -> None:
        """Builds the version that the class names."""
        builder = self._builder(config.data, data_dir)
        if not builder.is_prepared():
            build(builder)

    def open(self, data: Mapping, data_dir: Path) -> records.Dataset:
        """As others, in the folder of the builder's name."""
        return super().open({**data, 'name': self._class.name}, data_dir)

    def forecast(self, data: Mapping, data_dir: Path) -> Forecast:
        """The classes of the builder."""
        return Forecast(tuple(self._builder(data, data_dir).info.features['label'].names), {})

    def suffix(self, data: Mapping) -> str:
        """Module and config."""
        return ''.join(f'-{part}' for part in (self.name, data['config']) if part)

    def overrides(self, data: Mapping) -> tuple[str, ...]:
        """Module and config."""
        return tuple(f'--config.data.{name}={data[name]}' for name in ('name', 'config'))

    def _builder(self, data: Mapping, data_dir: Path) -> tfds.core.DatasetBuilder:
        """The builder; an error if its records lack a field."""
        builder = self._class(
            config=data['config'] or None, data_dir=data_dir, file_format='array_record'
        )
        features = builder.info.features
        if missing := [name for name in records.FIELDS if name not in features]:
            raise ValueError(
                f'the records of {self.name} have no field {missing[0]!r}; a builder must give '
                f'{", ".join(records.FIELDS)}: avsc_jax.data.builder.record_features(classes) does'
            )
        if not isinstance(features['label'], tfds.features.ClassLabel):
            raise ValueError(
                f'the field label of {self.name} is {features["label"]}; it must be a ClassLabel '
                'with names, as of avsc_jax.data.builder.record_features(classes)'
            )
        return builder


def is_module(name: str) -> bool:
    """Whether there is a module of this name; a folder of other files is none."""
    _look_here()
    return (
        name.isidentifier() and getattr(importlib.util.find_spec(name), 'origin', None) is not None
    )


def _look_here() -> str:
    """Has modules of the working directory found, as python -m does; returns the directory."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    return here


def _builder_class(name: str, known: Iterable[str]) -> type[tfds.core.DatasetBuilder]:
    """The one builder of a module of this name; an error that says what to do if there is none."""
    here = _look_here()
    try:
        module = importlib.import_module(name) if name and name[0] != '.' else None
    except ModuleNotFoundError as error:
        if not f'{name}.'.startswith(f'{error.name}.'):
            raise  # a module that the user's own one imports
        module = None
    if module is None:
        raise ValueError(
            f'there is no data set {name!r}; data.name must be one of {", ".join(known)}, or a '
            f'module in {here} that defines a subclass of avsc_jax.data.builder.RecordBuilder'
        )
    classes = _classes_of(module)
    inner = f'{name}.{name}_dataset_builder'  # of a folder in TFDS's layout
    if not classes and hasattr(module, '__path__') and importlib.util.find_spec(inner):
        classes = _classes_of(importlib.import_module(inner))
    if len(classes) != 1:
        named = ', '.join(cls.__name__ for cls in classes) or 'none'
        raise ValueError(
            f'{name}, {module.__spec__.origin or "a folder"}, must define one TFDS builder, and '
            f'defines {named}; put one into a module of its own, a subclass of '
            'avsc_jax.data.builder.RecordBuilder, and give that as data.name'
        )
    return classes[0]


def _classes_of(module: ModuleType) -> list[type[tfds.core.DatasetBuilder]]:
    """The builders that a module or a module inside it defines, not those that it imports."""
    classes = dict.fromkeys(value for value in vars(module).values() if isinstance(value, type))
    return [
        cls
        for cls in classes
        if issubclass(cls, tfds.core.DatasetBuilder)
        and f'{cls.__module__}.'.startswith(f'{module.__name__}.')
        and not inspect.isabstract(cls)
    ]
