"""The README's picture: a made-up clip, and what a run on sound and picture makes of it.

python -m avsc_jax.main --config=configs/feng_fusion.py:intermediate,demo
python benchmarks/tag.py runs/feng_fusion-intermediate-demo .github/tag.png
"""

import sys
import tempfile
from pathlib import Path

import librosa
import numpy as np
from matplotlib.figure import Figure
from scipy.special import softmax

from avsc_jax.data import media
from avsc_jax.report import plots
from avsc_jax.training import load_run
from tfds_tau import demo

SCENE = 'public_square'


def main(run: str, picture: str) -> None:
    """Renders a clip that no run was trained on, tags it, draws."""
    clip = next(c for c in demo.clips() if c.test and c.clip_id.startswith(SCENE))
    model, variables, preprocess, classes = load_run(run)
    with tempfile.TemporaryDirectory() as folder:
        demo.render(Path(folder), chosen=[clip])
        video = Path(folder, 'video', f'{clip.clip_id}.mp4')
        frames = media.read_frames(video, 'clip12').images[1::3]
        sound, rate_hz = media.read_audio(Path(folder, 'audio', f'{clip.clip_id}.wav'))
        heard = {'audio': sound, 'sample_rate': rate_hz, 'channels': sound.shape[1]}
        logits, _ = model.apply(variables, preprocess(preprocess.pictures(video) | heard))
    probs = softmax(np.asarray(logits, np.float64), axis=1).mean(axis=0)
    figure = draw(frames, sound.mean(axis=1), rate_hz, classes, probs)
    figure.savefig(picture, dpi=110, facecolor='white')


def draw(frames, sound, rate_hz, classes, probs) -> Figure:
    """Frames above a spectrogram; beside them the scenes, the likeliest on top."""
    figure = Figure(figsize=(10, 2.6), layout='constrained')
    left, right = figure.subfigures(1, 2, width_ratios=(1.9, 1))
    panels = left.subplot_mosaic([range(len(frames)), ['sound'] * len(frames)])
    for number, frame in enumerate(frames):
        panels[number].imshow(frame)
    power = librosa.feature.melspectrogram(y=sound, sr=rate_hz, n_mels=48, hop_length=2048)
    panels['sound'].imshow(librosa.power_to_db(power), origin='lower', aspect='auto', cmap='magma')
    for panel in panels.values():
        panel.axis('off')
    best = np.argsort(probs)[-4:]
    axes = right.subplots()
    bars = axes.barh([classes[c].replace('_', ' ') for c in best], probs[best], color=plots.BLUE)
    axes.bar_label(bars, [f'{100 * probs[c]:.0f} %' for c in best], padding=3)
    axes.set(xlim=(0, 1.15), xticks=())
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


if __name__ == '__main__':
    main(*sys.argv[1:])
