"""What depends on which data set a config names; other code asks a Source and no names."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from avsc_jax.data import folds, records
from avsc_jax.scenes import SCENES


class Forecast(NamedTuple):
    """What is known of a data set before it is prepared: classes, and clips of splits, if any."""

    classes: tuple[str, ...]
    clips: Mapping[str, int]


class Source:
    """A data set of records, in the folder of its builder.

    `data` is the data section of a config; only its `name` and `config` are needed to open.

    Attributes:
      has_folds: it may be cut into five folds.
    """

    has_folds = True

    def choose(self, config: ConfigDict, data_dir: Path, *, named: bool) -> None:
        """Sets `data.source` to what is read: 'tau', 'demo' or 'own'.

        Args:
          named: the user named `data_dir`; then nothing is read in place of what is not there.
        """
        raise NotImplementedError

    def settle(self, config: ConfigDict) -> None:
        """Sets what follows from the data section, once all overrides are in it."""

    def command(self, data: Mapping, data_dir: Path) -> str:
        """What builds the data set, for errors."""
        raise NotImplementedError

    def is_prepared(self, data: Mapping, data_dir: Path) -> bool:
        """Whether the data set can be opened."""
        return records.is_prepared(data['name'], data['config'], data_dir)

    def prepare(self, config: ConfigDict, data_dir: Path) -> None:
        """Builds the data set where it is missing and a run may do that by itself."""

    def open(self, data: Mapping, data_dir: Path) -> records.Dataset:
        """Opens the data set, cut into folds where `data` names one; an error if it is missing."""
        command = self.command(data, data_dir)
        return folds.cut(
            records.open_dataset(data['name'], data['config'], data_dir, command), data
        )

    def forecast(self, data: Mapping, data_dir: Path) -> Forecast:
        """Classes and clips of what is not prepared yet, but will be by a run."""
        return Forecast(SCENES, {})

    def suffix(self, data: Mapping) -> str:
        """What the default run folder's name ends in, so that runs on other clips lie apart."""
        return ''

    def overrides(self, data: Mapping) -> tuple[str, ...]:
        """Flags that make another config read the same data set."""
        return ()

    def warnings(self, data: Mapping, dataset: records.Dataset) -> list[str]:
        """What a report must say of scores on these clips."""
        made_up = 'made-up clips: shows that the program works, says nothing about scenes'
        return [made_up] if data['source'] == 'demo' else []

    def has_one_frame(self, data: Mapping) -> bool:
        """Whether a record has a single frame."""
        return False

    def media_dir(self, config: str, data_dir: Path) -> Path:
        """Where the video files lie that the builder's config was built from."""
        return data_dir / 'downloads/manual'


def build(builder: tfds.core.DatasetBuilder) -> None:
    """Prepares a data set, and says so."""
    print(f'building {builder.info.full_name} in {builder.data_dir}', file=sys.stderr)
    tfds.disable_progress_bar()  # ours shows its own
    builder.download_and_prepare()
