"""A journal of answered files, one line of JSON for each, so that a stopped run can go on.

The lines of `--jsonl` are for other programs, too:
`{"file", "scene", "probs": {class: p}, "timeline": [{"start_s", "end_s", "scene", "probs"}],
"without", "notes"}`, with `embedding` if it is asked for; or `{"file", "error"}`. Tags have
`"kind": "independent"` and `probs_max`, the largest value of each at any time; those of a sense
that is missing are left out of `probs`, and null in the lists of windows.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avsc_jax.predict.media_files import Prediction
from avsc_jax.runtime import disk, json_files
from avsc_jax.runtime import made_with as libraries
from avsc_jax.runtime.files import stamp, whole
from avsc_jax.tables import parts
from avsc_jax.types import Kind


def json_line(content: Mapping[str, Any]) -> str:
    """Returns one line of valid JSON; raises ValueError for a number that is not finite."""
    return json.dumps(content, allow_nan=False) + '\n'


def named(classes: Sequence[str], probs: np.ndarray, kind: Kind) -> dict[str, float]:
    """Returns class -> probability, without those of tags that are missing."""
    values = zip(classes, probs.tolist(), strict=True)
    return {name: p for name, p in values if kind == 'exclusive' or not math.isnan(p)}


def listed(values: np.ndarray, kind: Kind) -> list[float | None]:
    """Returns numbers as a list, with None for those of tags that are missing."""
    is_tags = kind == 'independent'
    return [None if is_tags and math.isnan(value) else value for value in values.tolist()]


WINDOW = {
    'start_s': float, 'end_s': float, 'scene': str, 'probs': [(float, None)],
    'familiarity?': float, 'labels?': [str],
}  # fmt: skip
LINE = (
    {
        'file': str, 'scene': str, 'probs': {str: float}, 'timeline': [WINDOW], 'without': [str],
        'notes': [str], 'stamp': [int], 'familiarity?': float, 'is_familiar?': bool,
        'embedding?': [(float, None)], 'made_with?': {str: str}, 'kind?': str,
        'probs_max?': {str: float}, 'labels?': [str],
    },
    {'file': str, 'error': str},
)  # fmt: skip


def familiarity_of(tagged: Prediction) -> dict[str, float | bool | None]:
    """Returns a line's entries on familiarity, which predictions without a score do not have."""
    if tagged.familiarity is None:
        return {}
    return {'familiarity': tagged.familiarity, 'is_familiar': tagged.is_familiar}


def _labels(tagged: Prediction, probs: np.ndarray) -> dict[str, list[str]]:
    """Returns the entry `labels` of a line or window, which only thresholds give."""
    if not tagged.thresholds:
        return {}
    return {'labels': parts.true_labels(tagged.classes, probs, tagged.thresholds)}


class Lines(MutableMapping[str, dict]):
    """Lines of JSON by file, kept as their texts, a quarter of their values' memory."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def __getitem__(self, name: str) -> dict:
        return json.loads(self._texts[name])

    def __setitem__(self, name: str, line: Mapping[str, Any]) -> None:
        self._texts[name] = json_line(line)

    def __delitem__(self, name: str) -> None:
        del self._texts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def text(self, name: str) -> str:
        """Returns a line as it stands in a file."""
        return self._texts[name]


class Journal:
    """Lines by file; each is appended as soon as its file is answered.

    Args:
      path: the file of lines; those that it holds already are kept. None keeps them in memory.
      about: facts of the system, stored in every line; a line with other facts is an error.
      made_with: the libraries that decode, stored in every line; others make a note.
    """

    def __init__(
        self,
        path: Path | None,
        about: Mapping[str, Any],
        *,
        made_with: Mapping[str, str] | None = None,
    ):
        self.path, self._about = path, json.loads(json.dumps(about))
        self._libraries = dict(made_with or {})
        self.lines = Lines()
        if path and path.exists():
            self._read(path)

    @property
    def difference(self) -> str:
        """Says how many answers were made with other libraries than there are now; '' if none."""
        others = [
            difference
            for line in self.lines.values()
            if 'error' not in line
            and (difference := libraries.difference(line.get('made_with', {}), self._libraries))
        ]
        return f'holds {len(others)} answers made with {others[0]}' if others else ''

    def has(self, file: Path, *, embedding: bool) -> bool:
        """Whether a file is answered, and has not changed since."""
        line = self.lines.get(str(file), {'error': ''})
        is_answered = 'error' not in line and (not embedding or 'embedding' in line)
        return is_answered and file.exists() and line['stamp'] == stamp(file)

    def add(self, tagged: Prediction, classes: Sequence[str], *, embedding: bool) -> dict:
        """Appends the line of a prediction, and returns it."""
        line: dict[str, Any] = {'file': str(tagged.file)}
        if tagged.error:
            line['error'] = tagged.error
        else:
            line |= {'scene': classes[parts.likeliest(tagged.probs)]}
            line |= {'kind': tagged.kind} if tagged.kind == 'independent' else {}
            line |= _labels(tagged, tagged.probs)
            line['probs'] = named(classes, tagged.probs, tagged.kind)
            if tagged.probs_max is not None:
                line['probs_max'] = named(classes, tagged.probs_max, tagged.kind)
            line['timeline'] = [
                {
                    'start_s': start_s,
                    'end_s': end_s,
                    'scene': classes[parts.likeliest(answer.probs)],
                    'probs': listed(answer.probs, tagged.kind),
                    **_labels(tagged, answer.probs),
                    **({} if answer.familiarity is None else {'familiarity': answer.familiarity}),
                }
                for start_s, end_s, answer in tagged.windows
            ]
            line |= familiarity_of(tagged)
            line |= {'without': tagged.without, 'notes': tagged.notes}
            line |= {'embedding': listed(tagged.embedding, tagged.kind)} if embedding else {}
            line |= {'stamp': [*tagged.stamp], **self._about, 'made_with': self._libraries}
        self.lines[line['file']] = line
        if self.path:
            with disk.writing(self.path), self.path.open('a') as out:
                out.write(self.lines.text(line['file']))
        return line

    def write(self, files: Iterable[Path]) -> None:
        """Rewrites the lines, one a file: `files` first, in their order, then all others."""
        if self.path:
            names = dict.fromkeys([*map(str, files), *self.lines])
            with whole(self.path) as beside, beside.open('w', encoding='utf-8', newline='') as out:
                out.writelines(map(self.lines.text, names))

    def _read(self, path: Path) -> None:
        """Reads the lines of an earlier run; a last line that is incomplete is removed.

        A line with a number that is not finite, as older versions wrote, counts as not there.
        """
        data = path.read_bytes()
        complete = data[: data.rfind(b'\n') + 1]
        if len(complete) < len(data):
            os.truncate(path, len(complete))
        for number, text in enumerate(complete.decode('utf-8', 'replace').splitlines(), 1):
            try:
                line = json_files.parse(text, finite=False, paths=True)
                if not json_files.is_finite(line):
                    continue
                json_files.check(line, LINE)
                name = line['file']
            except ValueError as error:
                raise ValueError(
                    f'{path} is not a file of predictions (see line {number}): {error}; name '
                    'another file, or delete it'
                ) from error
            if (
                'error' not in line
                and (about := {k: line.get(k) for k in self._about}) != self._about
            ):
                raise ValueError(
                    f'{path} holds answers of {about}, not of {self._about}; name another '
                    'file, or give --fresh, which replaces them'
                )
            self.lines[name] = line
