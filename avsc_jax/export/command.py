"""Runs avsc_jax.export on parsed flags: writes a run's networks and compares them with it."""

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
import jax.export
import numpy as np

import avsc_jax
from avsc_jax.audio import frontends
from avsc_jax.data import media, stored_pictures, windows
from avsc_jax.input_pipeline.system import Items, Network, System, SystemInput
from avsc_jax.models.fold_batchnorm import fold_batchnorm
from avsc_jax.predict import onnx_files, predictor
from avsc_jax.predict.onnx_files import OPSET, TOLERANCE, of_extra
from avsc_jax.runs.load import load_system, window_s
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.runtime import compiling, files, nearest

FORMATS = ('onnx', 'stablehlo', 'both')
PLATFORMS = ('cpu', 'cuda', 'tpu')


def run(args: argparse.Namespace) -> int:
    """Exports the run to a folder, and prints the files; returns the exit code."""
    _check(args)
    to_onnx = of_extra('jax2onnx', '--format=onnx').to_onnx if args.format != 'stablehlo' else None
    if args.int8:
        for name in ('onnx', 'onnxruntime'):
            of_extra(name, '--int8')
    if args.format != 'onnx':
        of_extra('flatbuffers', '--format=stablehlo')  # jax.export needs it to serialise
    system = load_system(args.run, args.weights_dir)
    recipe = {
        'made_by': f'avsc_jax {avsc_jax.__version__}',
        'classes': RunFolder(args.run).read_json('classes.json'),
        'window_s': window_s(system.settings),
        **_facts(system, 'network' if to_onnx else None),
        'clip': 'the probabilities of a clip are the mean over those of its rows',
    }
    if (kind := system.network.kind) != 'exclusive':
        recipe |= {'kind': kind, 'thresholds': (RunFolder(args.run).thresholds or {})}
    cases = _cases(args, system)
    with files.whole(args.out) as folder:
        folder.mkdir()
        if to_onnx:
            recipe['onnx'] = _write_onnx(to_onnx, system, cases, folder, args.batch)
        if args.int8:
            from avsc_jax.export import int8  # which imports this module

            run = predictor.load(args.run, args.weights_dir)
            recipe['int8'] = int8.write(to_onnx, system, run, args.run, args.data_dir, folder)
        if args.format == 'onnx':
            _check_system(jax.jit(system), 'the recipe', cases)
        else:
            recipe['stablehlo'] = _write_stablehlo(system, cases, folder)
        if matrices := _filters(system):
            np.savez_compressed(folder / 'filters.npz', **matrices)
        (folder / 'recipe.json').write_text(json.dumps(recipe, indent=2) + '\n')
    for file in sorted(args.out.iterdir()):
        print(f'{file}: {file.stat().st_size:,} bytes')
    if args.int8:
        print(_int8_line(recipe['int8']))
    return 0


def _int8_line(facts: Mapping) -> str:
    """Says what 8 bits cost, for the console."""
    held = facts['held_out']
    kept = facts['too_inexact']
    rest = f'; too inexact in 8 bits, so only in 32: {", ".join(kept)}' if kept else ''
    return (
        f'8 bits, on {held["clips"]} clips of {held["split"]}: accuracy '
        f'{100 * held["accuracy"]:.1f} %, of the run {100 * held["accuracy_of_run"]:.1f} %; the '
        f'same class for {100 * held["agreement"]:.1f} %{rest}'
    )


def _check(args: argparse.Namespace) -> None:
    """Raises an error for the first argument that is wrong, before any long work."""
    nearest.check('--format', args.format, FORMATS)
    if args.batch is not None and args.batch < 1:
        raise ValueError(f'--batch is {args.batch}; it must be 1 or more')
    if args.int8 and (args.format == 'stablehlo' or args.batch is not None):
        raise ValueError(
            '--int8 makes ONNX files of any number of rows; leave out --batch and '
            '--format=stablehlo'
        )
    RunFolder(args.run).check_done()
    if args.int8 and RunFolder(args.run).kind != 'exclusive':
        raise ValueError(
            '--int8 is checked by accuracy, and the classes of this run do not exclude each other; '
            'export it without --int8'
        )
    if RunFolder(args.run).config['kind'] == 'ensemble':
        raise ValueError(
            f'{args.run} is an ensemble and has no network of its own; export its members'
        )
    if args.out.exists() and not (args.out.is_dir() and not any(args.out.iterdir())):
        raise ValueError(f'{args.out} exists and is not empty; name another folder, or delete it')
    if not args.out.absolute().parent.is_dir():
        raise FileNotFoundError(f'{args.out.parent} is not a folder; make it first')


