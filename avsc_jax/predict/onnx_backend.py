"""Runs a predictor's networks by ONNX Runtime, which takes less time for convolutions on CPU.

A network is converted when it is first called, and compared there with JAX on the rows of the call
and on random ones. The file is kept in the user's cache folder for later starts.
"""

import contextlib
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np

import avsc_jax
from avsc_jax import ensemble
from avsc_jax.input_pipeline.encoders import Encoder, FrontEndEncoder
from avsc_jax.models.fold_batchnorm import fold_batchnorm
from avsc_jax.predict import onnx_files
from avsc_jax.predict.member import Member
from avsc_jax.predict.predictor import Predictor
from avsc_jax.runtime import compiled_programs, files
from avsc_jax.types import Kind

FLAG = '--backend=onnx'
LIBRARIES = ('jax', 'jax2onnx', 'onnx', 'onnxruntime')
MOST_BYTES = 1 << 31  # of all kept files; the least recently used are deleted
OTHERWISE = f'leave {FLAG} out'
# Conversion changes what jax.default_backend says, and two at once would take twice the memory.
_converting = threading.Lock()


def use(predictor: Predictor) -> Predictor:
    """Makes ONNX Runtime run a predictor's networks, frozen encoders included; returns it.

    Front ends, pictures' resizing and explanations stay with JAX, as does the decision.

    Raises:
      ValueError: a package of the extra `export` is not installed. Calls raise it if a network
        cannot be converted, or answers otherwise than by JAX.
    """
    for name in ('jax2onnx', 'onnxruntime'):
        onnx_files.of_extra(name, FLAG)
    predictor.depends_on(backend=f'onnxruntime {metadata.version("onnxruntime")}')
    for member in predictor.members:
        member.run_by(_of_member(member))
        for encoder in getattr(member.preprocess, 'encoders', ()):
            _switch(encoder)
    return predictor


def _switch(encoder: Encoder) -> None:
    """Makes ONNX Runtime run an encoder and, of a run as an encoder, its own encoders."""
    if isinstance(encoder, FrontEndEncoder):
        return
    facts = json.dumps(encoder.spec.to_json(), sort_keys=True)
    network = OnnxNetwork(encoder.spec.name, facts, encoder.model, [encoder.output])
    encoder.run_by(network.beside)
    for inner in encoder.encoders:
        _switch(inner)


def _of_member(member: Member) -> Callable[[Callable], Callable]:
    network = OnnxNetwork(
        member.name, member.content_hash, member.model, ['logits', 'embedding'], kind=member.kind
    )
    return network.beside


