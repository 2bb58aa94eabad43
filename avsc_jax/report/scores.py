"""Scores a table of predictions, as plain dictionaries."""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import avsc_jax
from avsc_jax import metrics, tables
from avsc_jax.report import label_scores
from avsc_jax.runtime.files import printable
from avsc_jax.scenes import ClipName
from avsc_jax.tables import thresholds

WINDOW = re.compile(r'@[\d.]+s$')  # ends the clip id of a window of one's own file
# A 95 % interval of a bootstrap holds the truth in 68 to 73 % of cases with 3 groups, 84 to 90 %
# with 10, and 92 to 93 % with 30 (means of exponential and of normal groups, 2,000 cases each).
FEWEST_GROUPS = 10  # with fewer no interval is shown
FEW_GROUPS = 30  # with fewer it is shown with a caution


class Metric(NamedTuple):
    """A score of probabilities that reports show.

    Attributes:
      terms: `(probs [N, C], labels [N]) -> [N]`, the scores of items of which it is the mean;
        intervals and paired tests draw from them.
      percents: whether it is shown in per cent.
      lower_is_better: true of a loss.
    """

    terms: metrics.Terms
    percents: bool
    lower_is_better: bool


# In their order in tables. A metric added here is scored, compared and shown like the others.
METRICS = {
    'log_loss': Metric(metrics.log_losses, percents=False, lower_is_better=True),
    'accuracy': Metric(metrics.hits, percents=True, lower_is_better=False),
}


