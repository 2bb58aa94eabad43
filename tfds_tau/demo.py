"""Renders made-up scenes as 48 kHz stereo 24-bit wav and H.264 mp4 files in TAU's folder layout.

The clips do not resemble recordings. Two facts make the set worth classifying: scenes come in pairs
that look alike and in other pairs that sound alike, so that neither sense is enough; and three
clips in ten are filmed at night, which hides the picture but not the sound. Within a pair only a
*mark* (a coloured sign, a chime) distinguishes the two, and it misleads in one clip of five. Every
clip depends only on its own number: every run renders the same files, in whatever order.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import soundfile
from PIL import Image
from tqdm import tqdm

from avsc_jax.runtime.files import whole
from avsc_jax.scenes import SCENES

SAMPLE_RATE_HZ = 48000
FRAME_RATE = 10
HEIGHT, WIDTH = 144, 256
CITIES = ('barcelona', 'helsinki', 'lisbon', 'london', 'lyon')
TRAIN_LOCATIONS, TEST_LOCATIONS, CLIPS_PER_LOCATION = 7, 3, 2  # of each scene: 140 + 60 clips
NIGHTS = (0, 4, 7, 13, 15, 18)  # of a scene's 20 clips: 4 of 14 in train, 2 of 6 in test
MARK_TRUTH = 0.8  # share of clips whose mark is right


class Scene(NamedTuple):
    """Look and sound of a scene; the second scene of a pair usually has the mark."""

    look: str
    look_mark: bool
    sound: str
    sound_mark: bool


RECIPES = {
    'airport': Scene('hall', False, 'voices', False),
    'shopping_mall': Scene('hall', True, 'crowd', False),
    'bus': Scene('cabin', False, 'engine', False),
    'tram': Scene('cabin', True, 'rail', False),
    'metro': Scene('tunnel', False, 'rail', True),
    'metro_station': Scene('tunnel', True, 'voices', True),
    'street_pedestrian': Scene('paving', False, 'open', False),
    'public_square': Scene('paving', True, 'crowd', True),
    'park': Scene('green', False, 'open', True),
    'street_traffic': Scene('road', False, 'engine', True),
}

# Rectangles, painted in order: left, top, right, bottom as shares of the picture, and RGB.
LOOKS = {
    'hall': [
        ((0, 0, 1, 1), (200, 205, 210)),
        ((0, 0.7, 1, 1), (165, 160, 150)),
        ((0, 0.08, 1, 0.14), (245, 245, 240)),
        ((0.1, 0.25, 0.18, 0.75), (140, 145, 155)),
        ((0.75, 0.25, 0.83, 0.75), (140, 145, 155)),
    ],
    'cabin': [
        ((0, 0, 1, 1), (95, 95, 100)),
        ((0.05, 0.15, 0.45, 0.5), (175, 195, 210)),
        ((0.55, 0.15, 0.95, 0.5), (175, 195, 210)),
        ((0.1, 0.6, 0.4, 1), (60, 70, 120)),
        ((0.6, 0.6, 0.9, 1), (60, 70, 120)),
    ],
    'tunnel': [
        ((0, 0, 1, 1), (60, 55, 50)),
        ((0, 0.05, 1, 0.12), (215, 205, 150)),
        ((0, 0.45, 1, 0.6), (120, 110, 90)),
        ((0.3, 0.2, 0.7, 0.9), (95, 90, 80)),
    ],
    'paving': [
        ((0, 0, 1, 1), (150, 180, 215)),
        ((0, 0.2, 0.35, 0.6), (170, 130, 100)),
        ((0.6, 0.15, 1, 0.6), (185, 150, 115)),
        ((0, 0.55, 1, 1), (180, 165, 140)),
    ],
    'green': [
        ((0, 0, 1, 0.5), (165, 195, 215)),
        ((0, 0.25, 1, 0.6), (70, 105, 55)),
        ((0, 0.5, 1, 1), (105, 140, 70)),
        ((0.2, 0.1, 0.25, 0.7), (75, 60, 45)),
    ],
    'road': [
        ((0, 0, 1, 1), (175, 190, 210)),
        ((0, 0.15, 0.5, 0.5), (130, 120, 115)),
        ((0, 0.5, 1, 1), (85, 85, 90)),
        ((0, 0.72, 1, 0.76), (225, 225, 215)),
    ],
}
LOOK_MARK = ((0.3, 0.28, 0.62, 0.44), (205, 60, 45))

# Loudness in dB of the octave bands around 62.5, 125 ... 16,000 Hz, and beats a second.
SOUNDS = {
    'voices': ((-12, -8, -4, 0, -3, -9, -15, -22, -30), 3.0),
    'crowd': ((-18, -14, -8, -3, 0, -2, -8, -14, -22), 5.0),
    'engine': ((0, -2, -7, -12, -16, -20, -25, -31, -38), 0.4),
    'rail': ((-2, -4, -5, -9, -10, -9, -13, -18, -26), 1.2),
    'open': ((-8, -12, -14, -16, -15, -12, -9, -12, -18), 0.7),
}
SOUND_MARK_HZ = {'voices': 660, 'crowd': 1320, 'engine': 420, 'rail': 2800, 'open': 4200}


class DemoClip(NamedTuple):
    """A made-up clip; `number` seeds what is its own, `place` what its location's clips share."""

    clip_id: str
    number: int
    place: int
    test: bool
    night: bool


