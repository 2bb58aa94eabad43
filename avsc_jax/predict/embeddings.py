"""Writes embeddings of files, made by an encoder with published weights; no run is needed."""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from avsc_jax import weights
from avsc_jax.data import media
from avsc_jax.data.batches import one_ahead
from avsc_jax.input_pipeline.encoders import READING, Encoder, EncoderSpec
from avsc_jax.input_pipeline.preprocess import FeatureInputs
from avsc_jax.predict import media_files, outputs
from avsc_jax.runtime.files import printable, write_arrays

# How frames are picked without a run: one each second, of the same size as in the configs.
PICTURES = {'frames': 'second_centres', 'short_side': 448}


def encode(
    paths: Sequence[Path],
    text: str,
    out: Path,
    *,
    weights_dir: Path,
    origin: str | None = None,
    max_duration_s: float | None = None,
) -> int:
    """Writes a row for each frame or window of sound of each file; returns the exit code.

    Args:
      text: an encoder's name and options, such as 'openl3_audio:hop_s=0.5'.
      out: an .npz file with the arrays clip_id, time_s, embedding and about.
      origin: 'random:SEED' instead of the published weights.
      max_duration_s: of a file, which is read as a whole; None: media.MAX_DURATION_S.
    """
    spec, settings = specified(text, weights_dir, origin)
    encoder = spec.make(weights_dir)
    inputs = FeatureInputs(settings, [encoder])
    paths = media_files.expanded(paths)
    left_out: dict[str, list[Path]] = {}
    takes = ['sound' if spec.takes == 'audio' else 'picture']
    files = media_files.find(paths, takes, stills=False, left_out=left_out)
    names = outputs.row_names(files, paths)
    notes: dict[str, list[Path]] = {}
    errors, clips, times, embeddings = [], [], [], []
    # one file is read ahead, no more: an hour of sound takes more than a gigabyte
    read = one_ahead(_read(inputs, file, max_duration_s) for file in files)
    for file, record in tqdm(read, total=len(files), unit='file', disable=len(files) < 2):
        try:
            rows = _encoded(encoder, record)
        except (ValueError, OSError) as error:
            errors.append(str(error) if str(file) in str(error) else f'{file}: {error}')
            continue
        clipped = [media.clipping_note(record['clipped'])] if 'clipped' in record else []
        for note in [*inputs.notes(record), *clipped]:
            notes.setdefault(note, []).append(file)
        clips.append(names[str(file)])
        times.append(encoder.times_s(record, len(rows)))
        embeddings.append(rows)
        tqdm.write(f'{printable(file)}  {len(rows)} embeddings of {rows.shape[1]} values')
    if clips:
        write_arrays(
            out,
            clip_id=np.repeat(clips, [len(rows) for rows in embeddings]),
            time_s=np.concatenate(times).astype(np.float64),
            embedding=np.concatenate(embeddings),
            about=json.dumps(spec.to_json() | settings),
        )
    return outputs.end(notes, errors, len(files), 'encoded', left_out)


def specified(
    text: str, weights_dir: Path, origin: str | None
) -> tuple[EncoderSpec, dict[str, Any]]:
    """The encoder that --encoder names, and how frames are picked for it, if it takes some."""
    name, options = encoder_options(text)
    if 'frames' in READING.get(name, ()):
        options.setdefault('frames', PICTURES['frames'])
    options.setdefault('num_classes', 0)
    is_stored = EncoderSpec(name, options, '').takes == 'frames'
    settings = {k: options.pop(k, v) for k, v in PICTURES.items()} if is_stored else {}
    EncoderSpec(name, options, '').check()
    spec = EncoderSpec(
        name, options, origin or weights.identify(name, weights_dir, options=options)
    )
    return spec, settings


def encoder_options(text: str) -> tuple[str, dict[str, Any]]:
    """Splits 'openl3_audio:hop_s=0.5,version=0.4-kapre' into name and options."""
    name, _, rest = text.partition(':')
    weights.source_of(name)  # raises for a network without published weights
    if name.endswith('_text'):
        raise ValueError(f'{name} encodes texts; name an encoder of pictures or sound')
    options = {}
    for part in filter(None, re.split(r',(?![^(]*\))', rest)):  # not within (4, 8)
        option, is_set, value = part.partition('=')
        if not is_set:
            raise ValueError(f'--encoder has the option {part!r}; write it as option=value')
        try:
            options[option] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[option] = value
    return name, options


def _read(
    inputs: FeatureInputs, file: Path, max_duration_s: float | None
) -> tuple[Path, Mapping | Exception]:
    try:
        return file, inputs.open(file, max_duration_s=max_duration_s)
    except media.TooLong as error:
        return file, ValueError(f'{error}; cut it, or give a larger --max_hours')
    except (ValueError, OSError) as error:
        return file, error


def _encoded(encoder: Encoder, record: Mapping | Exception) -> np.ndarray:
    if isinstance(record, Exception):
        raise record
    rows = encoder(encoder.items(record))
    if not np.isfinite(rows).all():
        raise ValueError(f'{encoder.spec.name} gives embeddings that are not finite numbers')
    return rows
