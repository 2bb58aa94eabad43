"""Runs avsc_jax.predict on parsed flags: files, a dataset, a stream, or embeddings."""

import argparse
import itertools
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from avsc_jax import tables, weights
from avsc_jax.data import folds, label_kinds, sources
from avsc_jax.data.decode_workers import Limits
from avsc_jax.data.records import Dataset, default_data_dir
from avsc_jax.predict import dataset, embeddings, media_files, on_beam, outputs, stream
from avsc_jax.predict.opened import opened
from avsc_jax.predict.predictor import Predictor
from avsc_jax.predict.resume import Journal
from avsc_jax.runs import familiarity
from avsc_jax.runtime import cli, made_with, multihost
from avsc_jax.runtime.files import write_arrays, write_texts
from avsc_jax.tables import parts
from avsc_jax.weights.cache import default_weights_dir


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns 0 when every file was answered, 1 when some could not be read."""
    outputs.check(args)
    if args.runner:
        args.runner.check()
    source = stream.source_of(args) if args.follow or args.frames else None
    args.weights_dir = args.weights_dir or default_weights_dir()
    if args.multihost:
        multihost.initialize()
        args.shard = f'{jax.process_index()}/{jax.process_count()}'
    if args.encoder and not args.zero_shot:
        if args.download_weights and not args.weights:
            weights.download_all([args.encoder.partition(':')[0]], args.weights_dir)
        given = {'weights_dir': args.weights_dir, 'origin': args.weights}
        given['max_duration_s'] = args.max_hours * 3600
        return embeddings.encode(args.files, args.encoder, args.embeddings, **given)
    predictor = opened(args)
    if args.csv:
        tables.check_classes(args.csv, predictor.classes)
    for warning in predictor.warnings:
        print(f'! {warning}', file=sys.stderr)
    if source:
        given = {'window_s': args.window, 'smooth_s': args.smooth_s, 'top': args.top}
        return stream.run(predictor, source, **given, jsonl=args.jsonl)
    code = of_dataset(args, predictor) if args.dataset else of_files(args, predictor)
    if args.multihost:
        multihost.finish()
    return code


def of_files(args: argparse.Namespace, predictor: Predictor) -> int:
    """Tags media files, and writes what the flags ask for; returns the exit code."""
    paths = media_files.expanded(args.files)
    if args.runner:  # its workers may run in other folders
        paths = [path.absolute() for path in paths]
    left_out: dict[str, list[Path]] = {}
    files = media_files.find(paths, predictor.takes, left_out=left_out)
    is_named = args.csv or args.timeline or args.embeddings
    names = outputs.row_names(files, paths) if is_named else {}
    if args.shard:
        files = media_files.shard(files, args.shard)
    out = {name: _of_shard(getattr(args, name), args.shard) for name in outputs.WRITTEN}
    first = next(filter(None, (out['csv'], out['timeline'], out['embeddings'])), None)
    path = out['jsonl'] or (first and first.with_name(f'{first.name}.unfinished.jsonl'))
    with outputs.alone([path, *out.values()]):
        journal = _journal(path, args, predictor)
        cli.set_next_start(lambda: _next_start(journal, len(files)))
        _tag(args, predictor, files, journal)
        journal.write(files)
        notes, errors = _told(journal.lines, files)
        if is_named and len(errors) < len(files):
            good = [line for file in files if 'error' not in (line := journal.lines[str(file)])]
            _write(out, [names[line['file']] for line in good], good, predictor)
        if path and path != out['jsonl']:
            path.unlink(missing_ok=True)
    return outputs.end(notes, errors, len(files), 'classified', left_out)


def _told(
    lines: Mapping[str, dict], files: Sequence[Path]
) -> tuple[dict[str, list[str]], list[str]]:
    """Returns the files of each note, and all errors, without the answers in memory."""
    notes: dict[str, list[str]] = {}
    errors = []
    for file in map(str, files):
        line = lines[file]
        errors += [line['error']] if 'error' in line else []
        for note in line.get('notes', ()):
            notes.setdefault(note, []).append(file)
    return notes, errors


def _next_start(journal: Journal, total: int) -> str:
    """Says from where a stopped command goes on when it is given again."""
    if not journal.path:
        return 'the same command begins again; with --jsonl or --csv it goes on'
    answered = len(journal.lines) + on_beam.num_written(journal.path)
    done = f'{answered:,} of {total:,} files are answered'
    return f'the same command goes on from the journal {journal.path}, where {done}'


def _journal(path: Path | None, args: argparse.Namespace, predictor: Predictor) -> Journal:
    """Opens the journal of answers, which --fresh empties; notes answers of other libraries."""
    if args.fresh and path:
        path.unlink(missing_ok=True)
        shutil.rmtree(on_beam.folder_of(path), ignore_errors=True)
    about = _about(args, predictor)
    journal = Journal(path, about, made_with=made_with.facts())
    on_beam.gather(journal, about)
    if difference := journal.difference:
        print(f'note: {path} {difference}; --fresh answers them anew', file=sys.stderr)
    return journal


def _about(args: argparse.Namespace, predictor: Predictor) -> dict[str, Any]:
    """Returns what a journal's answers depend on besides the files."""
    window_s = predictor.wants(args.window).window_s
    return {'model': f'{predictor.title} {predictor.content_hash}', 'window_s': window_s}