def clips() -> list[DemoClip]:
    """Returns all 200 clips, in the order of TAU's lists (by scene, then location)."""
    made = []
    for scene_number, scene in enumerate(SCENES):
        for i in range((TRAIN_LOCATIONS + TEST_LOCATIONS) * CLIPS_PER_LOCATION):
            local = i // CLIPS_PER_LOCATION
            place = scene_number * (TRAIN_LOCATIONS + TEST_LOCATIONS) + local
            city = CITIES[(scene_number + local) % len(CITIES)]
            number = len(made)
            clip_id = f'{scene}-{city}-{place + 1}-{number + 1}'
            made.append(DemoClip(clip_id, number, place, local >= TRAIN_LOCATIONS, i in NIGHTS))
    return made


def render(
    folder: Path,
    *,
    workers: int | None = None,
    chosen: list[DemoClip] | None = None,
    duration_s: float = 10.0,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
) -> Path:
    """Writes media and lists under `folder` in TAU's layout; existing media are kept.

    Args:
      folder: made if missing.
      workers: number of clips rendered in parallel; None for one per core.
      chosen: clips to render; None for all of `clips()`.
      duration_s: length of each clip.
      sample_rate_hz: sample rate of the sound.

    Returns:
      The folder.
    """
    chosen = clips() if chosen is None else chosen
    for name in ('audio', 'video', 'evaluation_setup'):
        (folder / name).mkdir(parents=True, exist_ok=True)

    def render_clip(clip: DemoClip) -> None:
        sound, picture = folder / f'audio/{clip.clip_id}.wav', folder / f'video/{clip.clip_id}.mp4'
        if not sound.exists():
            with whole(sound) as beside:
                _write_wav(beside, clip, duration_s, sample_rate_hz)
        if not picture.exists():
            with whole(picture) as beside:
                _write_mp4(beside, clip, duration_s)

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        done = pool.map(render_clip, chosen)
        for _ in tqdm(done, total=len(chosen), desc='rendering the demo', unit='clip', leave=False):
            pass
    train, test = ([c.clip_id for c in chosen if c.test is test] for test in (False, True))
    _write_list(folder / 'meta.csv', train + test, 4)
    _write_list(folder / 'evaluation_setup/fold1_train.csv', train, 3)
    _write_list(folder / 'evaluation_setup/fold1_evaluate.csv', test, 3)
    _write_list(folder / 'evaluation_setup/fold1_test.csv', test, 2)
    return folder


def _write_list(path: Path, clip_ids: list[str], columns: int) -> None:
    rows = [('filename_audio', 'filename_video', 'scene_label', 'identifier')]
    for clip_id in clip_ids:
        scene, city, location, _ = clip_id.split('-')
        rows.append((f'audio/{clip_id}.wav', f'video/{clip_id}.mp4', scene, f'{city}-{location}'))
    path.write_text(''.join('\t'.join(row[:columns]) + '\n' for row in rows))


def _mark_shows(clip: DemoClip, marked: bool, sense: int) -> bool:
    """Returns whether the clip has the mark: as its scene in four clips of five, else not."""
    return marked == (np.random.default_rng([sense, clip.number]).random() < MARK_TRUTH)


