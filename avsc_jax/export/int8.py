"""Networks of 8-bit integers, by ONNX Runtime's quantization, as good as the run on held-out clips.

Weights become int8 with a scale for each channel. Networks of convolutions also compute in 8 bits,
with ranges that training clips have given; others, such as transformers, find ranges as they run.
"""

import contextlib
import io
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from avsc_jax.data import sources
from avsc_jax.data.records import default_data_dir
from avsc_jax.export import command
from avsc_jax.input_pipeline.system import Items, Network, System
from avsc_jax.predict import dataset, onnx_files
from avsc_jax.predict.predictor import Predictor
from avsc_jax.runs.run_folder import RunFolder

CALIBRATION_CLIPS, HELD_OUT_CLIPS = 20, 500
MOST_LOST = 0.01  # of accuracy
WEIGHTED = ('Conv', 'MatMul', 'Gemm')  # operators that get 8 bits


class Clip(NamedTuple):
    """A labelled clip: its items by source, and its class."""

    items: Items
    label: int


def write(
    to_onnx: Any, system: System, run: Predictor, run_folder: Path, data_dir: Path | None, out: Path
) -> dict:
    """Writes NAME.int8.onnx for each network that may have 8 bits; returns facts about them.

    A network that costs more than MOST_LOST of accuracy on the run's test split, beside those that
    were taken before it, keeps its floating-point numbers.

    Raises:
      ValueError: the run's data is not there, or has changed, or no network may have 8 bits.
    """
    splits = _splits(run_folder)
    data_dir = data_dir or default_data_dir()
    calibration, held_out = _clips(run, system, run_folder, data_dir, splits)
    kept, files, see = {}, {}, jax.jit(system.inputs)
    cases = [
        command.Case('', clip.items, jax.device_get(see(clip.items)), np.empty(0))
        for clip in calibration
    ]
    for name, network, rows in command.networks(system, cases):
        content, how = quantized(to_onnx, name, network, rows, out)
        kept[name] = onnx_files.session((out / f'{name}.onnx').read_bytes())
        files[name] = (content, how)
    labels = np.array([clip.label for clip in held_out])
    expected = _answers(system, held_out, kept)
    accuracy, taken = (expected.argmax(1) == labels).mean(), {}
    for name, (content, how) in files.items():
        tried = {**kept, name: onnx_files.session(content)}
        probs = _answers(system, held_out, tried)
        if accuracy - (probs.argmax(1) == labels).mean() <= MOST_LOST:
            kept, taken[name], answer = tried, how, probs
    if not taken:
        raise ValueError(
            f'--int8 costs more than {100 * MOST_LOST:g} % of accuracy on the {len(held_out)} '
            f'clips of {splits["test"]}, for each network of {run_folder}; export it without --int8'
        )
    for name in taken:
        (out / f'{name}.int8.onnx').write_bytes(files[name][0])
    return {
        'files': {name: {'file': f'{name}.int8.onnx', 'ranges': taken[name]} for name in taken},
        'too_inexact': [name for name in files if name not in taken],
        'calibrated_on': {'split': splits['train'], 'clips': len(calibration)},
        'held_out': {
            'split': splits['test'],
            'clips': len(held_out),
            'accuracy': float((answer.argmax(1) == labels).mean()),
            'accuracy_of_run': float(accuracy),
            'agreement': float((answer.argmax(1) == expected.argmax(1)).mean()),
            'largest_difference': float(np.abs(answer - expected).max()),
        },
    }


