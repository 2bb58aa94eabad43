"""Measures rows per second of the training's input path at TAU's size, beside decoding alone.

    pip install -e . && python benchmarks/feeding.py [--records=64] [--json out.json]

Rows are pictures of 448 x 448 and seconds of sound, of the records that `rows.py` makes up. `alone`
is Pillow's decode and resize, or soundfile's decode, of bytes in memory. `path` is all that a
training does, to a batch on the device. Milliseconds are of processor time. The last line of each
is arithmetic, not a measurement: rows per second of more cores, if all work but the main process's
own part (taking rows, stacking, putting) is shared by all cores without loss.
"""

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import soundfile
from PIL import Image
from rows import PICTURES, RATE_HZ, SECONDS, built

from avsc_jax.data import records
from avsc_jax.data.batches import Stream
from avsc_jax.input_pipeline import media_inputs

BATCH, ROUNDS = 20, 4
SETTINGS = {
    'pictures': dict(items='frame', size=(448, 448), mean=(0, 0, 0), std=(1, 1, 1)),
    'seconds': dict(
        items='second',
        size=(256, 94),
        piece_s=1.0,
        front_end=dict(name='hitachi_logmel', sample_rate_hz=RATE_HZ),
    ),
}


def cost_ms(work: Callable[[], object], count: int) -> tuple[float, float]:
    """Milliseconds of processor and of wall time for one of `count` rows, the least of rounds."""
    work()
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time(), time.perf_counter()
        work()
        rounds.append((time.process_time() - start[0], time.perf_counter() - start[1]))
    cpu, wall = np.min(rounds, axis=0) / count * 1e3
    return float(cpu), float(wall)


def measured(kind: str, dataset: records.Dataset) -> dict:
    """The costs of one kind of row."""
    rows = media_inputs.rows(dataset, 'train', media_inputs.make(SETTINGS[kind]))
    load, media = rows.inputs.load, dataset.rows('train')
    order = np.random.default_rng(0).permutation(len(rows))[: len(rows) // BATCH * BATCH]
    order = order[: 16 * BATCH].reshape(-1, BATCH)
    places = [divmod(int(row), PICTURES if kind == 'pictures' else SECONDS) for row in order.flat]
    if kind == 'pictures':
        stored = [media.picture(*place) for place in places]
    else:
        sounds = {}
        for record, _ in places:
            with media.sound(record) as file:
                sounds.setdefault(record, file.read())
        stored = [sounds[record] for record, _ in places]

    def alone() -> None:
        for data, (_, part) in zip(stored, places, strict=True):
            if kind == 'pictures':
                picture = Image.open(io.BytesIO(data))
                np.asarray(picture.resize((448, 448), Image.Resampling.BILINEAR))
            else:
                with soundfile.SoundFile(io.BytesIO(data)) as sound:
                    sound.seek(part * RATE_HZ)
                    sound.read(RATE_HZ, dtype='float32')

    def path(load: Callable = load) -> None:
        for batch in Stream(load).batches(order, np.ones(order.shape, bool), jax.device_put):
            jax.block_until_ready(batch)

    kept = load(0)
    found = {'alone, ms': cost_ms(alone, order.size)[0]}
    found['path, ms'], wall = cost_ms(path, order.size)
    found['main process, ms'] = cost_ms(lambda: path(lambda row: kept), order.size)[0]
    found['path over alone'] = found['path, ms'] / found['alone, ms']
    found['rows per second'] = 1e3 / wall
    decode, own = found['path, ms'] - found['main process, ms'], found['main process, ms']
    found['computed rows per second'] = {
        cores: 1e3 / max(own, (decode + own) / cores) for cores in (4, 8, 16)
    }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--records', type=int, default=64)
    parser.add_argument('--json', type=Path)
    flags = parser.parse_args()
    records.KEPT_BYTES = 0  # as a data set of 12,291 clips is read
    with tempfile.TemporaryDirectory() as made:
        dataset = built(Path(made), flags.records)
        results = {kind: measured(kind, dataset) for kind in SETTINGS}
    for kind, found in results.items():
        for name, value in found.items():
            shown = {k: round(v) for k, v in value.items()} if isinstance(value, dict) else value
            print(f'{kind:<10}{name:<26}{shown if isinstance(shown, dict) else f"{shown:.3f}"}')
    if flags.json:
        flags.json.write_text(json.dumps(results, indent=2))


if __name__ == '__main__':
    main()
