"""Tries faults that real life brings, and prints how many the program survives.

    pip install -e '.[test]' && python benchmarks/faults.py [--scale=0.1] [--areas=files,media]

The areas are
- `kills`: SIGKILL at random moments of main (build, extraction, training, report), predict, score
  and export, for several systems; the results must be those of an undisturbed round
  (benchmarks/kills.py);
- `files`: damaged files of ours, each of which must be read or refused in one sentence
  (benchmarks/fuzz.py);
- `media`: damaged films, pictures and sounds: predict answers a folder of the first two with a line
  for each and below MAX_PREDICT_BYTES of memory, and its decoders read sounds or say why not;
- `disk`: commands that may write files of a random length only, as on a full disk: the last line is
  one sentence with the path and the room, and the same command finishes when there is room;
- `pairs`: two commands at once on the same files: each ends well or in one sentence, and one ends
  well;
- `page`: hostile clients of the page beside a well-behaved one, which must always be answered; then
  SIGINT, which must end it within MAX_END_S although they stay;
- `large`: a film of three hours and a folder of 10,000 pictures, which predict answers with at most
  MAX_GROWTH_BYTES more memory than a tenth of them.

A fault that is not survived is a line on the screen, and the exit code is 1. --out writes the table
as Markdown.
"""

import argparse
import contextlib
import json
import math
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import fuzz
import numpy as np
from PIL import Image

from avsc_jax.data import decode_workers, media, windows

ROOT = Path(__file__).resolve().parents[1]
MAX_PREDICT_BYTES = 3 << 30
MAX_GROWTH_BYTES = 64 << 20
MAX_END_S = 5.0
HOURS, PICTURES = 3.0, 10_000
ENCODERS = {'clip_rn101': {'width': 2, 'layers': (1, 1, 1, 1), 'image_size': 32}}
MODEL = {'name': 'clip_late_fusion', 'encoders': {'clip_rn101': 512}}
TINY = [f'--config.encoders={ENCODERS}', f'--config.model={MODEL}', '--config.epochs=3']
SOUND = {'hop_s': 0.1, 'max_windows': 96, 'widths': (2, 2, 2, 32), 'embedding_size': 384}
SYSTEMS = {  # -> the files that it takes, and flags that make its networks and training small
    'clip_fusion.py:demo': ('video', TINY),
    'hitachi_audio.py:regnetx_064,demo': ('audio', ['--config.epochs=2']),
    'openl3_baseline.py:audio,demo': (
        'audio',
        [f'--config.encoders={dict(openl3_audio=SOUND)}', '--config.epochs=3'],
    ),
}
FILMS = 'downloads/tfds_tau_demo-1.0.0/video'


class Result(NamedTuple):
    """How many faults of an area were tried, a sentence on each not survived, and measurements."""

    tries: int
    failures: list[str]
    measured: str = ''


class Bench(NamedTuple):
    """Files, folders and random numbers for all areas.

    Attributes:
      folder: an empty folder for them.
      data_dir: with the demo.
      run: a finished small run on it.
      draw: random numbers.
      scale: share of the whole campaign.
    """

    folder: Path
    data_dir: Path
    run: Path
    draw: random.Random
    scale: float

    def count(self, whole: int) -> int:
        return max(1, round(whole * self.scale))

    def film(self) -> Path:
        return min((self.data_dir / FILMS).glob('*.mp4'))

    def main(self, workdir: Path) -> list[str]:
        """Returns the command of a small training."""
        config = f'--config={ROOT / "configs/clip_fusion.py"}:demo'
        return python('main', config, *TINY, f'--data_dir={self.data_dir}', f'--workdir={workdir}')


def python(command: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, '-m', f'avsc_jax.{command}', *map(str, arguments)]


class Ended(NamedTuple):
    """How a command has ended."""

    code: int
    text: str

    @property
    def fault(self) -> str:
        """Says why a command has ended badly; '' after success or an error in one sentence."""
        lines = [line for line in self.text.splitlines() if line.strip()]
        if 'Traceback' in self.text:
            return f'a traceback: {lines[-1][:200]}'
        if self.code not in (0, 1):
            return f'exit code {self.code}: {lines[-1][:200] if lines else "no word"}'
        if self.code and not any(line.startswith('error: ') for line in lines[-3:]):
            return f'no sentence at the end: {lines[-1][:200] if lines else "no word"}'
        return ''


