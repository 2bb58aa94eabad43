"""Networks as ONNX files: the conversion that avsc_jax.export and the ONNX backend share."""

import contextlib
import importlib
import io
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import jax
import numpy as np

OPSET = 23
TOLERANCE = 1e-4  # of probabilities; for embeddings, relative to the largest value


def of_extra(name: str, flag: str) -> ModuleType:
    """Imports a package of the extra `export`.

    Args:
      flag: what needs it, for the error.

    Raises:
      ValueError: it is not installed.
    """
    try:
        for each in (name, 'onnx_ir'):  # they warn about optional parts of their own
            logging.getLogger(each).setLevel(logging.ERROR)
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"{flag} needs {name}: pip install 'avsc_jax[export]'") from error


def session(content: bytes, options: Any = None, *, flag: str = '--format=onnx') -> Any:
    """Opens an ONNX file's bytes with ONNX Runtime, on the CPU."""
    runtime = of_extra('onnxruntime', flag)
    return runtime.InferenceSession(content, options, providers=['CPUExecutionProvider'])


def as_onnx(
    to_onnx: Callable,
    name: str,
    function: Callable[[dict[str, jax.Array]], Any],
    rows: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    *,
    batch: int | None = None,
    otherwise: str = 'try --batch=1, or give --format=stablehlo',
) -> bytes:
    """Converts a function of named rows to an ONNX file.

    Args:
      to_onnx: of jax2onnx.
      function: not jitted, since jit would take what it has traced for this machine.
      rows: arrays `[B, ...]` of the function's inputs.
      outputs: the names of what it returns.
      batch: the number of rows; None: any.
      otherwise: what to do if it cannot be converted, the end of the error.

    Raises:
      ValueError: it cannot be converted.
    """
    names = sorted(rows)

    def of_arrays(*arrays: jax.Array) -> Any:
        return function(dict(zip(names, arrays, strict=True)))

    try:
        # it prints its progress
        with _arithmetic_of('onnx'), contextlib.redirect_stdout(io.StringIO()):
            model = to_onnx(
                of_arrays,
                [(batch or 'B', *rows[each].shape[1:]) for each in names],
                input_names=names,
                output_names=list(outputs),
                model_name=name,
                opset=OPSET,
            )
            return model.SerializeToString()
    except Exception as error:  # a converter of many parts raises any error
        raise ValueError(
            f'{name} cannot become ONNX: {str(error).splitlines()[0]} ({type(error).__name__}); '
            f'{otherwise}'
        ) from error


def random_like(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Makes random arrays of the same names and shapes, to compare networks on."""
    random = np.random.default_rng(0)
    return {n: random.standard_normal(x.shape, np.float32) for n, x in rows.items()}


@contextlib.contextmanager
def _arithmetic_of(platform: str) -> Iterator[None]:
    """Traces networks as for this platform: on a CPU, a convolution may be many operators.

    Other threads trace for the machine.
    """
    original, own = jax.default_backend, threading.get_ident()
    jax.default_backend = lambda: platform if threading.get_ident() == own else original()
    try:
        yield
    finally:
        jax.default_backend = original