@dataclasses.dataclass(frozen=True)
class Case:
    """A clip to compare on: its items, and the inputs and the probabilities that the run gives."""

    name: str
    items: Items
    inputs: dict[str, np.ndarray]
    probs: np.ndarray


def _cases(args: argparse.Namespace, system: System) -> list[Case]:
    """Makes the clips to compare on: noise, and the file of --clip."""
    run = predictor.load(args.run, args.weights_dir)
    records = {'noise': noise(system)}
    if args.clip:
        records[str(args.clip)] = _first_window(args.clip, run)
    cases = []
    for name, record in records.items():
        given = run.members[0].preprocess(record)
        given = given if isinstance(given, dict) else {'image': given}
        with compiling.said(args.run.name):
            probs = np.asarray(jax.jit(system.network)(given))
        cases.append(Case(name, system.items(record), given, probs))
    return cases


def _first_window(clip: Path, run: predictor.Predictor) -> dict:
    """Reads the first window of a media file, as long as the clips of the training."""
    record = next(windows.read(clip, run.wants()))
    if why := [*record['missing'].values()]:
        raise ValueError(f'{why[0]}; --clip must name a file with all that the run takes')
    return record


def _compare(what: str, actual: np.ndarray, expected: np.ndarray, scale: float = 1.0) -> float:
    """The largest difference, divided by `scale`; an error if it is over TOLERANCE or NaN."""
    if actual.shape != expected.shape:
        raise ValueError(
            f'{what} gives {actual.shape}, the run {expected.shape}; nothing is written'
        )
    difference = float(np.abs(actual - expected).max() / scale)
    if not difference < TOLERANCE:
        raise ValueError(
            f'{what} differs from the run by {difference:.2g}, more than {TOLERANCE:g}; nothing is '
            'written'
        )
    return difference


def _write_onnx(
    to_onnx: Callable, system: System, cases: list[Case], folder: Path, batch: int | None
) -> dict:
    """Writes the network and its encoders as ONNX, each compared on its own inputs."""
    differences: dict[str, float] = {}
    for name, network, clips in networks(system, cases):
        content = as_onnx(to_onnx, name, network, clips[0], batch)
        session = onnx_files.session(content)
        for given in [onnx_files.random_like(clips[0]), *clips]:
            if batch:
                given = {n: np.resize(x, (batch, *x.shape[1:])) for n, x in given.items()}
            expected = np.asarray(jax.jit(network)(given))
            (actual,) = session.run(None, given)
            scale = 1.0 if network.output == 'probs' else np.abs(expected).max()
            difference = _compare(f'{name}.onnx', actual, expected, scale)
            differences[name] = max(difference, differences.get(name, 0.0))
        (folder / f'{name}.onnx').write_bytes(content)
    return {'opset': OPSET, 'batch': batch or 'any', 'largest_difference': differences}


def networks(system: System, cases: list[Case]) -> Iterator[tuple[str, Network, list[dict]]]:
    """Yields the name of each network, the network, and its inputs for each clip."""
    yield 'network', system.network, [case.inputs for case in cases]
    yield from _encoders(system, [case.items for case in cases], 'network')


def _encoders(
    system: System, clips: list[Items], name: str
) -> Iterator[tuple[str, Network, list[dict]]]:
    for part, source in system.sources.items():
        parts, encoder = [items[part] for items in clips], encoder_name(name, part)
        if isinstance(source, System):
            see = jax.jit(source.inputs)
            yield encoder, source.network, [jax.device_get(see(items)) for items in parts]
            yield from _encoders(source, parts, encoder)
        elif source.encoder is not None:
            prepared = jax.jit(source.prepared)
            yield encoder, source.encoder, [{'image': np.asarray(prepared(x))} for x in parts]


def as_onnx(
    to_onnx: Callable, name: str, network: Network, rows: Mapping, batch: int | None
) -> bytes:
    """Converts a network, its BatchNorms in the layers before them, which runtimes do not do."""
    model, variables = fold_batchnorm(network.model, network.variables)
    folded = dataclasses.replace(network, model=model, variables=variables)
    return onnx_files.as_onnx(to_onnx, name, folded, rows, [network.output], batch=batch)