def make(
    table: tables.Predictions,
    *,
    title: str,
    about: Mapping[str, Any],
    also: Mapping[str, tables.Predictions] | None = None,
    paper: Mapping[str, Any] | None = None,
    history: Sequence[Mapping[str, Any]] | None = None,
    learned: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """Scores a table row by row and, if a clip has several rows, clip by clip.

    Args:
      table: rows whose label is unknown (-1) are left out, with a warning. Of independent classes
        the scores are those of `label_scores`, and `paper` is left out.
      title: name of the system.
      about: `data` and `protocol` (a sentence each), `weights` (encoder to origin), `warnings`,
        and perhaps `training`, how the steps of training differ from plain ones.
      also: other tables of the same system, such as its single seconds, by name; scored as well.
      paper: the published number: `row`, `source`, `log_loss`, `accuracy`, `granularity`, and
        `average='macro'` if the paper averages over classes; `note` says how the system differs.
      history: one record for each epoch; the last one with `best` is the epoch that was kept.
      learned: parameters of the trained network that are worth reading, by title and class.

    Returns:
      Plain dictionaries, lists, strings and numbers; None stands for a number that is undefined.

    Raises:
      ValueError: no row has a known label.
    """
    is_several = table.meta.get('kind') == 'independent'
    table, cautions = _to_score(table)
    cautions = [*about.get('warnings', ()), *cautions]
    scores = {_granularity(table): _scores(table)}
    if (table.segment >= 0).any():
        scores = {'clip': _scores(tables.pool(table)), **scores}
    headline = next(iter(scores))
    scores |= {name: _scores(_known(view)) for name, view in (also or {}).items()}
    of_kind: dict[str, Any] = {}
    if is_several:
        cautions += label_scores.cautions(scores)
        sentence = printable(thresholds.sentence(label_scores.limits_of(table)))
        of_kind = {'kind': 'independent', 'thresholds': sentence}
    return _report(
        title=title,
        about={**about, 'warnings': cautions},
        meta=table.meta,
        history=history or (),
        learned=learned or {},
        headline=headline,
        scores=scores,
        paper=_beside(paper, scores) if _is_published(paper) and not is_several else None,
        **of_kind,
    )


def _to_score(table: tables.Predictions) -> tuple[tables.Predictions, list[str]]:
    """Returns the rows that have a label, and warnings about the table; see `make`."""
    known, cautions = _is_known(table), []
    if not known.any():
        raise ValueError(
            f'none of the {len(table.label)} rows has a known label (all are -1), so there is '
            'nothing to score: name a file with the true labels, such as --truth fold1_evaluate.csv'
        )
    if not known.all():
        cautions.append(f'{(~known).sum()} of {known.size} rows have no label and are left out')
        table = _known(table)
    # neither clamped rows nor those of independent classes need to sum to one
    sums = not (table.meta.get('calibrated') or table.meta.get('kind') == 'independent')
    unlike = np.abs(table.probs.sum(axis=1) - 1) > metrics.TOLERANCE
    if sums and unlike.any():
        cautions.append(
            f'{unlike.sum()} of {unlike.size} rows do not sum to one; they are divided by their '
            'sum for every log loss but the one marked "not renormalised"'
        )
    return table, cautions


def trained(
    *,
    title: str,
    about: Mapping[str, Any],
    meta: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    learned: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """Reports on a run that has trained on all labelled clips, so that nothing is left to score.

    Args:
      title, about, history, learned: as in `make`.
      meta: `meta` of a table of its predictions.
    """
    return _report(
        title=title,
        about=about,
        meta=meta,
        history=history,
        learned=learned or {},
        headline=None,
        scores={},
        paper=None,
    )


def line(name: str, table: tables.Predictions, level: str | None = None) -> dict[str, Any]:
    """Scores one of several systems: its metrics and its mean confidence.

    Args:
      name: title of the system.
      table: its predictions.
      level: granularity of the scores, such as 'second'; None: the headline's.
    """
    report = make(table, title=name, about={})
    level = level or report['headline']
    score = report['scores'][level]
    is_several = report.get('kind') == 'independent'
    names = label_scores.MEANS if is_several else (*METRICS,)
    keys = [f'{name}_{average}' for name in names for average in ('micro', 'macro')]
    keys += [] if is_several else ['mean_confidence']
    values = {key: score[key] for key in keys}
    return {'name': report['title'], 'level': level} | values


def caution(groups: int, over: str) -> str:
    """Returns what to know of intervals that rest on few groups; '' if there are enough.

    Args:
      over: what the groups are, such as 'locations'.

    Example:
      >>> caution(3, 'locations')
      '3 locations are too few for an interval, which needs 10'
    """
    if groups < FEWEST_GROUPS:
        them = f'{groups:,} {over} are' if groups > 1 else f'one {over.removesuffix("s")} is'
        return f'{them} too few for an interval, which needs {FEWEST_GROUPS}'
    if groups < FEW_GROUPS:
        return f'{groups:,} {over} are few: a bootstrap over fewer than {FEW_GROUPS} is too narrow'
    return ''


def plain(value: Any) -> Any:
    """Converts a value to JSON's types: arrays to lists, NaN and infinity to None."""
    if hasattr(value, '_asdict'):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def labelled(members: Mapping[str, tables.Predictions]) -> dict[str, tables.Predictions]:
    """Leaves out the clips of unknown scene, on which systems cannot be compared.

    Raises:
      ValueError: no clip has a known scene.
    """
    for table in members.values():
        tables.check_exclusive(table, 'a comparison')
    known = next(iter(members.values())).label >= 0
    if not known.any():
        raise ValueError(
            f'none of the {len(known)} clips has a known scene, so there is nothing to compare; '
            'name a file with the true scenes, such as --truth fold1_evaluate.csv'
        )
    return {printable(name): _known(table) for name, table in members.items()}


def cautions(members: Mapping[str, tables.Predictions]) -> list[str]:
    """Collects the warnings of the tables' own reports, each once."""
    about = (table.meta.get('about', {}) for table in members.values())
    lines = (printable(line) for facts in about for line in facts.get('warnings', ()))
    return list(dict.fromkeys(lines))


def groups(table: tables.Predictions) -> tuple[np.ndarray, str]:
    """Groups rows by the table's groups, by the locations in TAU's names, or else by clips.

    The windows of one file, clip.mp4@10s and clip.mp4@20s, are one clip.

    Returns:
      The group of each row, and 'locations', 'groups' or 'clips'.
    """
    clips = np.array([WINDOW.sub('', clip_id) for clip_id in table.clip_id.tolist()], str)
    names = _tau_names(table)
    known = clips if table.group is None else np.where(table.group == '', clips, table.group)
    if (known != clips).any():
        return known, 'locations' if names else 'groups'
    if names:
        return np.array([f'{name.city}-{name.location}' for name in names]), 'locations'
    return clips, 'clips'


def _tau_names(table: tables.Predictions) -> list[ClipName]:
    """Reads scene, city and location of each row from its clip's name; none if a name has none."""
    names = [tables.clip_name(clip_id) for clip_id in table.clip_id.tolist()]
    known = [name for name in names if name]
    return known if len(known) == len(names) else []


def _report(
    *,
    title: str,
    about: Mapping[str, Any],
    meta: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    **results: Any,
) -> dict[str, Any]:
    """Joins results with the description of data, training and software behind them."""
    best = [record['epoch'] for record in history if record.get('best')]
    return plain(
        {
            'title': printable(title),
            'classes': [printable(name) for name in meta['classes']],
            'about': {
                'data': printable(about.get('data', '')),
                'protocol': printable(about.get('protocol', '')),
                'weights': {
                    printable(name): printable(origin)
                    for name, origin in about.get('weights', {}).items()
                },
                'warnings': list(dict.fromkeys(map(printable, about.get('warnings', ())))),
                **({'training': printable(how)} if (how := about.get('training')) else {}),
            },
            **results,
            'history': [dict(record) for record in history],
            'best_epoch': best[-1] if best else None,
            'calibrated': bool(meta.get('calibrated', False)),
            'split': meta.get('split'),
            'step': meta.get('step'),
            'config_hash': meta.get('config_hash'),
            'versions': {**meta.get('versions', {}), 'avsc_jax': avsc_jax.__version__},
        }
    )


def _granularity(table: tables.Predictions) -> str:
    name = printable(table.meta.get('granularity') or 'clip')
    return 'segment' if name == 'clip' and (table.segment >= 0).any() else name


def _known(table: tables.Predictions) -> tables.Predictions:
    """Returns the rows that have a label."""
    return tables.rows(table, _is_known(table))


def _is_known(table: tables.Predictions) -> np.ndarray:
    """Whether each row has a label; of independent classes all have, or none."""
    if table.label.ndim == 2:
        return np.ones(len(table.label), bool)
    return table.label >= 0


def _scores(table: tables.Predictions) -> dict[str, Any]:
    """Computes all scores of one granularity."""
    probs, labels = table.probs, table.label
    group, over = groups(table)
    score = {
        'items': len(labels),
        'clips': len(set(table.clip_id)),
        'over': over,
        'groups': len(set(group)),
        'interval_caution': caution(len(set(group)), over) or None,
    }
    if table.meta.get('kind') == 'independent':
        return score | label_scores.of(table, group)
    with warnings.catch_warnings():  # make warns of rows that do not sum to one
        warnings.simplefilter('ignore', UserWarning)
        for average in ('micro', 'macro'):
            for name, (terms, *_) in METRICS.items():
                score[f'{name}_{average}'] = metrics.average_of(
                    terms, probs, labels, average=average
                )
                score[f'{name}_{average}_interval'] = metrics.bootstrap_interval(
                    terms, probs, labels, group, average=average
                )
            score[f'log_loss_{average}_raw'] = metrics.log_loss(
                probs, labels, average=average, renormalize=False
            )
        cities = np.array([])
        if over == 'locations':
            cities = np.array([name.city for name in _tau_names(table)])
        return score | {
            'mean_confidence': probs.max(axis=1).mean(),
            'calibration_error': metrics.calibration_error(probs, labels),
            'reliability': metrics.reliability(probs, labels),
            'per_class': metrics.per_class(probs, labels),
            'confusion': metrics.confusion(probs, labels),
            'cities': {
                printable(city): {
                    'items': (cities == city).sum(),
                    'accuracy': metrics.accuracy(probs[cities == city], labels[cities == city]),
                    'log_loss': metrics.log_loss(probs[cities == city], labels[cities == city]),
                }
                for city in np.unique(cities)
            },
        }


def _is_published(paper: Mapping[str, Any] | None) -> bool:
    """Whether a config names a paper; that of a system of one's own has but a row."""
    paper = paper or {}
    has_scores = any(paper.get(name) is not None for name in ('log_loss', 'accuracy'))
    return has_scores or bool(paper.get('source') or paper.get('note'))


def _beside(paper: Mapping[str, Any], scores: Mapping[str, Any]) -> dict[str, Any]:
    """Adds to the published numbers ours minus theirs, at their granularity and average."""
    average = paper.get('average', 'micro')
    ours = scores.get(paper.get('granularity', 'clip'), {})
    difference = {
        name: ours[f'{name}_{average}'] - paper[name]
        if ours and paper.get(name) is not None
        else None
        for name in ('log_loss', 'accuracy')
    }
    return {**paper, 'difference': difference}
