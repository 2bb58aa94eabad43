"""A small run of a system of sound and picture, and clips for it."""

from fractions import Fraction

import av
import numpy as np
import pytest

ENCODERS = [
    {
        'name': 'openl3_audio',
        'options': dict(embedding_size=8, widths=[2, 2, 2, 8], hop_s=1.0, centre=False),
        'weights': 'random:0',
    },
    {
        'name': 'openl3_image',
        'options': dict(embedding_size=8, widths=[2, 2, 2, 8], input_shape=[64, 64, 3]),
        'weights': 'random:0',
    },
]
INPUTS = {'audio_embedding': 'openl3_audio', 'image_embedding': 'openl3_image'}
PREPROCESSING = dict(
    items='clip', frames='second_centres', short_side=96, inputs=INPUTS, pool='mean',
    encoders=ENCODERS,
)  # fmt: skip
MODEL = dict(name='feng_intermediate', embeddings={name: 8 for name in INPUTS}, hidden=16)
MEANS = {name: np.linspace(-1, k, 8, dtype=np.float32) for k, name in enumerate(INPUTS, 1)}


@pytest.fixture(scope='session')
def both(tmp_path_factory, write_run):
    """The run's folder."""
    folder = tmp_path_factory.mktemp('runs') / 'both'
    return write_run(folder, MODEL, PREPROCESSING, classes=['park', 'tram'], means=MEANS)


@pytest.fixture(scope='session')
def film():
    """Renders a clip of some seconds, with sound, pictures or both."""

    def render(
        path, seconds=2.0, *, sound=True, pictures=True, key=0, pix_fmt='yuv420p', times=None,
        sound_rate=16000,
    ):  # fmt: skip
        draw = np.random.default_rng(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(path, 'w') as container:
            if pictures:
                shown = container.add_stream('libx264', rate=5)
                shown.width, shown.height, shown.pix_fmt = 96, 72, pix_fmt
                shown.codec_context.time_base = Fraction(1, 50)
            if sound:
                heard = container.add_stream('aac', rate=sound_rate, layout='mono')
            for pts in (times or range(0, round(50 * seconds), 10)) if pictures else ():
                image = draw.integers(0, 256, (72, 96, 3), np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format='rgb24')
                frame.pts, frame.time_base = pts, Fraction(1, 50)
                container.mux(shown.encode(frame))
            if sound:
                noise = draw.normal(0, 0.1, (1, round(sound_rate * seconds))).astype(np.float32)
                frame = av.AudioFrame.from_ndarray(noise, 'fltp', 'mono')
                frame.sample_rate = sound_rate
                container.mux(heard.encode(frame))
            for stream in container.streams:
                container.mux(stream.encode())
        return path

    return render
