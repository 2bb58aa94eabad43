"""Makes the pictures of docs/page.md: serves the page, and photographs it in headless Chromium.

    python -m avsc_jax.main --config=configs/clip_fusion.py:demo
    pip install -e '.[web,browser]' && python docs/screenshots.py --model=runs/clip_fusion

The clip is a walk through made-up scenes, joined from the demo's media. It needs Chromium (Debian:
`apt-get install chromium`).
"""

import argparse
import contextlib
import io
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import soundfile
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

IMAGES = Path(__file__).parent / 'images'
MEDIA = Path('~/tensorflow_datasets/downloads/tfds_tau_demo-1.0.0').expanduser()
# Scenes of the walk, and clips of each.
WALK = dict(park=4, street_traffic=5, tram=6, bus=3, shopping_mall=5, street_pedestrian=4)
WALK |= dict(metro_station=2, metro=4, airport=3)
RATE_HZ, PICTURES_S, SIZE = 48000, 10, (256, 144)  # of the demo's media
MOST_BYTES = 150_000
PLAIN = 64  # colours that are kept as they are
START_S = 300  # for the system to be loaded and compiled
CHROMIUM = ('chromium', 'chromium-browser', 'google-chrome')
DESK, PHONE = {'width': 1000, 'height': 1140}, {'width': 375, 'height': 760}


def main() -> None:
    """Makes all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--model', type=Path, required=True, help='run folder of the system that is shown')
    add('--media', type=Path, default=MEDIA, help='folder of the media of the demo')
    add('--clip', type=Path, help='a clip to show in place of the walk')
    add('--out', type=Path, default=IMAGES, help='folder of the pictures')
    args = parser.parse_args()
    args.out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, served(args.model) as url, chromium() as browser:
        clip = args.clip or walk(args.media, Path(folder) / 'walk.mp4')
        for scheme in ('light', 'dark'):
            with opened(browser, url, viewport=DESK, color_scheme=scheme) as tab:
                send(tab, clip)
                save(tab, args.out / f'page_{scheme}.png')
                if scheme == 'light':
                    save(tab.locator('#when'), args.out / 'page_timeline.png')
                    why = tab.frame_locator('#why').locator('section', has_text=re.compile('why '))
                    save(why.first, args.out / 'page_why.png')
        phone = dict(viewport=PHONE, device_scale_factor=1.5, is_mobile=True)
        with opened(browser, url, **phone) as tab:
            send(tab, clip)
            tab.locator('#name').evaluate('name => name.scrollIntoView()')
            save(tab, args.out / 'page_phone.png')


def walk(media: Path, path: Path) -> Path:
    """Joins clips of the demo, each as WALK says, to one film."""
    sources = [
        source
        for scene, count in WALK.items()
        for source in sorted((media / 'video').glob(f'{scene}-*.mp4'))[:count]
    ]
    if not sources:
        raise SystemExit(f'{media} has no clips of the demo; train a run on it, or name --media')
    sounds, number = [], itertools.count()
    with av.open(path, 'w') as film:
        shown = film.add_stream('libx264', rate=PICTURES_S)
        (shown.width, shown.height), shown.pix_fmt = SIZE, 'yuv420p'
        heard = film.add_stream('aac', rate=RATE_HZ, layout='stereo')
        for source in sources:
            sounds.append(soundfile.read(media / f'audio/{source.stem}.wav', dtype='float32')[0])
            with av.open(source) as scene_film:
                for picture in scene_film.decode(video=0):
                    picture.pts, picture.time_base = next(number), Fraction(1, PICTURES_S)
                    film.mux(shown.encode(picture))
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(np.concatenate(sounds).T), 'fltp', 'stereo'
        )
        frame.sample_rate, frame.time_base = RATE_HZ, Fraction(1, RATE_HZ)
        film.mux(heard.encode(frame))
        for stream in (shown, heard):
            film.mux(stream.encode())
    return path


@contextlib.contextmanager
def served(model: Path) -> Iterator[str]:
    """Serves the page of a run; yields its address when the system is there."""
    command = [sys.executable, '-m', 'avsc_jax.serve', f'--model={model}', '--port=0']
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            found = re.match(r'http://\S+', server.stdout.readline())
            if not found:
                raise SystemExit(f'the page of {model} did not start')
            wait(found[0], server)
            yield found[0]
        finally:
            server.terminate()


def wait(url: str, server: subprocess.Popen) -> None:
    """Waits until the system is loaded and compiled."""
    for _ in range(START_S):
        with contextlib.suppress(urllib.error.URLError):
            urllib.request.urlopen(f'{url}/api/ready').close()
            return
        if server.poll() is not None:
            break
        time.sleep(1)
    raise SystemExit('the page has no system')


@contextlib.contextmanager
def chromium() -> Iterator['Browser']:
    """Starts headless Chromium."""
    from playwright.sync_api import sync_playwright

    binary = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if not binary:
        raise SystemExit(f'there is none of {", ".join(CHROMIUM)}; install one')
    flags = ['--no-sandbox', '--disable-gpu']
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=binary, args=flags) as browser,
    ):
        yield browser


@contextlib.contextmanager
def opened(browser: 'Browser', url: str, **options: object) -> Iterator['Page']:
    """Opens the page in a window of its own."""
    with contextlib.closing(browser.new_context(**options)) as context:
        tab = context.new_page()
        tab.set_default_timeout(120_000)
        tab.goto(url)
        tab.get_by_text(re.compile(' knows ')).wait_for()
        yield tab


def send(tab: 'Page', clip: Path) -> None:
    """Has a clip tagged, and waits until all is drawn."""
    tab.locator('#file').set_input_files(clip)
    tab.get_by_text(re.compile('^Done in')).wait_for()
    player = tab.locator('video, audio')
    if player.count():
        player.evaluate('v => { v.currentTime = 0.4 * v.duration; }')
    tab.frame_locator('#why').locator('h1').wait_for()
    time.sleep(1)  # the player has its picture


def save(shown: 'Page | Locator', path: Path) -> None:
    """Writes what is shown, in 256 colours and at most MOST_BYTES."""
    picture = Image.open(io.BytesIO(shown.screenshot())).convert('RGB')
    of_all = sorted(picture.getcolors(picture.width * picture.height), reverse=True)
    plain = [color for _, color in of_all[:PLAIN]]  # surfaces and texts, as they are
    others = picture.quantize(256 - PLAIN).getpalette()
    palette = Image.new('P', (1, 1))
    palette.putpalette([*itertools.chain(*plain), *others])
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f'{path} has {path.stat().st_size:,} bytes, not {MOST_BYTES:,} at most')
    print(f'{path} {path.stat().st_size:,} bytes')


if __name__ == '__main__':
    main()
