"""The interface of data sets: all code that depends on which one a config names."""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from avsc_jax.data import folds, records
from avsc_jax.data.builder.base import RecordBuilder
from avsc_jax.scenes import SCENES

CLIP_S = 10.0  # length of TAU's clips, and of those of runs that store none


class Forecast(NamedTuple):
    """Facts about a data set before it is prepared; splits of unknown size are not in `clips`.

    `stills` is how many clips of each split are still pictures; a split without an entry has none.
    """

    classes: tuple[str, ...]
    clips: Mapping[str, int]
    stills: Mapping[str, int] = MappingProxyType({})


class DataSource:
    """A data set of records in its builder's folder; subclasses override what differs.

    `data` is the data section of a config; only its `name` and `config` are needed to open.

    Attributes:
      has_folds: whether it can be cut into five folds.
      has_demo: whether made-up clips take its place where it is not prepared.
    """

    has_folds = True
    has_demo = False

    def choose(self, config: ConfigDict, data_dir: Path, *, named: bool) -> None:
        """Sets `data.source`, the clips to read: 'tau', 'demo' or 'own'.

        Args:
          named: whether the user named `data_dir`; if so, nothing replaces a missing data set.
        """
        raise NotImplementedError

    def settle(self, config: ConfigDict) -> None:
        """Sets config fields that depend on others, once all overrides are applied."""

    def check(self, data: Mapping, data_dir: Path) -> None:
        """Raises for clips that cannot be trained on, before weights are asked for or fetched.

        It is quick: no media are opened.
        """

    def command(self, data: Mapping, data_dir: Path) -> str:
        """Returns the command that builds the data set, for errors."""
        raise NotImplementedError

    def is_prepared(self, data: Mapping, data_dir: Path) -> bool:
        """Returns whether the data set can be opened."""
        return records.is_prepared(data['name'], data['config'], data_dir)

    def prepare(self, config: ConfigDict, data_dir: Path) -> None:
        """Builds the data set if it is missing and a run may build it."""

    def open(self, data: Mapping, data_dir: Path) -> records.Dataset:
        """Opens the data set, cut into folds if `data` names one; raises if it is missing."""
        command = self.command(data, data_dir)
        return folds.cut(
            records.open_dataset(data['name'], data['config'], data_dir, command), data
        )

    def identities(self, config: ConfigDict, data_dir: Path) -> tuple[str, ...] | None:
        """Returns the identities of the data set as it is now; None if it is not prepared.

        See `Dataset.identities`. Nothing is built.
        """
        if not self.is_prepared(config.data, data_dir):
            return None
        return self.open(config.data, data_dir).identities

    def forecast(self, data: Mapping, data_dir: Path) -> Forecast:
        """Returns the facts of a data set that a run is going to prepare."""
        return Forecast(SCENES, {})

    def suffix(self, data: Mapping) -> str:
        """Returns a suffix of the default run folder's name that keeps other clips' runs apart."""
        return ''

    def overrides(self, data: Mapping) -> tuple[str, ...]:
        """Returns flags that make another config read the same data set."""
        return ()

    def warnings(self, data: Mapping, dataset: records.Dataset) -> list[str]:
        """Returns caveats that a report must print about scores on these clips."""
        made_up = 'made-up clips: shows that the program works, says nothing about scenes'
        return [made_up] if data['source'] == 'demo' else []

    def window_s(self, data: Mapping, dataset: records.Dataset | None = None) -> float:
        """Returns the length in seconds of the clips that the records are, or are seconds of.

        Args:
          dataset: the opened data set; None before it is prepared.
        """
        return CLIP_S

    def has_one_frame(self, data: Mapping) -> bool:
        """Returns whether a record has a single frame."""
        return False

    def media_dir(self, config: str, data_dir: Path) -> Path:
        """Returns the folder of the video files that the builder's config was built from."""
        return data_dir / 'downloads/manual'


def build(builder: tfds.core.DatasetBuilder) -> None:
    """Prepares a data set and prints that it does; a RecordBuilder prints more by itself."""
    if not isinstance(builder, RecordBuilder):
        print(f'building {builder.info.full_name} in {builder.data_dir}', file=sys.stderr)
        # TFDS's own lines, of unknown sizes, go to the standard output, which is for results
        builder._log_download_bytes = builder._log_download_done = lambda: None
    tfds.disable_progress_bar()  # ours shows its own
    builder.download_and_prepare()