def _write_wav(path: Path, clip: DemoClip, duration_s: float, rate: int) -> None:
    """Writes two channels of noise with the scene's spectrum, location's colour, beat and mark."""
    scene = RECIPES[clip.clip_id.split('-')[0]]
    place, own = np.random.default_rng([1, clip.place]), np.random.default_rng([2, clip.number])
    level_db, beats = SOUNDS[scene.sound]
    level_db = np.asarray(level_db) + place.normal(0, 3, 9) + own.normal(0, 1.5, 9)
    num = round(duration_s * rate)
    time_s = np.arange(num, dtype=np.float32) / rate
    octave = np.log2(np.maximum(np.fft.rfftfreq(num, 1 / rate), 20) / 62.5)
    gain = 10 ** (np.interp(octave, np.arange(9), level_db) / 20 - octave * 0.15)
    noise = own.standard_normal((2, num), dtype=np.float32)
    noise[1] = 0.7 * noise[0] + 0.7 * noise[1]
    sound = np.fft.irfft(np.fft.rfft(noise) * gain.astype(np.float32), num)
    beat = 1 + 0.5 * np.sin(2 * np.pi * beats * time_s + own.uniform(0, 6))
    sound *= beat / np.sqrt(np.mean(sound**2))
    if _mark_shows(clip, scene.sound_mark, 3):
        pitch = SOUND_MARK_HZ[scene.sound] * 2 ** place.normal(0, 0.05)
        for start_s in own.uniform(0, duration_s, max(1, round(duration_s * 0.6))):
            since = np.maximum(time_s - np.float32(start_s), 0)
            sound += 1.5 * np.sin(2 * np.pi * pitch * since) * np.exp(-since / 0.3) * (since > 0)
    sound *= 10 ** ((-32 + place.normal(0, 3)) / 20)
    integers = np.clip(sound.T * 2.0**23, -(2**23), 2**23 - 1).astype(np.int32) << 8
    soundfile.write(path, integers, rate, format='WAV', subtype='PCM_24')


def _write_mp4(path: Path, clip: DemoClip, duration_s: float) -> None:
    """Writes the scene's canvas under a swaying camera, with passers-by and sensor noise."""
    own = np.random.default_rng([5, clip.number])
    canvas = _canvas(clip, own)
    sway = np.cumsum(own.normal(0, 1.2, (round(duration_s * FRAME_RATE), 2)), axis=0)
    people = [(*own.uniform(0, 1, 2), own.normal(0, 6), own.integers(0, 256, 3)) for _ in range(5)]
    grain = own.normal(0, 10 if clip.night else 3, (HEIGHT, WIDTH, 1)).astype(np.float32)
    light, dark = (0.14, np.float32([14, 14, 20])) if clip.night else (1.0, np.float32([0, 0, 0]))
    options = {'preset': 'ultrafast', 'crf': '23', 'g': '15', 'threads': '1'}
    with av.open(path, 'w', format='mp4') as container:
        stream = container.add_stream('libx264', rate=FRAME_RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, 'yuv420p'
        for i, (dx, dy) in enumerate(sway):
            y, x = (int(np.clip(16 + v, 0, 32)) for v in (dy, dx))
            picture = canvas[y : y + HEIGHT, x : x + WIDTH].copy()
            for across, down, speed, colour in people:
                left = int(across * WIDTH + speed * i) % (WIDTH + 14) - 14
                top = int(HEIGHT * (0.45 + 0.2 * down))
                picture[top : top + 40, max(left, 0) : left + 14] = colour
            picture = picture * light + dark + np.roll(grain, tuple(own.integers(0, 99, 2)), (0, 1))
            frame = av.VideoFrame.from_ndarray(np.clip(picture, 0, 255).astype(np.uint8), 'rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _canvas(clip: DemoClip, own: np.random.Generator) -> np.ndarray:
    """Paints the picture of a location, larger than a frame: [H + 32, W + 32, 3] float32."""
    scene, place = RECIPES[clip.clip_id.split('-')[0]], np.random.default_rng([4, clip.place])
    height, width = HEIGHT + 32, WIDTH + 32
    canvas = np.zeros((height, width, 3), np.float32)
    cast = place.normal(0, 14, 3) + own.normal(0, 5, 3)  # colour of the light
    shapes = [(box, colour, 0.03) for box, colour in LOOKS[scene.look]]
    if _mark_shows(clip, scene.look_mark, 6):
        shapes.append((*LOOK_MARK, 0.06))
    for (left, top, right, bottom), colour, wobble in shapes:
        shift = place.normal(0, wobble, 2)
        x0, x1 = (round(width * (v + shift[0] * (0 < v < 1))) for v in (left, right))
        y0, y1 = (round(height * (v + shift[1] * (0 < v < 1))) for v in (top, bottom))
        canvas[max(y0, 0) : y1, max(x0, 0) : x1] = np.float32(colour) + place.normal(0, 10, 3)
    coarse = Image.fromarray(place.normal(0, 16, (22, 36)).astype(np.float32))
    texture = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return (canvas + cast + texture[:, :, None]).astype(np.float32)
