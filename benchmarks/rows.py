"""Measures what a row costs at TAU's size: one picture or one second of a record of a 10 s clip.

    pip install -e . && python benchmarks/rows.py [--records=64] [--json out.json]

The records are written by the project's own builder: 10 s of stereo sound at 48 kHz as 24-bit
FLAC, and twelve JPEGs of 796 x 448, made of a recording and a photograph. Milliseconds of processor
time (all threads) for a row of a data set too large to be kept in memory, beside decoding the same
bytes alone. The last lines are the ratios.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import tensorflow_datasets as tfds
from PIL import Image

from avsc_jax.data import media, records
from avsc_jax.data.builder.base import RecordBuilder
from avsc_jax.data.builder.clip_reader import Clip
from avsc_jax.data.builder.media_files import FolderFiles

FILES = Path(__file__).parents[1] / 'tests/data_files'
RATE_HZ, SECONDS, SIZE, PICTURES = 48000, 10, (448, 796), 12
ROUNDS = 5


def made_up(seed: int) -> dict:
    """The fields of a record at TAU's size, of a recorded street and a photograph that moves."""
    rng = np.random.default_rng(seed)
    recorded, _ = soundfile.read(FILES / 'acoustic_scene.flac', always_2d=True)
    sound = np.tile(recorded, (SECONDS, 1)) * rng.uniform(0.5, 1, (SECONDS * RATE_HZ, 1)).mean()
    sound += rng.normal(0, 1e-4, sound.shape)  # below it, 24 bits hold noise
    with Image.open(FILES / 'cat.jpg') as photograph:
        large = photograph.convert('RGB').resize((SIZE[1] + 80, SIZE[0] + 40))
    frames = []
    for _ in range(PICTURES):
        x, y = int(rng.integers(80)), int(rng.integers(40))
        crop = np.asarray(large.crop((x, y, x + SIZE[1], y + SIZE[0])), np.int16)
        grain = crop + rng.integers(-2, 3, crop.shape, dtype=np.int16)
        frames.append(media.encode_jpeg(grain.clip(0, 255).astype(np.uint8)))
    flac = media.encode_flac(sound.astype(np.float32), RATE_HZ, 24)
    return {
        'clip_id': f'bus-lisbon-{seed % 40}-{seed}',
        'segment': -1,
        'audio': flac,
        'sample_rate': RATE_HZ,
        'frames': frames,
        'frame_index': [*range(PICTURES)],
        'frame_times': np.linspace(0.4, 9.6, PICTURES),
        'label': seed % 2,
        'city': 'lisbon',
        'location': str(seed % 40),
    }


class Street(RecordBuilder):
    """Made-up clips at TAU's size."""

    VERSION = tfds.core.Version('1.0.0')
    classes = ('bus', 'tram')

    def __init__(self, *, media_dir: Path, **kwargs: object):
        self._media_dir = media_dir
        super().__init__(**kwargs)

    @staticmethod
    def read(files: FolderFiles, clip: Clip, **options: object) -> list[dict]:
        """Returns the one record of a clip; its file only says which one."""
        return [made_up(int(clip.clip_id.rsplit('-', 1)[1]))]

    def clips(self, dl_manager: object) -> tuple[FolderFiles, dict[str, list[Clip]]]:
        names = sorted(path.name for path in self._media_dir.iterdir())
        clips = [Clip(name.removesuffix('.wav'), name, '', 'bus') for name in names]
        return FolderFiles(self._media_dir), {'train': clips}


def built(folder: Path, num_records: int) -> records.Dataset:
    """Builds the data set."""
    media_dir = folder / 'media'
    media_dir.mkdir()
    for k in range(num_records):
        (media_dir / f'bus-lisbon-{k % 40}-{k}.wav').touch()
    Street(media_dir=media_dir, data_dir=folder).download_and_prepare()
    return records.open_dataset('street', '', folder)


def cost_ms(read: Callable[[int, int], object], places: list[tuple[int, int]]) -> float:
    """Median milliseconds of processor time of one read, over rounds."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for index, part in places:
            read(index, part)
        rounds.append((time.process_time() - start) / len(places) * 1000)
    return statistics.median(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--records', type=int, default=64)
    parser.add_argument('--json', type=Path)
    flags = parser.parse_args()
    records.KEPT_BYTES = 0  # as a data set of 12,291 clips is read
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as made:
        dataset = built(Path(made), flags.records)
        size = sum(path.stat().st_size for path in Path(made).rglob('*array_record*'))
        opened = dataset.records('train').by_rows()
        bare = [
            made_up(int(opened.outline(k)['clip_id'].rsplit('-')[-1])) for k in range(flags.records)
        ]
        order = rng.permutation(flags.records)
        frames = [(int(k), int(rng.integers(PICTURES))) for k in order]
        seconds = [(int(k), int(rng.integers(SECONDS))) for k in order]

        def second(k: int, part: int) -> np.ndarray:
            return opened.sound(k, part * RATE_HZ, (part + 1) * RATE_HZ)

        def bare_second(k: int, part: int) -> np.ndarray:
            return media.decode_flac(bare[k]['audio'], part * RATE_HZ, (part + 1) * RATE_HZ)

        result = {
            'bytes of a record': size // flags.records,
            'frame row, ms': cost_ms(opened.frame, frames),
            'JPEG alone, ms': cost_ms(lambda k, n: media.decode_jpeg(bare[k]['frames'][n]), frames),
            'second row, ms': cost_ms(second, seconds),
            'FLAC alone, ms': cost_ms(bare_second, seconds),
        }
    result['frame row over JPEG alone'] = result['frame row, ms'] / result['JPEG alone, ms']
    result['second row over FLAC alone'] = result['second row, ms'] / result['FLAC alone, ms']
    for name, value in result.items():
        print(f'{name:<28}{value:>12,.2f}')
    if flags.json:
        flags.json.write_text(json.dumps(result, indent=2))


if __name__ == '__main__':
    main()