def quantized(
    to_onnx: Any, name: str, network: Network, clips: Sequence[Mapping], folder: Path
) -> tuple[bytes, str]:
    """Returns a network's ONNX file with 8-bit integers, and how its ranges are found.

    Args:
      clips: inputs of the network, of calibration clips.
      folder: for files on the way, which are removed.
    """
    runtime, onnx = _tool('onnxruntime'), _tool('onnx')
    quantization = _tool('onnxruntime.quantization')
    with _quiet(), tempfile.TemporaryDirectory(dir=folder) as work:
        plain, made = Path(work) / 'plain.onnx', Path(work) / 'int8.onnx'
        # ONNX Runtime folds what is constant: weights that are transposed first would keep 32 bits
        options = runtime.SessionOptions()
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(plain)
        content = command.as_onnx(to_onnx, name, network, clips[0], None)
        onnx_files.session(content, options)
        of = Counter(node.op_type for node in onnx.load(plain).graph.node)
        # weights of 7 bits: sums of products of 8 overflow on processors without VNNI
        common = dict(per_channel=True, reduce_range=True, weight_type=quantization.QuantType.QInt8)
        if of['Conv'] <= of['MatMul'] + of['Gemm']:
            quantization.quantize_dynamic(str(plain), str(made), **common)
            return made.read_bytes(), 'found as it runs'
        quantization.quantize_static(
            str(plain),
            str(made),
            _Reader(clips),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            op_types_to_quantize=list(WEIGHTED),
            # its check of biases fails on weights with a scale for each channel
            extra_options={'QDQDisableWeightAdjustForInt32Bias': True},
            **common,
        )
        return made.read_bytes(), 'from calibration clips'


class _Reader:
    """Hands out the inputs of calibration clips: a CalibrationDataReader of ONNX Runtime."""

    def __init__(self, clips: Sequence[Mapping]):
        self._clips = iter(clips)

    def get_next(self) -> Mapping | None:
        return next(self._clips, None)


def _splits(run_folder: Path) -> dict[str, str]:
    data = RunFolder(run_folder).config.get('data', {})
    missing = [part for part in ('train', 'test') if part not in data]
    if missing:
        raise ValueError(
            f'--int8 takes ranges from training clips and is checked on test clips, and '
            f'{run_folder} has no split config.data.{missing[0]}; export it without --int8'
        )
    return {part: data[part] for part in ('train', 'test')}


def _clips(
    run: Predictor, system: System, run_folder: Path, data_dir: Path, splits: Mapping[str, str]
) -> list[list[Clip]]:
    """Reads calibration clips and held-out clips of the data that the run was made with."""
    folder = RunFolder(run_folder)
    config = ConfigDict(folder.config)
    data = sources.find(config.data.name).open(config.data, data_dir)
    folder.check_data(data.identities)
    read = []
    for split, most in ((splits['train'], CALIBRATION_CLIPS), (splits['test'], HELD_OUT_CLIPS)):
        count = len(data.records(split, fields=()))
        places = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))
        records = dataset.records(run, data, split, data_dir, places=places.tolist())
        read.append([Clip(system.items(record), record['label']) for record in records])
    return read


def _answers(system: System, clips: Sequence[Clip], sessions: Mapping) -> np.ndarray:
    """The probabilities `[N, C]` of clips, by ONNX files."""
    return np.stack([_run(system, clip.items, 'network', sessions).mean(0) for clip in clips])


def _run(system: System, items: Items, name: str, sessions: Mapping) -> np.ndarray:
    """The output for each row of a clip, with every network as an ONNX file."""
    made = {}
    for part, source in system.sources.items():
        encoder = command.encoder_name(name, part)
        if isinstance(source, System):
            made[part] = _run(source, items[part], encoder, sessions)
            continue
        made[part] = np.asarray(_prepared(source, items[part]))
        if source.encoder is not None:
            (made[part],) = sessions[encoder].run(None, {'image': made[part]})
    given = {each: np.asarray(array) for each, array in system.inputs_of(made).items()}
    return sessions[name].run(None, given)[0]


_prepared = jax.jit(lambda source, items: source.prepared(items), static_argnums=0)


def _tool(name: str) -> Any:
    return onnx_files.of_extra(name, '--int8')


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Holds back what the quantization prints and warns of."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