def _write_stablehlo(system: System, cases: list[Case], folder: Path) -> dict:
    """Writes the system as StableHLO; it is read back for the comparison."""
    specs = _symbolic(system, jax.export.SymbolicScope(), 'T')
    exported = jax.export.export(jax.jit(system), platforms=PLATFORMS)(specs)
    content = bytes(exported.serialize())
    call = jax.export.deserialize(bytearray(content)).call
    difference = _check_system(call, 'system.bin', cases)
    (folder / 'system.bin').write_bytes(content)
    return {
        'file': 'system.bin',
        'takes': jax.tree.map(lambda spec: [str(spec.dtype), *map(str, spec.shape)], specs),
        'platforms': PLATFORMS,
        'jax': jax.__version__,
        'largest_difference': difference,
    }


def _check_system(system: Callable[[Items], jax.Array], what: str, cases: list[Case]) -> float:
    """The largest difference from the run's own probabilities."""
    return max(
        _compare(f'{what}, of {case.name},', np.asarray(system(case.items)), case.probs)
        for case in cases
    )


def _symbolic(system: System, scope: jax.export.SymbolicScope, length: str) -> dict:
    """The shapes of the items, with any number of items of each source; extra ones are ignored."""
    specs = {}
    for k, (name, source) in enumerate(system.sources.items()):
        alike = len(system.sources) == 1 or system.takes_both
        symbol = length if alike else f'{length}{k}'
        if isinstance(source, System):
            specs[name] = _symbolic(source, scope, symbol)
            continue
        if name == 'frame' and not alike:
            symbol = '1'  # the pictures of the clip
        shape = ', '.join(map(str, (symbol, *source.item.shape)))
        shape = jax.export.symbolic_shape(shape, scope=scope)
        specs[name] = jax.ShapeDtypeStruct(shape, source.item.dtype)
    return specs


def _facts(system: System, name: str | None) -> dict:
    """Describes a system for recipe.json; with a name, its networks are ONNX files."""
    sources = {}
    for part, source in system.sources.items():
        encoder = name and encoder_name(name, part)
        if isinstance(source, System):
            sources[part] = _facts(source, encoder)
            continue
        item = {'dtype': source.item.dtype.name, 'shape': source.item.shape}
        sources[part] = {'takes': source.takes, 'item': item, **source.facts}
        if source.encoder is not None:
            sources[part]['encoder'] = f'{encoder}.onnx' if encoder else True
    settings, kept = system.settings, ('pool', 'length', 'frames_per_row')
    rule = settings.get('frames')
    return {
        'network': f'{name}.onnx' if name else None,
        'output': system.network.output,
        'inputs': system.names,
        'standardize': {n: x.tolist() for n, x in (system.stats or {}).items()},
        **{each: settings.get(each) for each in kept},
        'frames': rule and _frame_facts(rule, settings),
        'sources': sources,
    }


def _frame_facts(rule: str, settings: Mapping) -> dict:
    """Describes how the pictures of a clip are picked, scaled and, as in records, compressed."""
    quality = stored_pictures.quality_of(settings)
    return media.frame_facts(rule, short_side=settings['short_side'], jpeg_quality=quality)


def encoder_name(owner: str, part: str) -> str:
    return f'encoder_{part}' if owner == 'network' else f'{owner}_{part}'


def _filters(system: System) -> dict[str, np.ndarray]:
    """The filters of each front end whose recipe refers to filters.npz."""
    filters = {}
    for source in _sources(system):
        about = source.facts.get('front_end', {})
        if about.get('filters') == 'filters.npz':
            rate, options = about['sample_rate_hz'], about['options']
            filters[about['name']] = frontends.find(about['name']).filters(rate, **options)
    return filters


def noise(system: System) -> dict:
    """Makes a record of random sound and pictures, of the sizes that the system takes."""
    random, sources = np.random.default_rng(0), list(_sources(system))
    sound = [source for source in sources if source.takes == 'audio']
    rate = sound[0].facts['sample_rate_hz'] if sound else 48000
    samples = 3 * max((source.item.shape[0] for source in sound), default=rate)
    audio = 0.1 * random.standard_normal((samples, 2), np.float32)
    record = {'audio': audio, 'sample_rate': rate, 'channels': 2}
    count = len(sound[0].items(record)) if sound else 3
    sides = [source.item.shape[-3:-1] for source in sources if source.takes != 'audio']
    height, width = np.max(sides, axis=0) if sides else (8, 8)
    shape = (count, height + height // 5, width + width // 2, 3)
    return record | {
        'frames': list(random.integers(0, 256, shape, np.uint8)),
        'media_frames': list(random.random((count, height, width, 3), np.float32)),
    }


def _sources(system: System) -> Iterator[SystemInput]:
    for source in system.sources.values():
        yield from _sources(source) if isinstance(source, System) else [source]