def _tag(
    args: argparse.Namespace, predictor: Predictor, files: Sequence[Path], journal: Journal
) -> None:
    """Tags the files that are not in the journal, adds them to it, and prints their scenes."""
    keeps = bool(args.embeddings)
    todo = [file for file in files if not journal.has(file, embedding=keeps)]
    if len(todo) < len(files):
        done = f'{len(files) - len(todo):,} of {len(files):,} files'
        print(f'{done} are finished, according to {journal.path}', file=sys.stderr)
    if args.runner:
        if todo:
            on_beam.tag(files, todo, journal, args, _about(args, predictor), _limits(args))
        for line in (journal.lines[str(file)] for file in todo):
            if 'error' not in line:
                print(outputs.shown(line, parts.of(predictor), args.top))
        return
    tagged = media_files.tag(
        predictor,
        todo,
        window_s=args.window,
        fallback=not args.whole,
        keep=bool(args.report),
        workers=args.workers,
        limits=_limits(args),
    )
    for one in tqdm(tagged, total=len(todo), unit='file', disable=len(todo) < 2):
        line = journal.add(one, predictor.classes, embedding=keeps)
        if one.error:
            continue
        tqdm.write(outputs.shown(line, parts.of(predictor), args.top))
        sys.stdout.flush()  # into a pipe, too
        if args.report:
            _explain(args, predictor, one, alone=len(files) == 1)


def _limits(args: argparse.Namespace) -> Limits:
    longest_s = args.max_hours * 3600
    return Limits(
        args.time_limit,
        round(args.memory_limit * 2**30),
        longest_s,
        max(longest_s, args.time_limit),
    )