class OnnxNetwork:
    """A network that is converted and checked on its first call, or was on an earlier start.

    Args:
      name: for lines and errors.
      facts: what its variables and their use depend on.
      model: a Flax module.
      outputs: of 'logits', 'features' (its first output) and 'embedding'.
      kind: of the classes that logits are for.
    """

    def __init__(
        self,
        name: str,
        facts: str,
        model: nn.Module,
        outputs: list[str],
        kind: Kind = 'exclusive',
    ):
        self._name, self._model, self._outputs, self._kind = name, model, outputs, kind
        self._facts = facts
        self._session: Any = None

    def beside(self, by_jax: Callable) -> Callable:
        """Returns a function that does by ONNX Runtime what `by_jax(variables, rows)` does."""

        def run(variables: Mapping, rows: Any) -> Any:
            given = rows if isinstance(rows, Mapping) else {'image': rows}
            given = {name: np.asarray(array) for name, array in given.items()}
            with _converting:
                if self._session is None:
                    self._session = self._opened(variables, given, by_jax)
            return self._formed(self._session.run(None, given))

        return run

    def _formed(self, arrays: list[np.ndarray]) -> Any:
        """Returns outputs as the function by JAX does."""
        if len(arrays) == 1:
            return arrays[0]
        return arrays[0], dict(zip(self._outputs[1:], arrays[1:], strict=True))

    def _opened(self, variables: Mapping, given: Mapping, by_jax: Callable) -> Any:
        """Opens the kept file, or converts, checks and keeps it."""
        key = _key([self._name, self._facts, self._outputs, self._kind], given)
        if (content := read(key)) is not None:
            return onnx_files.session(content, flag=FLAG)
        print(f'converting {self._name} for ONNX Runtime ...', file=sys.stderr)
        model, folded = fold_batchnorm(self._model, variables)

        def function(rows: Mapping) -> tuple:
            alone = not isinstance(self._model.input_spec, Mapping)
            first, out = model.apply(folded, rows['image'] if alone else rows)
            return tuple(out[name] if name == 'embedding' else first for name in self._outputs)

        to_onnx = onnx_files.of_extra('jax2onnx', FLAG).to_onnx
        content = onnx_files.as_onnx(
            to_onnx, self._name, function, given, self._outputs, otherwise=OTHERWISE
        )
        session = onnx_files.session(content, flag=FLAG)
        differences = [
            self._difference(session.run(None, rows), by_jax(variables, _alike(given, rows)))
            for rows in (onnx_files.random_like(given), dict(given))
        ]
        keep(key, content, {'name': self._name, 'largest_difference': max(differences)})
        return session

    def _difference(self, arrays: list[np.ndarray], by_jax: Any) -> float:
        """Returns the largest difference of any output.

        Raises:
          ValueError: it is more than TOLERANCE.
        """
        expected = [by_jax] if len(arrays) == 1 else [by_jax[0], by_jax[1][self._outputs[1]]]
        largest = 0.0
        for name, actual, right in zip(
            self._outputs, arrays, map(np.asarray, expected), strict=True
        ):
            if name == 'logits':
                actual, right = (
                    np.asarray(ensemble.probabilities(each, self._kind)) for each in (actual, right)
                )
            scale = 1.0 if name == 'logits' else max(float(np.abs(right).max()), 1e-30)
            difference = float(np.abs(actual - right).max()) / scale
            if not difference < onnx_files.TOLERANCE:
                raise ValueError(
                    f'{self._name} by ONNX Runtime differs from JAX by {difference:.2g}, more than '
                    f'{onnx_files.TOLERANCE:g}; {OTHERWISE}'
                )
            largest = max(largest, difference)
        return largest


def _alike(given: Mapping, rows: Mapping) -> Any:
    """Returns rows as the network takes them: a backbone takes one array."""
    return rows['image'] if [*given] == ['image'] else rows


def _key(facts: list, given: Mapping[str, np.ndarray]) -> str:
    """Returns a hash of all that a file depends on."""
    shapes = {name: (str(array.dtype), array.shape[1:]) for name, array in given.items()}
    versions = {name: metadata.version(name) for name in LIBRARIES}
    seen = [facts, shapes, versions, avsc_jax.__version__, _source_hash(), onnx_files.OPSET]
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:32]


def _source_hash() -> str:
    """Returns a hash of the source of all networks, which a checkout may have changed."""
    package = Path(avsc_jax.__file__).parent
    sources = sorted(
        each for name in ('models', 'layers') for each in (package / name).glob('*.py')
    )
    return hashlib.sha256(b''.join(source.read_bytes() for source in sources)).hexdigest()


def read(key: str) -> bytes | None:
    """Returns a kept ONNX file that is as it was when it was checked; None if there is none."""
    folder = compiled_programs.own_folder('onnx')
    if folder is None:
        return None
    with contextlib.suppress(OSError, ValueError, KeyError):
        facts = files.read_checked_json(folder / f'{key}.json')
        content = (folder / f'{key}.onnx').read_bytes()
        if hashlib.sha256(content).hexdigest() == facts['onnx_sha256']:
            os.utime(folder / f'{key}.onnx')
            return content
    return None


def keep(key: str, content: bytes, facts: Mapping) -> None:
    """Keeps an ONNX file for later starts, and deletes others beyond MOST_BYTES."""
    folder = compiled_programs.own_folder('onnx')
    if folder is None or len(content) > MOST_BYTES:
        return
    with contextlib.suppress(OSError):  # a full disk only means that it is converted again
        files.write_bytes(folder / f'{key}.onnx', content)
        facts = {**facts, 'onnx_sha256': hashlib.sha256(content).hexdigest()}
        files.write_checked_json(folder / f'{key}.json', facts)
        kept = sorted(folder.glob('*.onnx'), key=lambda file: file.stat().st_mtime, reverse=True)
        total = 0
        for file in kept:
            total += file.stat().st_size
            if total > MOST_BYTES:
                file.unlink(missing_ok=True)
                file.with_suffix('.json').unlink(missing_ok=True)
