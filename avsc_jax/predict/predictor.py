"""A finished run, or an ensemble of finished runs, as one function of records.

Where a record lacks its sound or its pictures, a network of both is given the mean of what it was
trained on in their place, and an ensemble does without the members that need them.
"""

import collections
import functools
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict
from scipy.special import softmax

from avsc_jax import ensemble, tables
from avsc_jax.data.windows import Wants
from avsc_jax.input_pipeline import media_inputs as inputs
from avsc_jax.predict import media_files
from avsc_jax.predict.answer import KINDS, Answer
from avsc_jax.predict.media_files import Prediction
from avsc_jax.runs.load import Preprocess, load_run
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.runtime import compiler
from avsc_jax.tables import mix
from avsc_jax.training import ensemble as ensemble_job

ROWS_PER_CALL = 64
SAME_RULE = {'hitachi', 'clip12'}  # of windows of two seconds and more


class LoadedRun:
    """One run: its name, its network, and what comes before it; see load_run."""

    def __init__(self, name: str, folder: Path, weights_dir: Path | None = None):
        self.name, self.folder, self.weights_dir = name, RunFolder(folder), weights_dir
        found = load_run(folder, weights_dir=weights_dir)
        self.model: nn.Module = found[0]
        self.variables: dict = found[1]
        self.preprocess: Preprocess = found[2]
        self.classes: tuple[str, ...] = found[3]
        self._means = self.folder.means()
        options = compiler.options(training=False)
        self._apply = jax.jit(self.model.apply, compiler_options=options)

    @property
    def takes(self) -> list[str]:
        """Of KINDS."""
        return [kind for kind, of in KINDS.items() if {*of} & {*self.preprocess.fields}]

    def rows(self, records: Sequence[Mapping]) -> list[dict[str, np.ndarray]]:
        """The network's inputs `[R, ...]` for each record, all of which hold the same kinds."""
        found = self.preprocess.each(records)
        if not isinstance(self.model.input_spec, Mapping):
            return found
        return [{**self._absent(of), **of} for of in found]

    def _absent(self, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What stands in the place of inputs that a record gives nothing for."""
        count = len(next(iter(found.values())))
        filled = {}
        for name, spec in self.model.input_spec.items():
            mean = self._means.get(name, np.zeros(spec.shape[1:], spec.dtype))
            filled[name] = np.broadcast_to(mean, (count, *mean.shape))
        return filled

    def apply(self, rows: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities `[R, C]` and embeddings `[R, D]`."""
        given = rows if isinstance(self.model.input_spec, Mapping) else rows['image']
        parts = []
        for part, count in inputs.calls(given, most=ROWS_PER_CALL):
            logits, out = self._apply(self.variables, part)
            parts.append((logits[:count], out['embedding'][:count]))
        logits, embeddings = (np.concatenate(each) for each in zip(*parts, strict=True))
        return softmax(logits.astype(np.float64), axis=1), embeddings

    def __call__(self, records: Sequence[Mapping]) -> tuple[np.ndarray, np.ndarray]:
        """The means over the rows of each record: `[N, C]` and `[N, D]`."""
        rows = self.rows(records)
        ends = np.cumsum([len(next(iter(of.values()))) for of in rows])[:-1]
        together = {name: np.concatenate([of[name] for of in rows]) for name in rows[0]}
        probs, embeddings = (
            np.stack([part.mean(axis=0) for part in np.split(array, ends)])
            for array in self.apply(together)
        )
        return probs, embeddings


class Predictor:
    """A finished run, or several that decide together, that names the scene of clips.

    `Predictor.load('runs/clip_fusion')('clip.mp4')` is the short way.

    Args:
      title: what it is called.
      members: all of the same classes.
      warnings: what the reports of the runs warn of.
      is_calibrated: its probabilities are clamped.
      decision: probabilities `[N, C]` of the members that could answer, by name -> `[N, C]`.
    """

    def __init__(
        self,
        title: str,
        members: list[LoadedRun],
        warnings: list[str],
        decision: Callable[[Mapping[str, np.ndarray]], np.ndarray] | None = None,
        *,
        is_calibrated: bool = False,
    ):
        self.title, self.members, self.warnings = title, members, warnings
        self.classes = members[0].classes
        self.is_calibrated = is_calibrated
        self.takes = tuple(
            kind for kind in KINDS if any(kind in member.takes for member in members)
        )
        self._decision = decision or (lambda probs: probs[members[0].name])
        for member in members:
            if member.classes != self.classes:
                raise ValueError(
                    f'{member.name} of {title} knows the classes {" ".join(member.classes)}, '
                    f'{members[0].name} {" ".join(self.classes)}; all members must know the same'
                )

    @classmethod
    def load(
        cls, run: str | os.PathLike, weights_dir: str | os.PathLike | None = None
    ) -> 'Predictor':
        """Opens a finished run, or a finished ensemble with the runs that it is made of.

        Args:
          run: the run folder, `--workdir` of avsc_jax.main.
          weights_dir: where the encoders' weights lie; None: ~/.cache/avsc_jax/weights.

        Raises:
          FileNotFoundError, ValueError: the folder holds no finished run, or weights are missing.
        """
        return load(Path(run), Path(weights_dir) if weights_dir else None)

    def __call__(
        self, clip: str | os.PathLike, *, window_s: float = 10.0, fallback: bool = True
    ) -> Prediction:
        """Tells the scene of a media file: a video, a sound or a picture of any length.

            predictor = Predictor.load('runs/clip_fusion')
            prediction = predictor('clip.mp4')
            print(prediction.scene, prediction.ranking[:3])

        Args:
          clip: the file; it is decoded in a process of its own, within limits of time and memory.
          window_s: length of the windows that the file is answered in, in seconds.
          fallback: where sound or picture is missing, the other one is taken, and a note says so.

        Raises:
          ValueError: the file cannot be answered; the sentence says why.
        """
        (prediction,) = media_files.tag(
            self, [Path(clip)], window_s=window_s, fallback=fallback, workers=1
        )
        if prediction.error:
            raise ValueError(prediction.error)
        return prediction

    def answers(self, records: Sequence[Mapping], *, without: Collection[str] = ()) -> list[Answer]:
        """Answers decoded records, in their order.

        Args:
          records: decoded clips or windows; what one does not hold, it has no key for.
          without: of KINDS, what is left out though it is there.
        """
        hidden = {name for kind in without for name in KINDS[kind]}
        records = [{k: v for k, v in r.items() if k not in hidden} for r in records]
        alike: dict[tuple[str, ...], list[int]] = collections.defaultdict(list)
        for place, record in enumerate(records):
            alike[self._there(record)].append(place)
        answers: dict[int, Answer] = {}
        for there, places in alike.items():
            if not there:
                raise ValueError(f'there is no {" and no ".join(self.takes)}, which it needs')
            found = self._answers([records[place] for place in places], there)
            answers |= zip(places, found, strict=True)
        return [answers[place] for place in range(len(records))]

    def notes(self, record: Mapping) -> list[str]:
        """What a user should know of how a record was read."""
        told = [member.preprocess.notes for member in self.members]
        return list(dict.fromkeys(note for notes in told for note in notes(record)))

    def wants(self, window_s: float = 10.0) -> Wants:
        """What is decoded of a file for it."""
        fields = {field for member in self.members for field in member.preprocess.fields}
        of_frames = [p.preprocess.settings for p in self.members if 'frames' in p.preprocess.fields]
        media = [
            encoder.spec
            for member in self.members
            for encoder in getattr(member.preprocess, 'encoders', ())
            if encoder.spec.takes == 'media'
        ]
        sizes = {spec.input_shape[0] for spec in media}
        return Wants(
            audio='audio' in fields,
            frames=_one('pick frames', [each['frames'] for each in of_frames], window_s),
            short_side=max((each['short_side'] for each in of_frames), default=None),
            media=_one('pick pictures', [s.reading['frames'] for s in media], window_s),
            **({'media_size': max(sizes)} if media else {}),
            window_s=window_s,
        )

    def _there(self, record: Mapping) -> tuple[str, ...]:
        return tuple(kind for kind in self.takes if any(k in record for k in KINDS[kind]))

    def _answers(self, records: Sequence[Mapping], there: Sequence[str]) -> list[Answer]:
        """Of records that hold the same kinds."""
        found = {
            member.name: member(records) for member in self.members if {*member.takes} & {*there}
        }
        probs = self._decision({name: each[0] for name, each in found.items()})
        embeddings = np.concatenate([each[1] for each in found.values()], axis=1)
        without = tuple(kind for kind in self.takes if kind not in there)
        return [Answer(*each, without) for each in zip(probs, embeddings, strict=True)]


def load(model: Path, weights_dir: Path | None = None) -> Predictor:
    """The system of a run folder; of an ensemble's, with the runs that it is made of."""
    folder = RunFolder(model)
    report = folder.read_json('report.json')
    warnings = report['about']['warnings']
    if not (model / 'members.json').exists():
        return Predictor(model.name, [LoadedRun(model.name, model, weights_dir)], warnings)
    facts = folder.read_json('members.json')
    config = ConfigDict(folder.config)
    members = [LoadedRun(_label(m), _found(model, m['folder']), weights_dir) for m in facts]
    weights = _weights(folder, config)
    decision = functools.partial(_decided, config, facts, weights, members[0].classes)
    clamps = bool(config.recipe.get('clamp'))
    return Predictor(model.name, members, warnings, decision, is_calibrated=clamps)


def _label(member: Mapping) -> str:
    """What a member is called; the refits of one share its name."""
    return member['name'] if member['fold'] is None else f'{member["name"]}, fold {member["fold"]}'


def _found(model: Path, folder: str) -> Path:
    """The run of a member: where it was, or beside the ensemble."""
    places = [Path(folder), model.absolute().parent / Path(folder).name]
    for place in places:
        if (place / 'DONE').exists():
            return place
    raise FileNotFoundError(
        f'{model} is made of the run {folder}, which is neither there nor in {places[1].parent}; '
        'put it beside the ensemble'
    )


def _weights(folder: RunFolder, config: ConfigDict) -> dict[str, float]:
    """Those that were searched for the ensemble, by role or member; none of other recipes."""
    line = ensemble_job.headline(config)
    if not ensemble_job.is_weighted(line):
        return {}
    learned = tables.read(folder.predictions_file(config.data.test)).meta['learned']
    title = f'weights of {ensemble_job.title(line)};'
    return next(weights for name, weights in learned.items() if name.startswith(title))


def _decided(
    config: ConfigDict,
    members: Sequence[Mapping],
    weights: Mapping[str, float],
    classes: Sequence[str],
    probs: Mapping[str, np.ndarray],
) -> np.ndarray:
    """What the ensemble says; of several folds, the mean of what each says."""
    refits: dict[int | None, dict[str, np.ndarray]] = collections.defaultdict(dict)
    for member in members:
        if _label(member) in probs:
            refits[member['fold']][member['name']] = probs[_label(member)]
    said = [_of_refit(config, refit, weights, classes) for refit in refits.values()]
    return ensemble.renormalize(ensemble.mean(np.stack(said)))


def _of_refit(
    config: ConfigDict,
    probs: Mapping[str, np.ndarray],
    weights: Mapping[str, float],
    classes: Sequence[str],
) -> np.ndarray:
    """The same of one fold, before its rows are made to sum to one.

    Where a role is missing, those that are there are averaged, and clamped where the recipe clamps.
    """
    line = ensemble_job.headline(config)
    there = {**probs, **ensemble_job.by_role(probs, config)}
    chosen = {role: there[role] for role in line['roles'] if role in there}
    recipe = line['recipe']
    if len(chosen) < len(line['roles']):
        recipe = {'name': 'mean', 'clamp': recipe.get('clamp')}
    given = np.array([weights[role] for role in chosen]) if weights else None
    if given is not None and not given.any():  # all the weight was on those that are missing
        given = None
    return mix.fuse(chosen, recipe, classes=classes, weights=given, renormalize=False)


def _one(what: str, rules: Sequence[str], window_s: float) -> str | None:
    """The rule that all members share; None of none."""
    found = {*rules}
    if found <= SAME_RULE and window_s >= 2:
        found = found and {'clip12'}
    if len(found) > 1:
        raise ValueError(
            f'the members {what} by unlike rules ({", ".join(sorted(found))}), and a window has '
            'one set of them; predict with each run alone, and mix their tables by avsc_jax.score'
        )
    return found.pop() if found else None