def of_dataset(args: argparse.Namespace, predictor: Predictor) -> int:
    """Tags the records of a prepared dataset, and writes what the flags ask for."""
    data_dir = args.data_dir or default_data_dir()
    data = sources.named(args.dataset, data_dir)
    loaded = dataset.records(predictor, data, args.split, data_dir, args.media_dir)
    ids, segments, labels, places, probs, embedded, errors = [], [], [], [], [], [], []
    while batch := list(itertools.islice(loaded, media_files.WINDOWS_PER_BATCH)):
        keyed = [(one['clip_id'], one) for one in batch]
        for name, one, answer in media_files.answered(predictor, keyed):
            if isinstance(answer, ValueError):
                errors.append(f'{name}: {answer}')
                continue
            ids.append(one['clip_id'])
            segments.append(one['segment'])
            labels.append(one['label'])
            places.append(folds.location(one))
            probs.append(answer.probs)
            embedded.append(answer.embedding)
            marks = ''.join(f'  {mark}' for mark in familiarity.marks(answer.familiarity))
            tqdm.write(f'{ids[-1]}  {outputs.answered(predictor, answer.probs, args.top)}{marks}')
    if args.csv and ids:
        segment, label = np.array(segments, np.int32), _labels(labels, data, predictor)
        items = 'clip' if (segment < 0).all() else 'second'
        meta = {'classes': list(predictor.classes), 'granularity': items, 'pooled': items == 'clip'}
        meta['calibrated'] = predictor.is_calibrated
        if predictor.kind == 'independent':
            meta['kind'] = predictor.kind
        if predictor.limits:
            meta['thresholds'] = predictor.limits
        group = np.array(places, str) if any(places) else None
        table = tables.Predictions(np.array(ids), segment, label, np.stack(probs), meta, group)
        tables.write(table, args.csv, outputs.separator(args.csv))
    if args.embeddings and ids:
        write_arrays(args.embeddings, clip_id=np.array(ids), embedding=np.stack(embedded))
    return outputs.end({}, errors, len(ids) + len(errors), 'classified')


def _labels(labels: Sequence, data: Dataset, predictor: Predictor) -> np.ndarray:
    """Returns the labels of a data set's records for a table; -1 where the system has others."""
    has_several = any(isinstance(label, list) for label in labels)
    if predictor.kind == 'exclusive' and not has_several:
        return np.array(labels, np.int32)
    if data.kind != predictor.kind or data.classes != predictor.classes:
        print(
            f'note: {data.name} has {data.kind} labels, {", ".join(data.classes[:3])} ..., which '
            f'are not those of {predictor.title}: the table says nothing of the truth',
            file=sys.stderr,
        )
        return np.full(len(labels), -1, np.int32)
    return label_kinds.stacked(labels, len(data.classes), data.kind) > 0


def _of_shard(path: Path | None, shard: str | None) -> Path | None:
    """Names the output of a shard: 'out.csv' of 1/4 -> 'out-1-of-4.csv'."""
    if path is None or shard is None:
        return path
    return path.with_stem(f'{path.stem}-{shard.replace("/", "-of-")}')


def _write(
    out: Mapping[str, Path | None],
    names: Sequence[str],
    lines: Sequence[Mapping],
    predictor: Predictor,
) -> None:
    """Writes the tables and embeddings that were asked for."""
    if out['csv']:
        outputs.write_table(
            out['csv'],
            names,
            lines,
            predictor.classes,
            calibrated=predictor.is_calibrated,
            kind=parts.kind_of(predictor),
            limits=predictor.limits,
        )
    if out['timeline']:
        outputs.write_timeline(
            out['timeline'], names, lines, predictor.classes, kind=parts.kind_of(predictor)
        )
    if out['embeddings']:
        # None, which is missing, becomes NaN
        rows = np.array([line['embedding'] for line in lines], np.float32)
        write_arrays(out['embeddings'], clip_id=np.array(names, str), embedding=rows)


def _explain(
    args: argparse.Namespace, predictor: Predictor, one: media_files.Prediction, *, alone: bool
) -> None:
    """Writes the page that explains a prediction."""
    from avsc_jax.predict.explain import explain
    from avsc_jax.report import explanation  # it loads matplotlib, which takes a second

    path = args.report
    if not (alone and path.suffix == '.html'):
        path = path / f'{outputs.page_name(one.file)}.html'
    page = explanation.document(
        one.file.name,
        predictor.classes,
        [(start_s, end_s, answer.probs) for start_s, end_s, answer in one.windows],
        [explain(predictor, window) for window in one.kept],
        [*one.notes, *familiarity.marks(one.familiarity)],
        predictor.warnings,
        parts=parts.of(predictor),
    )
    write_texts(path.parent, {path.name: page})
