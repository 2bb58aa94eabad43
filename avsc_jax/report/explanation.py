"""Why a system says what it says of a clip: one self-contained HTML page, and what it shows."""

import base64
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from avsc_jax.report import html
from avsc_jax.report.console import number
from avsc_jax.report.plots import BLUE, GREEN, INK, ORANGE, WIDE, _cut, _panels, _style, _svg
from avsc_jax.runtime.files import printable

TOP = 5  # scenes that are named
PICTURE_SIDE = 480
COLORS = (BLUE, ORANGE, GREEN, '#cc79a7', '#56b4e9')  # Okabe and Ito's
KINDS = {'sound': 'the sound', 'picture': 'the pictures'}


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A picture of the window, bytes `[H, W, 3]`, and how much each place says for the scene.

    Attributes:
      heat: float32 `[H, W]`, 0 to 1, which is the most in all pictures of the window; None: the
        network has no map.
    """

    time_s: float
    image: np.ndarray
    heat: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class Sound:
    """The window's spectrum `[bands, columns]` in dB, lowest band first.

    Attributes:
      bands_hz: the bands' centres.
      heat: as `Picture.heat`, in the spectrum's shape.
    """

    level: np.ndarray
    bands_hz: np.ndarray
    heat: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """Of one window.

    Attributes:
      start_s, end_s: of the window in its file.
      probs: `[C]`, of the system with all that the window has.
      without: 'sound' or 'picture' -> the same without it, where there are both.
      parts: of an ensemble, a member's name -> what it says by itself.
      pictures, sound: what the system sees and hears, with heat maps for the likeliest scene.
      attention: places in time in s, and how much each counts, 1 on average; None: it has none.
      maps: 'picture' or 'sound' -> the networks whose maps are shown.
    """

    start_s: float
    end_s: float
    probs: np.ndarray
    without: Mapping[str, np.ndarray]
    parts: Mapping[str, np.ndarray]
    pictures: Sequence[Picture]
    sound: Sound | None
    attention: tuple[np.ndarray, np.ndarray] | None
    maps: Mapping[str, Sequence[str]]

    @property
    def top(self) -> int:
        """The likeliest scene, of which all maps are."""
        return int(self.probs.argmax())


def document(
    file: str,
    classes: Sequence[str],
    timeline: Sequence[tuple[float, float, np.ndarray]],
    explanations: Sequence[Explanation],
    notes: Sequence[str],
    warnings: Sequence[str],
) -> str:
    """The whole page. Names of files and classes are untrusted, and escaped.

    Args:
      timeline: start and end of each window in s, and its probabilities `[C]`.
      explanations: of some of the windows.
      notes: on how the file was read.
      warnings: of the system's training.
    """
    classes = [printable(name) for name in classes]
    several = len(timeline) > 1
    return html.render(
        'explanation.html',
        title=file,
        warnings=warnings,
        span=f'{clock(timeline[0][0])} to {clock(timeline[-1][1])}',
        windows=len(timeline),
        scenes=_bars(classes, np.mean([probs for *_, probs in timeline], axis=0)),
        notes=notes,
        timeline=_timeline(classes, timeline) if several else '',
        explanations=[_window(classes, told) for told in explanations],
    )


def clock(time_s: float) -> str:
    """75.5 -> '1:15.5'."""
    minutes, seconds = divmod(round(time_s, 1), 60)
    return f'{minutes:.0f}:{seconds:04.1f}'.removesuffix('.0')


def _window(classes: Sequence[str], told: Explanation) -> dict[str, Any]:
    """What speaks for one window's likeliest scene, as explanation.html shows it."""
    scene, heard = classes[told.top], told.sound
    spectra = []
    if heard:
        spectra.append(('Spectrum', _spectrum(heard.level, 'magma')))
    if heard and heard.heat is not None:
        spectra.append((f'What speaks for {scene}', _spectrum(heard.heat, 'inferno', (0, 1))))
    heats = {
        'picture': [picture.heat for picture in told.pictures],
        'sound': [heard and heard.heat],
    }
    heats = {kind: [heat for heat in of if heat is not None] for kind, of in heats.items()}
    return {
        'scene': scene,
        'span': f'{clock(told.start_s)} to {clock(told.end_s)}',
        'bars': _bars(classes, told.probs),
        'without': [
            (f'without {KINDS[kind]}', _share(told, probs), _answer(classes, probs))
            for kind, probs in told.without.items()
        ],
        'members': [
            (name, number(probs[told.top]), _answer(classes, probs))
            for name, probs in told.parts.items()
        ],
        'pictures': [(clock(picture.time_s), _heated(picture)) for picture in told.pictures],
        'spectra': [(caption, _framed(image, told)) for caption, image in spectra],
        'maps': {
            kind: {'networks': told.maps[kind], 'speaks': any(heat.any() for heat in of)}
            for kind, of in heats.items()
            if of
        },
        'attention': _attention(told),
    }


