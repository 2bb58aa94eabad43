"""What is known of the files so far, one line of JSON for each, so that a killed run goes on.

The lines of a file that is named are there to be read by others, too:
`{"file", "scene", "probs": {class: p}, "timeline": [{"start_s", "end_s", "scene", "probs"}],
"without", "notes"}`, with `embedding` where it is asked for; or `{"file", "error"}`.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from avsc_jax.predict.media_files import Prediction
from avsc_jax.runtime.files import write_text


class Journal:
    """Lines by file; each is appended when it is known.

    Args:
      path: of the lines; what is there already, of the same system, is kept. None: nowhere.
      about: what every line says of the system; lines of others are an error.
    """

    def __init__(self, path: Path | None, about: Mapping[str, Any]):
        self.path, self._about = path, json.loads(json.dumps(about))
        self.lines: dict[str, dict] = {}
        if path and path.exists():
            self._read(path)

    def has(self, file: Path, *, embedding: bool) -> bool:
        """Whether a file is finished, and is what it was then."""
        line = self.lines.get(str(file), {'error': ''})
        there = 'error' not in line and (not embedding or 'embedding' in line)
        return there and file.exists() and line['stamp'] == _stamp(file)

    def add(self, tagged: Prediction, classes: Sequence[str], *, embedding: bool) -> dict:
        """Its line."""
        line: dict[str, Any] = {'file': str(tagged.file)}
        if tagged.error:
            line['error'] = tagged.error
        else:
            line |= {'scene': classes[int(tagged.probs.argmax())]}
            line['probs'] = dict(zip(classes, tagged.probs.tolist(), strict=True))
            line['timeline'] = [
                {
                    'start_s': start_s,
                    'end_s': end_s,
                    'scene': classes[int(answer.probs.argmax())],
                    'probs': answer.probs.tolist(),
                }
                for start_s, end_s, answer in tagged.windows
            ]
            line |= {'without': tagged.without, 'notes': tagged.notes}
            line |= {'embedding': tagged.embedding.tolist()} if embedding else {}
            line |= {'stamp': _stamp(tagged.file), **self._about}
        self.lines[line['file']] = line
        if self.path:
            with self.path.open('a') as out:
                out.write(json.dumps(line) + '\n')
        return line

    def write(self, files: Iterable[Path]) -> None:
        """One line a file, these first and in their order, in the place of all that were added."""
        if self.path:
            names = dict.fromkeys([*map(str, files), *self.lines])
            lines = [json.dumps(self.lines[name]) + '\n' for name in names]
            write_text(self.path, ''.join(lines))

    def _read(self, path: Path) -> None:
        """What is there; a last line that was torn off is removed."""
        data = path.read_bytes()
        whole = data[: data.rfind(b'\n') + 1]
        if len(whole) < len(data):
            os.truncate(path, len(whole))
        for number, text in enumerate(whole.decode('utf-8', 'replace').splitlines(), 1):
            try:
                line = json.loads(text)
                name = line['file']
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(
                    f'{path} holds other things than predictions (line {number}); name '
                    'another file, or delete it'
                ) from error
            if (
                'error' not in line
                and (found := {k: line.get(k) for k in self._about}) != self._about
            ):
                raise ValueError(
                    f'{path} holds answers of {found}, not of {self._about}; name another '
                    'file, or delete it'
                )
            self.lines[name] = line


def _stamp(file: Path) -> list[int]:
    if not file.exists():  # it was, when it was read
        return []
    facts = file.stat()
    return [facts.st_size, facts.st_mtime_ns]
