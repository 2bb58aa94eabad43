"""What opening folds of TAU's 12,291 clips reads: seconds and bytes.

    pip install -e . && python benchmarks/outlines.py [--data_dir=DIR]

A data set of as many records is built, by the TAU builder, of one tiny made-up clip under 12,291
names (about a minute; --data_dir keeps it). Then, each in a process of its own, are counted the
bytes that read calls of that process return (rchar of /proc/self/io, Linux):

- `python -m avsc_jax.main --config=configs/clip_fusion.py:tau --fold=0 --dry_run` as a whole, and
  beside it `--help`, which reads the program alone;
- opening the same folds without the index content.json, as for data of earlier versions: all
  records are read once, and the index is written;
- opening them with it.

Records of 3 MB would make only the second one longer; `--record_mb=3` says by how much.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import soundfile
import tensorflow_datasets as tfds

from avsc_jax.scenes import SCENES

COUNTS = {'train': 8646, 'evaluate': 3645}
COUNTED = """
import atexit, re, sys

def read():
    return int(re.search(r'rchar: (\\d+)', open('/proc/self/io').read())[1])

atexit.register(lambda: print('rchar', read(), file=sys.stderr))
"""
COMMAND = COUNTED + 'from avsc_jax.main import run\nrun()\n'
OPEN = (
    COUNTED
    + """
import pathlib, time
from avsc_jax.configs import clip_fusion
from avsc_jax.data import sources

config = clip_fusion.get_config('tau')
config.data.fold = 0
started, first = time.perf_counter(), read()
opened = sources.find(config.data.name).open(config.data, pathlib.Path(sys.argv[1]))
clips = [len(opened.outlines(name)) for name in ('train', 'test')]
print(time.perf_counter() - started, read() - first, clips)
"""
)


def names() -> dict[str, list[str]]:
    """Makes TAU-like names, clips of 1,000 locations a list, as many as the real lists have."""
    made, segment = {}, 0
    for part, (name, count) in enumerate(COUNTS.items()):
        made[name] = []
        for number in range(count):
            scene, place = SCENES[number % len(SCENES)], 1000 * (part + 1) + number // 30
            made[name].append(f'{scene}-lyon-{place}-{segment}')
            segment += 1
    return made


def media() -> tuple[bytes, bytes]:
    """Makes a sound of 32 samples, and a video of one picture."""
    sound, video = io.BytesIO(), io.BytesIO()
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (32, 2))
    soundfile.write(sound, noise, 48000, format='WAV', subtype='PCM_24')
    with av.open(video, 'w', format='mp4') as container:
        stream = container.add_stream('libx264', rate=1)
        stream.width, stream.height = 32, 16
        frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), 90, np.uint8), format='rgb24')
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return sound.getvalue(), video.getvalue()


def build(folder: Path) -> None:
    """Builds the data set by the TAU builder, from archives as they are published."""
    from tfds_tau.tfds_tau_dataset_builder import Builder

    lists, (sound, video) = names(), media()
    archives = folder / 'archives'
    archives.mkdir(parents=True)
    with zipfile.ZipFile(archives / 'TAU.meta.zip', 'w') as archive:
        for name, clips in lists.items():
            rows = [f'audio/{c}.wav\tvideo/{c}.mp4\t{c.split("-")[0]}' for c in clips]
            rows.insert(0, 'filename_audio\tfilename_video\tscene_label')
            archive.writestr(f'TAU/evaluation_setup/fold1_{name}.csv', '\n'.join(rows) + '\n')
    for kind, ending, data in (('audio', 'wav', sound), ('video', 'mp4', video)):
        with zipfile.ZipFile(archives / f'TAU.{kind}.1.zip', 'w') as archive:
            for clip in (clip for clips in lists.values() for clip in clips):
                archive.writestr(f'TAU/{kind}/{clip}.{ending}', data)
    config = tfds.download.DownloadConfig(manual_dir=archives)
    Builder(config='clips', data_dir=folder).download_and_prepare(download_config=config)


def counted(code: str, arguments: Sequence[str]) -> tuple[float, int, str]:
    """Runs code in a process of its own; returns its seconds, the bytes read, and its output."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, '-c', code, *arguments], capture_output=True, text=True, check=True
    )
    (line,) = (line for line in done.stderr.splitlines() if line.startswith('rchar'))
    return time.perf_counter() - started, int(line.split()[1]), done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data_dir', type=Path, help='holds or gets the data set; default: none')
    parser.add_argument('--record_mb', type=float, default=3.0, help="of TAU's records")
    args = parser.parse_args()
    folder = args.data_dir or Path(tempfile.mkdtemp())
    if not (folder / 'tfds_tau').exists():
        build(folder)
    (index,) = folder.glob('tfds_tau/clips/*/content.json')
    records = sum(path.stat().st_size for path in index.parent.glob('*array_record*'))
    count, size = sum(COUNTS.values()), index.stat().st_size / 1e6
    print(f'{count:,} records, {records / 1e6:.1f} MB; index {size:.1f} MB')
    kept = index.read_bytes()
    index.unlink()
    for what in ('without the index', 'with the index'):
        _, _, said = counted(OPEN, [str(folder)])
        seconds, num_bytes, clips = said.split(maxsplit=2)
        print(
            f'opening fold 0 {what}: {float(seconds):.2f} s, {int(num_bytes) / 1e6:.1f} MB; '
            f'clips that train and test: {clips.strip()}'
        )
    assert {**json.loads(index.read_bytes())}.keys() == {**json.loads(kept)}.keys()
    dry = ['--config=configs/clip_fusion.py:tau', '--weights=random', '--fold=0', '--dry_run']
    for what, arguments in (('--help', ['--help']), ('dry run', [*dry, f'--data_dir={folder}'])):
        seconds, num_bytes, _ = counted(COMMAND, arguments)
        print(f'{what}: {seconds:.1f} s, {num_bytes / 1e6:.0f} MB read')
    whole = sum(COUNTS.values()) * args.record_mb / 1e3
    print(f'all records would be {whole:.0f} GB at {args.record_mb:g} MB each')


if __name__ == '__main__':
    main()