def _bars(classes: Sequence[str], probs: np.ndarray) -> list[tuple[str, float]]:
    best = np.argsort(-probs, kind='stable')[:TOP]
    return [(classes[k], float(probs[k])) for k in best]


def _share(told: Explanation, probs: np.ndarray) -> str:
    """'0.100 (-0.600)': what is left for the likeliest scene, and what was lost or gained."""
    return f'{number(probs[told.top])} ({probs[told.top] - told.probs[told.top]:+.3f})'


def _answer(classes: Sequence[str], probs: np.ndarray) -> str:
    return f'{classes[probs.argmax()]} {number(probs.max())}'


def _attention(told: Explanation) -> str:
    if told.attention is None:
        return ''
    times_s, weights = told.attention
    with _style():
        figure, (axes,) = _panels((WIDE, 170), (34, 40), ((60, 1060),))
        axes.set_title('Attention over time')
        axes.step(times_s, weights, where='mid', color=BLUE)
        axes.axhline(1, color=INK, ls=(0, (4, 3)), lw=1)
        axes.set(xlabel='s', xlim=(told.start_s, told.end_s), ylim=(0, 1.1 * weights.max()))
        return _svg(figure, 'Attention over time')


def _timeline(classes: Sequence[str], timeline: Sequence[tuple[float, float, np.ndarray]]) -> str:
    """The likeliest scenes of all windows, stacked; a window ends where the next one starts."""
    starts = [start for start, *_ in timeline]
    edges = np.array([*starts, timeline[-1][1]])
    probs = np.stack([probs for *_, probs in timeline])
    best = np.argsort(-probs.max(axis=0), kind='stable')[: len(COLORS)]
    best = best[np.argsort(-probs[:, best].mean(axis=0), kind='stable')]
    with _style():
        figure, (axes,) = _panels((WIDE, 250), (64, 30), ((44, 1060),))
        below = np.zeros(len(probs))
        for k, color in zip(best, COLORS, strict=False):
            axes.stairs(below + probs[:, k], edges, baseline=below, fill=True, color=color)
            axes.plot([], [], color=color, lw=8, label=_cut(classes[k]))
            below = below + probs[:, k]
        axes.set_title('Scenes over time: the height of a colour is its probability', pad=32)
        axes.legend(loc='lower left', bbox_to_anchor=(-0.01, 1), ncols=5, columnspacing=1.2)
        axes.set(xlim=(edges[0], edges[-1]), ylim=(0, 1), yticks=(0, 0.5, 1))
        axes.xaxis.set_major_formatter(lambda x, _: clock(x))
        return _svg(figure, 'Scenes over time')


def _heated(picture: Picture) -> str:
    """The picture, dim where it does not speak for the scene and warm where it does."""
    height, width = picture.image.shape[:2]
    size = tuple(
        max(1, round(PICTURE_SIDE * side / max(width, height))) for side in (width, height)
    )
    image = np.asarray(Image.fromarray(picture.image).resize(size), np.float32)
    if picture.heat is not None:
        heat = Image.fromarray(picture.heat.astype(np.float32)).resize(size)
        heat = np.asarray(heat)[..., None]
        warm = 255 * matplotlib.colormaps['inferno'](0.5 + 0.4 * heat[..., 0])[..., :3]
        image = 0.6 * image * (1 - heat) + heat * (0.4 * image + 0.6 * warm)
    return _uri(image.astype(np.uint8), 'JPEG')


def _spectrum(values: np.ndarray, colors: str, limits: tuple | None = None) -> str:
    low, high = limits or (values.min(), values.max())
    share = (values - low) / max(high - low, 1e-9)
    return _uri((255 * matplotlib.colormaps[colors](share[::-1])[..., :3]).astype(np.uint8), 'PNG')


def _framed(image: str, told: Explanation) -> str:
    """A spectrum's image with its axes, time and pitch."""
    bands = told.sound.bands_hz
    marks = [hz for hz in (200, 1000, 3000, 8000, 20000) if bands[0] < hz < bands[-1]]
    with _style():
        figure, (axes,) = _panels((WIDE, 210), (8, 40), ((60, 1060),))
        axes.set(xlabel='s', xlim=(told.start_s, told.end_s), ylim=(-0.5, len(bands) - 0.5))
        places = np.interp(marks, bands, np.arange(len(bands)))
        axes.set_yticks(places, [f'{hz / 1000:g} kHz' for hz in marks])
        box = 'x="60" y="8" width="1000" height="162" preserveAspectRatio="none"'
        over = html.own(f'<image {box} href="{{}}"/>').format(image)
        return _svg(figure, 'Spectrum', over)


def _uri(image: np.ndarray, kind: str) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **({'quality': 80} if kind == 'JPEG' else {}))
    return f'data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}'
