"""One network of a predictor: its variables, its preprocessing, and what its answers mean."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

from avsc_jax import ensemble
from avsc_jax.input_pipeline import media_inputs as inputs
from avsc_jax.input_pipeline.system import System
from avsc_jax.predict.answer import KINDS, check_finite
from avsc_jax.runs.familiarity import FILE, Familiarity
from avsc_jax.runs.load import Preprocess, content_hash, load_run, load_system, window_s
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.runtime import compiler, compiling
from avsc_jax.tables import thresholds
from avsc_jax.types import Kind

ROWS_PER_CALL = 64


class Member:
    """A network that answers records, of a finished run or put together without one.

    Args:
      name: what it is called among the members of a predictor, each of which has its own.
      model: a Flax module that gives logits `[R, C]` and `out['embedding']`.
      variables: of the module.
      preprocess: turns records into its inputs.
      classes: the C names of its classes.
      hashed: returns a hash of all that its answers depend on.
      system: opens the same as one traceable system, for explanations.
      means: the mean of the training data for each input, which stands for a missing one.
      familiarity: of its embeddings to those of the training clips; None where none was fitted.
      kind: 'exclusive' where one of the classes is right and probabilities are a softmax;
        'independent' where each class is right or not by itself and they are sigmoids.
      limits: the thresholds of independent classes, see `tables.thresholds`; None: not known.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        variables: Mapping,
        preprocess: Preprocess,
        classes: Sequence[str],
        *,
        hashed: Callable[[], str],
        system: Callable[[], System],
        means: Mapping[str, np.ndarray] | None = None,
        familiarity: Familiarity | None = None,
        kind: Kind = 'exclusive',
        limits: Mapping | None = None,
    ):
        self.name, self.model, self.variables = name, model, variables
        self.preprocess, self.classes = preprocess, tuple(classes)
        self.system, self.kind, self._hashed = system, kind, hashed
        self.limits = limits
        self._means, self.familiarity = dict(means or {}), familiarity
        options = compiler.options(training=False)
        apply = jax.jit(self.model.apply, compiler_options=options)
        self._apply = compiling.told(apply, name)

    @classmethod
    def load(cls, name: str, folder: Path, weights_dir: Path | None = None) -> 'Member':
        """Opens a finished run; see load_run.

        Raises:
          ValueError: a file of it is damaged.
        """
        model, variables, preprocess, classes = load_run(folder, weights_dir=weights_dir)
        run = RunFolder(folder)
        return cls(
            name,
            model,
            variables,
            preprocess,
            classes,
            hashed=lambda: content_hash(folder, 'means.npz', FILE, thresholds.FILE),
            system=lambda: load_system(folder, weights_dir),
            means=_checked(folder, model),
            familiarity=run.read_familiarity(),
            kind=run.kind,
            limits=run.thresholds if run.kind == 'independent' else None,
        )

    def run_by(self, beside: Callable[[Callable], Callable]) -> None:
        """Lets another runtime run the network: `beside` gets the function by JAX."""
        self._apply = beside(self._apply)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """From which on each of independent classes is called true; none: not known."""
        return tuple(self.limits['thresholds']) if self.limits else ()

    @functools.cached_property
    def content_hash(self) -> str:
        """A hash of all that its answers depend on."""
        return self._hashed()

    @property
    def takes(self) -> list[str]:
        """The modalities (of KINDS) that the network takes."""
        return [kind for kind, fields in KINDS.items() if {*fields} & {*self.preprocess.fields}]

    @property
    def window_s(self) -> float:
        """Length in seconds of the clips that it was trained on, or made for."""
        return window_s(self.preprocess.settings)

    def rows(self, records: Sequence[Mapping]) -> list[dict[str, np.ndarray]]:
        """The network's inputs `[R, ...]` for each record; all records have the same modalities."""
        rows = self.preprocess.each(records)
        if not isinstance(self.model.input_spec, Mapping):
            return rows
        return [{**self._means_for(given), **given} for given in rows]

    def _means_for(self, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The mean of the training data for each input; zeros if the run did not keep it."""
        count = len(next(iter(rows.values())))
        filled = {}
        for name, spec in self.model.input_spec.items():
            mean = self._means.get(name, np.zeros(spec.shape[1:], spec.dtype))
            filled[name] = np.broadcast_to(mean, (count, *mean.shape))
        return filled

    def apply(self, rows: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Runs the network; returns probabilities `[R, C]` and embeddings `[R, D]`."""
        given = rows if isinstance(self.model.input_spec, Mapping) else rows['image']
        parts = []
        for part, count in inputs.calls(given, most=ROWS_PER_CALL):
            logits, out = self._apply(self.variables, part)
            parts.append((logits[:count], out['embedding'][:count]))
        logits, embeddings = (np.concatenate(each) for each in zip(*parts, strict=True))
        return ensemble.probabilities(logits, self.kind), embeddings

    def by_row(self, records: Sequence[Mapping]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Answers each row of each record: probabilities `[R, C]` and embeddings `[R, D]`."""
        rows = self.rows(records)
        ends = np.cumsum([len(next(iter(given.values()))) for given in rows])[:-1]
        together = {name: np.concatenate([given[name] for given in rows]) for name in rows[0]}
        probs, embeddings = (np.split(array, ends) for array in self.apply(together))
        return list(zip(probs, embeddings, strict=True))

    def __call__(self, records: Sequence[Mapping]) -> tuple[np.ndarray, np.ndarray]:
        """Averages over the rows of each record: probabilities `[N, C]` and embeddings `[N, D]`."""
        return self.with_largest(records)[:2]

    def with_largest(self, records: Sequence[Mapping]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Like a call, and the largest probability `[N, C]` of each class over a record's rows."""
        each_probs, each_embeddings = zip(*self.by_row(records), strict=True)
        probs = np.stack([part.mean(axis=0) for part in each_probs])
        embeddings = np.stack([part.mean(axis=0) for part in each_embeddings])
        check_finite(self.name, probs, embeddings)
        return probs, embeddings, np.stack([part.max(axis=0) for part in each_probs])


def _checked(folder: Path, model: nn.Module) -> Mapping[str, np.ndarray]:
    """Returns a run's means; raises ValueError if they are not of the network's inputs."""
    means, specs = RunFolder(folder).means(), model.input_spec
    for name, spec in specs.items() if isinstance(specs, Mapping) else ():
        if name in means and means[name].shape != spec.shape[1:]:
            raise ValueError(
                f'{folder / "means.npz"} is corrupt (its {name} has the shape '
                f'{means[name].shape}, not {spec.shape[1:]}); copy it again, or train the run again'
            )
    return means
