"""A finished run, or an ensemble of finished runs, as one function of records.

If a record has no sound or no pictures, a network that takes both gets the mean of its training
data instead, and an ensemble leaves out the members that need them.
"""

import collections
import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ml_collections import ConfigDict

from avsc_jax import ensemble, tables
from avsc_jax.data import decode_workers, stored_pictures
from avsc_jax.data.windows import Wants
from avsc_jax.input_pipeline import clip_rows
from avsc_jax.predict import media_files
from avsc_jax.predict.answer import KINDS, Answer
from avsc_jax.predict.media_files import Prediction
from avsc_jax.predict.member import Member
from avsc_jax.runs import shapes
from avsc_jax.runs.run_folder import RunFolder, opening
from avsc_jax.runtime import nearest
from avsc_jax.runtime.files import printable
from avsc_jax.tables import mix, parts
from avsc_jax.tables.parts import Part
from avsc_jax.training import decision as fitted_decision
from avsc_jax.training import ensemble as ensemble_job

SAME_RULE = {'hitachi', 'clip12'}  # these agree in windows of two seconds and more


class Predictor:
    """Names the scene of clips by a finished run, or by an ensemble of finished runs.

        from avsc_jax.predict import Predictor

        predictor = Predictor.load('runs/clip_fusion')
        prediction = predictor('clip.mp4')
        print(prediction.scene, prediction.ranking[:3])

    Args:
      title: the name of the run or the ensemble.
      members: the opened runs, all of the same classes.
      warnings: the warnings in the run's report.
      decision: probabilities `[N, C]` of the members that could answer, by name -> `[N, C]`; None
        takes those of the first member.
      is_calibrated: the probabilities are clamped.
      settings: what `decision` depends on besides the members.

    Attributes:
      classes: the C names of the scenes, in the order of all probabilities.
      takes: the modalities that the system takes: 'sound', 'picture' or both.
      kind: 'exclusive' where one of the classes is right; 'independent' where each is right or not
        by itself, such as tags, whose probabilities need not sum to one.
      thresholds: of a run on clips of several labels, from which on each is called true.
      parts: the classes in parts that are answered apart; all of them are one part of a run.

    Raises:
      ValueError: the members have different classes.
    """

    def __init__(
        self,
        title: str,
        members: list[Member],
        warnings: list[str],
        decision: Callable[[Mapping[str, np.ndarray]], np.ndarray] | None = None,
        *,
        is_calibrated: bool = False,
        settings: Mapping | None = None,
    ):
        self.title, self.members, self.warnings = title, members, warnings
        self.kind = parts.kind_of(members[0])
        self.thresholds = parts.thresholds_of(members[0])
        self.limits = getattr(members[0], 'limits', None)  # and how they were fitted, for tables
        self.parts = self._parts()
        self.classes = tuple(name for part in self.parts for name in part.classes)
        self.is_calibrated, self._settings = is_calibrated, dict(settings or {})
        self.takes = tuple(
            kind for kind in KINDS if any(kind in member.takes for member in members)
        )
        self._decision = decision or (lambda probs: probs[members[0].name])

    def _parts(self) -> tuple[Part, ...]:
        """Returns the classes, which all members must have, as one part."""
        first, *others = self.members
        for member in others:
            if member.classes != first.classes:
                raise ValueError(
                    f'{self.title}: {member.name} has the classes {" ".join(member.classes)}, but '
                    f'{first.name} has {" ".join(first.classes)}; all must have the same'
                )
        return (Part('', first.classes),)

    def own(self, member: Member, probs: np.ndarray) -> np.ndarray:
        """Returns a member's part of probabilities `[C]`; of a run or an ensemble, all of them."""
        return probs

    @classmethod
    def load(
        cls,
        run: str | os.PathLike,
        weights_dir: str | os.PathLike | None = None,
        *,
        backend: Literal['jax', 'onnx'] = 'jax',
    ) -> 'Predictor':
        """Opens a finished run, or a finished ensemble with its members.

            predictor = Predictor.load('runs/clip_fusion')

        Args:
          run: the run folder, `--workdir` of avsc_jax.main.
          weights_dir: the folder of the encoders' weights; None is ~/.cache/avsc_jax/weights.
          backend: what runs the networks; 'onnx' is ONNX Runtime, see docs/tagging.md.

        Returns:
          The predictor; call it with the path of a clip.

        Raises:
          FileNotFoundError: the folder holds no finished run, or a member or weights are missing.
          ValueError: a weights file is damaged, or the members have different classes; or the
            extra of a backend is not installed.
        """
        nearest.check('backend', backend, ('jax', 'onnx'))
        predictor = load(Path(run), Path(weights_dir) if weights_dir else None)
        if backend == 'jax':
            return predictor
        from avsc_jax.predict import onnx_backend  # which imports this module

        return onnx_backend.use(predictor)

    def __call__(
        self, clip: str | os.PathLike, *, window_s: float | None = None, fallback: bool = True
    ) -> Prediction:
        """Names the scene of a media file: a video, a sound or a picture of any length.

            prediction = predictor('clip.mp4')
            print(prediction.scene, prediction.ranking[:3])

        Args:
          clip: the file; it is decoded in another process, within limits of time and memory, which
            reads the next call's clip too.
          window_s: length of the windows that the file is divided into, in seconds; None: that of
            the clips that the system was trained on, 10 for TAU.
          fallback: a file without sound or without pictures is answered from the other, with a
            note; False makes it an error.

        Returns:
          The `Prediction`: scene, ranking, probabilities, embedding, windows and notes.

        Raises:
          ValueError: the file cannot be read, or holds nothing that the system takes; or members
            were trained on clips of unlike lengths, and no `window_s` is given.
          TypeError: `clip` is no path.
        """
        if not isinstance(clip, str | os.PathLike):
            raise TypeError(
                f'clip is a {type(clip).__name__}; give the path of one file, and call the '
                'predictor for each file in turn'
            )
        (prediction,) = media_files.tag(
            self,
            [Path(clip)],
            window_s=window_s,
            fallback=fallback,
            workers=1,
            idle=self._idle_workers,
        )
        if prediction.error:
            raise ValueError(prediction.error)
        return prediction

    @functools.cached_property
    def _idle_workers(self) -> decode_workers.IdleWorkers:
        """The processes that decode the clips of calls, one after the other."""
        return decode_workers.IdleWorkers()

    def depends_on(self, **facts: Any) -> None:
        """Adds to what `content_hash` is made of, before it is first asked for."""
        self._settings |= facts

    @functools.cached_property
    def content_hash(self) -> str:
        """A hash of all that answers depend on: weights, preprocessing, classes, the decision."""
        hashes = {member.name: member.content_hash for member in self.members}
        facts = json.dumps([hashes, self._settings], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()[:16]

    def answers(self, records: Sequence[Mapping], *, without: Collection[str] = ()) -> list[Answer]:
        """Answers decoded records, in their order.

        Args:
          records: decoded clips or windows; a missing modality has no key.
          without: the modalities (of KINDS) to leave out.

        Returns:
          An `Answer` for each record.

        Raises:
          ValueError: a record holds nothing that the system takes, or gets an answer that is not
            finite.
        """
        hidden = {name for kind in without for name in KINDS[kind]}
        records = [{k: v for k, v in r.items() if k not in hidden} for r in records]
        alike: dict[tuple[str, ...], list[int]] = collections.defaultdict(list)
        for place, record in enumerate(records):
            alike[self._kinds(record)].append(place)
        answers: dict[int, Answer] = {}
        for kinds, places in alike.items():
            if not kinds:
                raise ValueError(
                    f'there is no {" and no ".join(self.takes)}; {self.title} needs '
                    f'{" or ".join(self.takes)}'
                )
            answered = self._answers([records[place] for place in places], kinds)
            answers |= zip(places, answered, strict=True)
        return [answers[place] for place in range(len(records))]

    def notes(self, record: Mapping) -> list[str]:
        """Notes for the user on how a record was read, such as a resampling; each once."""
        every = [member.preprocess for member in self.members]
        readers = [reader for reader in every if {*reader.fields} & {*record}]
        return list(dict.fromkeys(note for reader in readers for note in reader.notes(record)))

    @property
    def window_s(self) -> float:
        """Length in seconds of the clips that the system was trained on.

        Raises:
          ValueError: its members were trained on clips of unlike lengths.
        """
        first, *others = self.members
        for other in others:
            if other.window_s != first.window_s:
                raise ValueError(
                    f'{self.title}: {first.name} was trained on clips of {first.window_s:g} s, '
                    f'{other.name} on clips of {other.window_s:g} s; say how long the windows '
                    'shall be, by --window or window_s'
                )
        return first.window_s

    def window_notes(self, window_s: float) -> list[str]:
        """Notes for the user on windows of another length than the clips of the training."""
        trained = sorted({member.window_s for member in self.members} - {window_s})
        clips = ' and '.join(f'{each:g}' for each in trained)
        note = f'windows of {window_s:g} s, but the system was trained on clips of {clips} s'
        return [note] if trained else []

    def wants(self, window_s: float | None = None) -> Wants:
        """Returns the sound and frames to decode from a file in windows of one length.

        Args:
          window_s: the length in seconds; None: that of the clips of the training.

        Raises:
          ValueError: a member cannot take windows of this length.
        """
        window_s = self.window_s if window_s is None else window_s
        for member in self.members:
            clip_rows.check_length(member.preprocess.settings, window_s, member.name)
        fields = {field for member in self.members for field in member.preprocess.fields}
        frame_settings = [
            p.preprocess.settings for p in self.members if 'frames' in p.preprocess.fields
        ]
        media = [
            encoder.spec
            for member in self.members
            for encoder in getattr(member.preprocess, 'encoders', ())
            if encoder.spec.takes == 'media'
        ]
        sizes = {spec.input_shape[0] for spec in media}
        qualities = [stored_pictures.quality_of(each) for each in frame_settings]
        stored = [quality for quality in qualities if quality]
        return Wants(
            audio='audio' in fields,
            frames=_shared_rule(
                'pick frames', [each['frames'] for each in frame_settings], window_s
            ),
            short_side=max((each['short_side'] for each in frame_settings), default=None),
            media=_shared_rule('pick pictures', [s.reading['frames'] for s in media], window_s),
            **({'media_size': max(sizes)} if media else {}),
            window_s=window_s,
            # one set of frames for all members: as little is lost as any of them was trained with
            jpeg_quality=max(stored, default=None) if len(stored) == len(qualities) else None,
        )

    def _kinds(self, record: Mapping) -> tuple[str, ...]:
        return tuple(kind for kind in self.takes if any(k in record for k in KINDS[kind]))

    def _answers(self, records: Sequence[Mapping], kinds: Sequence[str]) -> list[Answer]:
        """Answers records that hold the same modalities."""
        is_several = self.kind == 'independent'  # of a run, whose only member answers
        outputs = {
            member.name: (member.with_largest if is_several else member)(records)
            for member in self.members
            if {*member.takes} & {*kinds}
        }
        probs = self._decision({name: each[0] for name, each in outputs.items()})
        embeddings = np.concatenate([each[1] for each in outputs.values()], axis=1)
        without = tuple(kind for kind in self.takes if kind not in kinds)
        scores = [
            member.familiarity.score(outputs[member.name][1])
            for member in self.members
            if member.familiarity and {*member.takes} <= {*kinds}
        ]
        familiar = np.median(scores, axis=0).tolist() if scores else [None] * len(records)
        most: Any = [None] * len(records)
        if is_several:
            ((*_, most),) = outputs.values()
        return [
            Answer(row, embedding, without, score, largest)
            for row, embedding, score, largest in zip(
                probs, embeddings, familiar, most, strict=True
            )
        ]


def load(model: Path, weights_dir: Path | None = None) -> Predictor:
    """Opens a finished run, or a finished ensemble with its members; see `Predictor.load`."""
    folder = RunFolder(model)
    warnings = folder.read_json('report.json', {'about': {'warnings': [str]}})['about']['warnings']
    if not (model / 'members.json').exists():
        return Predictor(model.name, [Member.load(model.name, model, weights_dir)], warnings)
    with opening(model):
        config = ConfigDict(folder.config)
        ensemble_job.check(config)
        weights = _weights(folder, config)
        clamps = bool(config.recipe.get('clamp'))
    of_members = member_folders(model)
    facts = [fact for fact, _ in of_members]
    unknown = {name for group in config.groups.values() for name in group} - {
        fact['name'] for fact in facts
    }
    if unknown:
        raise ValueError(f'{model / "members.json"} lacks {min(unknown)}; make the ensemble again')
    members = [Member.load(_label(fact), place, weights_dir) for fact, place in of_members]
    classes = members[0].classes
    fitted = fitted_decision.read(folder, config, classes=len(classes))
    decision = functools.partial(_decided, config, facts, weights, classes, fitted)
    settings = (
        {'config': folder.config, 'weights': weights, 'decision': ensemble.as_lists(fitted)}
        if fitted
        else {'config': folder.config, 'weights': weights}
    )
    return Predictor(
        model.name, members, warnings, decision, is_calibrated=clamps, settings=settings
    )


def _label(member: Mapping) -> str:
    """The unique name of a member: its refits on several folds have the same `name`."""
    return member['name'] if member['fold'] is None else f'{member["name"]}, fold {member["fold"]}'


def member_folders(model: Path) -> list[tuple[dict, Path]]:
    """Returns the facts of each member of an ensemble, and its run folder.

    Their places are those that the ensemble's user named, so they may be anywhere. Only the files
    of a run folder are read there, and nothing is written.

    Raises:
      FileNotFoundError: a member is not there.
      ValueError: a member is named twice, or is itself an ensemble.
    """
    facts = RunFolder(model).read_json('members.json', [shapes.MEMBER])
    places = [_member_folder(model, fact['folder']) for fact in facts]
    labels = [_label(fact) for fact in facts]
    if not facts or len({*labels}) < len(labels):
        raise ValueError(
            f'{model / "members.json"} names {len({*labels})} members in {len(labels)} entries; '
            'make the ensemble again'
        )
    for place in places:
        if (place / 'members.json').exists():
            raise ValueError(
                f'{model / "members.json"} names {place}, which is itself an ensemble; make the '
                'ensemble again of trained runs'
            )
    return list(zip(facts, places, strict=True))


def _member_folder(model: Path, folder: str) -> Path:
    """The run folder of a member: where it was trained, or next to the ensemble's."""
    places = [Path(folder), model.absolute().parent / Path(folder).name]
    for place in places:
        with contextlib.suppress(OSError, ValueError):  # no file can have such a name
            if (place / 'DONE').exists():
                return place
    raise FileNotFoundError(
        f'{model} is made of the run {printable(folder)[:200]}, which is not in its place '
        f'and not in {places[1].parent}; copy it there'
    )


def _weights(folder: RunFolder, config: ConfigDict) -> dict[str, float]:
    """The weights that were searched for the ensemble, by role or member; empty if none were."""
    line = ensemble_job.headline(config)
    if not ensemble_job.is_weighted(line):
        return {}
    file = folder.predictions_file(config.data.test)
    learned = tables.read(file).meta.get('learned', {})
    title = f'weights of {ensemble_job.title(line)};'
    weights: dict[str, float] = next(
        (w for name, w in learned.items() if name.startswith(title)), {}
    )
    if {*weights} != {*line['roles']} or not sum(weights.values()) > 0:
        raise ValueError(f'{file} does not hold the weights of {mix.listed(line["roles"])}')
    return weights


def _decided(
    config: ConfigDict,
    members: Sequence[Mapping],
    weights: Mapping[str, float],
    classes: Sequence[str],
    fitted: Sequence[ensemble.FittedStep],
    probs: Mapping[str, np.ndarray],
) -> np.ndarray:
    """The probabilities `[N, C]` of the ensemble: the mean over its folds, rows summing to one."""
    refits: dict[int | None, dict[str, np.ndarray]] = collections.defaultdict(dict)
    for member in members:
        if _label(member) in probs:
            refits[member['fold']][member['name']] = probs[_label(member)]
    mixed = [_mix_fold(config, refit, weights, classes, fitted) for refit in refits.values()]
    return ensemble.renormalize(ensemble.mean(np.stack(mixed)))


def _mix_fold(
    config: ConfigDict,
    probs: Mapping[str, np.ndarray],
    weights: Mapping[str, float],
    classes: Sequence[str],
    fitted: Sequence[ensemble.FittedStep],
) -> np.ndarray:
    """Mixes the members of one fold, before rows are normalised.

    If a role is missing, the others are averaged, and clamped if the recipe clamps; the decision's
    fitted steps, which are those of all roles, are left out.
    """
    line = ensemble_job.headline(config)
    known = {**probs, **ensemble_job.by_role(probs, config)}
    chosen = {role: known[role] for role in line['roles'] if role in known}
    recipe = line['recipe']
    if len(chosen) < len(line['roles']):
        recipe, fitted = {'name': 'mean', 'clamp': recipe.get('clamp')}, ()
    given = np.array([weights[role] for role in chosen]) if weights else None
    if given is not None and not given.any():  # all the weight is on missing roles
        given = None
    return ensemble_job.mixed_by(recipe, chosen, classes, fitted, given)


def _shared_rule(what: str, rules: Sequence[str], window_s: float) -> str | None:
    """The rule that all members share; None if there are no rules."""
    unlike = {*rules}
    if unlike <= SAME_RULE and window_s >= 2:
        unlike = unlike and {'clip12'}
    if len(unlike) > 1:
        raise ValueError(
            f'the members {what} by unlike rules ({", ".join(sorted(unlike))}), but a window has '
            'one set of them; predict with each run alone, and mix the tables with avsc_jax.score'
        )
    return unlike.pop() if unlike else None