def start(command: Sequence[str], *, most_bytes: int | None = None) -> subprocess.Popen:
    """Starts a command that may write files of so many bytes."""

    def limit() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # shells let jobs in the background ignore it
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))

    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])
    return subprocess.Popen(
        command,
        env=os.environ | {'PYTHONPATH': path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
        preexec_fn=limit,
    )


def ended(process: subprocess.Popen, limit_s: float = 900.0) -> Ended:
    try:
        text, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return Ended(-9, f'no end after {limit_s:.0f} s')
    return Ended(process.returncode, text)


# -- the areas


def kills(bench: Bench) -> Result:
    failures, measured, tries = [], [], math.ceil(bench.count(105) / len(SYSTEMS))
    for number, (system, (kind, flags)) in enumerate(SYSTEMS.items()):
        command = [sys.executable, str(ROOT / 'benchmarks/kills.py'), f'--kills={tries}']
        command += [f'--config={system}', f'--seed={bench.draw.randrange(1000)}', f'--media={kind}']
        # the first begins with nothing, so that building is killed, too
        command += [f'--data_dir={bench.data_dir}'] * bool(number) + ['--', *flags]
        end = ended(start(command), 14_400)
        last = (end.text.strip().splitlines() or ['no word'])[-1]
        if end.code:
            failures.append(f'{system}: {last[:300]}')
        measured.append(f'{system.partition(".")[0]}: {last}')
    return Result(tries * len(SYSTEMS), failures, '; '.join(measured))


def damaged_files(bench: Bench) -> Result:
    names = [name for name in fuzz.READERS if name != 'media']
    failures, tries = [], -(-bench.count(1000) // len(names))
    for name in names:
        with fuzz.made(name) as (whole, place):
            try:
                fuzz.tries(name, whole, place, examples=tries, seed=bench.draw.getrandbits(32))
            except BaseException as error:
                failures.append(f'{name}: {error!r:.300}')
    return Result(tries * len(names), failures)


def damaged_media(bench: Bench) -> Result:
    """Tries pictures and films by the small run, which takes them alone, and sounds by decoders."""
    folder, sounds, tries = bench.folder / 'media', bench.folder / 'sounds', bench.count(500)
    folder.mkdir()
    sounds.mkdir()
    with fuzz.made('media') as (whole, _):
        originals = [*sorted(whole.iterdir()), bench.film()]
        for number in range(tries):
            original = bench.draw.choice(originals)
            content = fuzz.damaged(original.read_bytes(), _edits(bench.draw), inside=False)
            place = sounds if original.suffix in media.SOUNDS else folder
            (place / f'{number:04}{original.suffix}').write_bytes(content)
    lines = bench.folder / 'media.jsonl'
    end, peak, decoder = watched(
        python('predict', folder, f'--model={bench.run}', f'--jsonl={lines}')
    )
    failures = [end.fault] if end.fault else []
    answered = [json.loads(line)['file'] for line in lines.read_text().splitlines()]
    if sorted(answered) != sorted(str(file) for file in folder.iterdir()):
        failures.append(f'{len(answered)} lines for {len([*folder.iterdir()])} files')
    if max(peak, decoder) > MAX_PREDICT_BYTES:
        failures.append(f'predict took {peak:,} bytes of memory, a decoder {decoder:,}')
    failures += _undecoded(sorted(sounds.iterdir()))
    return Result(tries, failures, f'predict {peak >> 20:,} MiB, a decoder {decoder >> 20:,} MiB')


def _undecoded(files: Sequence[Path]) -> list[str]:
    """Decodes sounds as predict does; returns what is neither decoded nor one sentence."""
    wants = windows.Wants(audio=True, frames=None, short_side=None, media=None)
    ends = [event for event in decode_workers.decode(files, wants) if event and not event.window]
    faults = [
        f'{end.file}: {end.error!r:.300}'
        for end in ends
        if end.error and ('\n' in end.error or str(end.file) not in end.error)
    ]
    return faults + [f'{file} has no end' for file in {*files} - {end.file for end in ends}]


def _edits(draw: random.Random) -> list[fuzz.Edit]:
    return [
        (draw.choice([*fuzz.EDITS]), draw.getrandbits(32), draw.randbytes(draw.randint(1, 16)))
        for _ in range(draw.randint(1, 4))
    ]


def watched(command: Sequence[str]) -> tuple[Ended, int, int]:
    """Runs a command; returns its end, and peak bytes of it and of the largest of its processes."""
    process, peaks, over = start(command), [0, 0], threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            children = ''
            for task in Path(f'/proc/{process.pid}/task').glob('*/children'):
                with contextlib.suppress(OSError):  # the thread has ended
                    children += task.read_text()
            peaks[0] = max(peaks[0], _peak_bytes(process.pid))
            peaks[1] = max(peaks[1], *(_peak_bytes(int(child)) for child in children.split()), 0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return ended(process, 7200), *peaks
    finally:
        over.set()
        watcher.join()


def _peak_bytes(process: int) -> int:
    with contextlib.suppress(OSError):
        if found := re.search(r'VmHWM:\s+(\d+) kB', Path(f'/proc/{process}/status').read_text()):
            return int(found[1]) << 10
    return 0


def full_disk(bench: Bench) -> Result:
    table = bench.run / 'predictions/test.npz'
    commands: list[Callable[[Path], list[str]]] = [
        lambda place: python(
            'predict',
            bench.film(),
            f'--model={bench.run}',
            f'--jsonl={place}.jsonl',
            f'--csv={place}.csv',
        ),
        lambda place: python('score', table, f'--out={place}'),
        lambda place: bench.main(place),
    ]
    failures, tries = [], bench.count(30)
    for number in range(tries):
        place, most_bytes = bench.folder / f'disk{number}', round(2 ** bench.draw.uniform(0, 17))
        command = commands[number % len(commands)](place)
        name = f'{command[2]} with files of {most_bytes} bytes'
        end = ended(start(command, most_bytes=most_bytes))
        last = end.text.strip().rpartition('\n')[2]
        if end.fault or (end.code and not re.search(r'/.* cannot be written: .*\d bytes', last)):
            failures.append(f'{name}: {end.fault or last}')
        end = ended(start(command))
        if end.code or end.fault:
            failures.append(f'{name}, again with room: {end.fault or end.text.splitlines()[-1]}')
    return Result(tries, failures)


def pairs(bench: Bench) -> Result:
    table = bench.run / 'predictions/test.npz'
    commands: dict[str, Callable[[Path], list[str]]] = {
        'predict': lambda place: python(
            'predict', bench.film().parent, f'--model={bench.run}', f'--jsonl={place}.jsonl'
        ),
        'main': lambda place: bench.main(place),
        'score': lambda place: python('score', table, f'--out={place}'),
        'build': lambda place: [
            sys.executable, '-m', 'tfds_tau.build', '--config=demo', f'--data_dir={place}'
        ],
    }  # fmt: skip
    failures, tries = [], bench.count(20)
    for number in range(tries):
        name = [*commands][number % len(commands)]
        command = commands[name](bench.folder / f'pair{number}')
        one = start(command)
        time.sleep(bench.draw.uniform(0, 4))
        ends = [ended(each) for each in (start(command), one)]
        failures += [f'two of {name}: {end.fault}' for end in ends if end.fault]
        if all(end.code for end in ends):
            failures.append(f'two of {name}: neither ended well: {ends[0].text[-200:]}')
    return Result(tries, failures)


def page(bench: Bench) -> Result:
    port, film = _free_port(), bench.film().read_bytes()
    serving = start(python('serve', f'--model={bench.run}', f'--port={port}'))
    assert serving.stdout
    for line in serving.stdout:
        if line.startswith('http://'):
            break
    else:
        return Result(1, [f'the page did not start: {ended(serving).text[-300:]}'])
    failures, tries = [], bench.count(200)
    with contextlib.ExitStack() as stack:
        for number in range(tries):
            stack.enter_context(contextlib.closing(_hostile(port, number, bench.draw)))
            if number % 10 == 9 or number == tries - 1:
                request = urllib.request.Request(
                    f'http://127.0.0.1:{port}/api/tag?name=a.mp4', film
                )
                try:
                    with urllib.request.urlopen(request, timeout=60) as answer:
                        json.load(answer)
                except (OSError, ValueError) as error:
                    failures.append(f'after {number + 1} hostile requests: {error!r}')
        serving.send_signal(signal.SIGINT)
        began = time.monotonic()
        end = ended(serving, 30)
        end_s = time.monotonic() - began
    if 'Traceback' in end.text or end.code != 130 or end_s > MAX_END_S:
        failures.append(f'the page ended with {end.code} after {end_s:.1f} s: {end.text[-300:]}')
    return Result(tries, failures, f'SIGINT ended the page after {end_s:.1f} s')


def _hostile(port: int, number: int, draw: random.Random) -> socket.socket:
    """Opens a connection that sends something bad, or nothing more, and stays open."""
    head = b'POST /api/tag?name=a.mp4 HTTP/1.1\r\nHost: localhost\r\n'
    texts = (
        b'',
        b'GET / HT',
        head,
        head + b'Content-Length: 1000000\r\n\r\nab',
        head + b'Content-Length: -5\r\n\r\n',
        head + b'Transfer-Encoding: chunked\r\n\r\nzz\r\n',
        head + b'X: ' + b'a' * 100_000,
        b'GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n',
        b'GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n',
        draw.randbytes(200),
    )
    connection = socket.create_connection(('127.0.0.1', port), 10)
    with contextlib.suppress(OSError):  # it is closed already
        connection.sendall(texts[number % len(texts)])
    return connection


def _free_port() -> int:
    with socket.create_server(('127.0.0.1', 0)) as server:
        return server.getsockname()[1]


def large(bench: Bench) -> Result:
    folder = bench.folder / 'large'
    folder.mkdir()
    failures, measured = [], []
    for what, make, whole in (
        ('film of hours', _long_film, HOURS * bench.scale),
        ('pictures', _pictures, bench.count(PICTURES)),
    ):
        peaks = []
        for share in (0.1, 1.0):
            command = ['predict', make(folder, share * whole), f'--model={bench.run}']
            end, *peak = watched(python(*command, f'--jsonl={folder}/{what}{share}.jsonl'))
            peaks.append(peak)
            if end.code or end.fault:
                failures.append(f'{what}: {end.fault or end.text[-200:]}')
        (first, first_decoder), (last, last_decoder) = peaks
        if max(last - first, last_decoder - first_decoder) > MAX_GROWTH_BYTES:
            failures.append(f'{what}: memory grows, {peaks}')
        sizes = ' and '.join(f'{each >> 20:,} ({decoder >> 20:,})' for each, decoder in peaks)
        measured.append(f'{what}: {sizes} MiB of a tenth and of {whole:,g}')
    return Result(2, failures, '; '.join(measured))


def _long_film(folder: Path, hours: float) -> Path:
    """Writes a film of small pictures, one each two seconds."""
    path, noise = folder / f'{hours:g}.mkv', np.random.default_rng(0)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('mpeg4', Fraction(1, 2), width=64, height=48)
        stream.pix_fmt = 'yuv420p'
        for _ in range(round(hours * 1800)):
            picture = noise.integers(0, 256, (48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    return path


def _pictures(folder: Path, count: float) -> Path:
    """Writes a folder of small pictures that differ."""
    place, noise = folder / f'{count:g}', np.random.default_rng(0)
    place.mkdir()
    for number in range(round(count)):
        picture = Image.fromarray(noise.integers(0, 256, (8, 8, 3), np.uint8))
        picture.save(place / f'{number:05}.png')
    return place


AREAS: dict[str, Callable[[Bench], Result]] = {
    'kills': kills,
    'files': damaged_files,
    'media': damaged_media,
    'disk': full_disk,
    'pairs': pairs,
    'page': page,
    'large': large,
}


@contextlib.contextmanager
def prepared(args: argparse.Namespace) -> Iterator[Bench]:
    """Builds the demo if it is not there, and trains the small run."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run = folder / 'run'
        draw = random.Random(args.seed)
        bench = Bench(folder, args.data_dir or folder / 'data', run, draw, args.scale)
        end = ended(start(bench.main(run)))
        if end.code:
            raise RuntimeError(f'the small run failed: {end.text[-2000:]}')
        yield bench


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--areas', default=','.join(AREAS), help=f'of {", ".join(AREAS)}')
    parser.add_argument('--scale', type=float, default=1.0, help='share of the whole campaign')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--data_dir', type=Path, help='with the demo, or where it is built')
    parser.add_argument('--out', type=Path, help='also write the table here, as Markdown')
    args = parser.parse_args()
    rows, failed = [], False
    with prepared(args) as bench:
        for name in args.areas.split(','):
            began = time.monotonic()
            result = AREAS[name](bench)
            lost = len(result.failures)
            good, lasted = max(0, result.tries - lost), time.monotonic() - began
            row = f'| {name} | {result.tries:,} | {good:,} | {lasted:.0f} | {result.measured} |'
            rows.append(row)
            print(row, flush=True)
            for sentence in result.failures:
                print(f'  {sentence}', flush=True)
            failed |= bool(lost)
    lines = ['| area | tries | survived | seconds | measured |', '|---|---|---|---|---|', *rows]
    print('\n'.join(lines))
    if args.out:
        args.out.write_text('\n'.join(lines) + '\n')
    return int(failed)


if __name__ == '__main__':
    sys.exit(main())
