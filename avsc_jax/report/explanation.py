"""Explains a system's answers for a clip on one self-contained HTML page."""

import base64
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from avsc_jax.report import html
from avsc_jax.report.console import number
from avsc_jax.report.plots import BLUE, GREEN, INK, ORANGE, WIDE, _cut, _panels, _style, _svg
from avsc_jax.runtime.files import printable
from avsc_jax.tables.parts import Part, best, likeliest, mean

TOP = 5  # likeliest scenes that are shown
PICTURE_SIDE = 480
COVER = 0.7  # of the picture, that the strongest heat takes
COLORS = (BLUE, ORANGE, GREEN, '#cc79a7', '#56b4e9')  # Okabe and Ito's
KINDS = {'sound': 'the sound', 'picture': 'the pictures'}


class Crop(NamedTuple):
    """The part of a picture that a network saw, in pixels of the picture."""

    top: int
    left: int
    height: int
    width: int


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A picture of a window, and how much each of its places speaks for the likeliest scene.

    Attributes:
      time_s: its time in the file.
      image: uint8 `[H, W, 3]`.
      heat: float32 `[H, W]`, 0 to 1, the maximum over all pictures of the window; None: the network
        has no map.
      crops: the parts that the networks saw, where they did not see the whole picture.
    """

    time_s: float
    image: np.ndarray
    heat: np.ndarray | None
    crops: Sequence[Crop] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Spectrum:
    """The sound of a window, and how much each place of its spectrum speaks for the scene.

    Attributes:
      level: spectrum `[bands, columns]` in dB, lowest band first.
      bands_hz: centres of the bands.
      heat: as `Picture.heat`, in the spectrum's shape.
    """

    level: np.ndarray
    bands_hz: np.ndarray
    heat: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """The explanation of a system's answer for one window of a file.

    Attributes:
      start_s, end_s: start and end of the window in its file.
      probs: the system's probabilities `[C]`, from sound and pictures.
      without: 'sound' or 'picture' -> probabilities without it, if the window has both.
      parts: member of an ensemble -> its own probabilities.
      pictures, sound: what the system sees and hears, with heat maps for the likeliest scene.
      attention: times in s, and how much each counts, 1 on average; None: no attention.
      maps: 'picture' or 'sound' -> the networks whose maps are shown.
      of_kind: 'picture' or 'sound' -> the class whose map is shown, where it is not the likeliest
        one of all: tags of a sense are explained by themselves.
    """

    start_s: float
    end_s: float
    probs: np.ndarray
    without: Mapping[str, np.ndarray]
    parts: Mapping[str, np.ndarray]
    pictures: Sequence[Picture]
    sound: Spectrum | None
    attention: tuple[np.ndarray, np.ndarray] | None
    maps: Mapping[str, Sequence[str]]
    of_kind: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def top(self) -> int:
        """Index of the likeliest scene, which all maps are for."""
        return likeliest(self.probs)


def document(
    file: str,
    classes: Sequence[str],
    timeline: Sequence[tuple[float, float, np.ndarray]],
    explanations: Sequence[Explanation],
    notes: Sequence[str],
    warnings: Sequence[str],
    *,
    parts: Sequence[Part] = (),
) -> str:
    """Renders the page of one file; names of files and classes are escaped.

    Args:
      file: its name.
      classes: names of the scenes.
      timeline: start and end of each window in s, and its probabilities `[C]`.
      explanations: explanations of some of the windows.
      notes: notes on how the file was read.
      warnings: warnings of the system's report.
      parts: the classes in parts, of which the likeliest of each are shown; none: all are one part.
    """
    parts = parts or [Part('', tuple(classes))]
    classes = [printable(name) for name in classes]
    several = len(timeline) > 1
    return html.render(
        'explanation.html',
        title=file,
        warnings=warnings,
        span=f'{clock(timeline[0][0])} to {clock(timeline[-1][1])}',
        windows=len(timeline),
        scenes=_bars(parts, mean([probs for *_, probs in timeline])),
        notes=notes,
        timeline=_timeline(classes, timeline) if several else '',
        explanations=[_window(classes, parts, explanation) for explanation in explanations],
    )


def clock(time_s: float) -> str:
    """Formats a time: 75.5 -> '1:15.5'."""
    minutes, seconds = divmod(round(time_s, 1), 60)
    return f'{minutes:.0f}:{seconds:04.1f}'.removesuffix('.0')


def _window(classes: Sequence[str], parts: Sequence[Part], window: Explanation) -> dict[str, Any]:
    """Returns the values of one window for explanation.html."""
    scene, sound = classes[window.top], window.sound
    of_kind = {kind: printable(window.of_kind.get(kind, scene)) for kind in KINDS}
    if len(parts) > 1:
        scene = ', '.join(printable(name) for name in window.of_kind.values())
    spectra = []
    if sound:
        spectra.append(('Spectrum', _spectrum(sound.level, 'magma')))
    if sound and sound.heat is not None:
        caption = f'What speaks for {of_kind["sound"]}'
        spectra.append((caption, _spectrum(sound.heat, 'inferno', (0, 1))))
    heats = {
        'picture': [picture.heat for picture in window.pictures],
        'sound': [sound and sound.heat],
    }
    heats = {kind: [heat for heat in of if heat is not None] for kind, of in heats.items()}
    return {
        'scene': scene,
        'of_kind': of_kind,
        'span': f'{clock(window.start_s)} to {clock(window.end_s)}',
        'bars': _bars(parts, window.probs),
        'without': [
            (f'without {KINDS[kind]}', _share(window, probs), _answer(classes, probs))
            for kind, probs in window.without.items()
        ],
        'members': [
            (name, number(probs[window.top]), _answer(classes, probs))
            for name, probs in window.parts.items()
        ],
        'pictures': [(clock(picture.time_s), _heated(picture)) for picture in window.pictures],
        'spectra': [(caption, _framed(image, window)) for caption, image in spectra],
        'maps': {
            kind: {
                'networks': window.maps[kind],
                'speaks': any(heat.any() for heat in of),
                'outlined': kind == 'picture' and any(each.crops for each in window.pictures),
            }
            for kind, of in heats.items()
            if of
        },
        'attention': _attention(window),
    }


def _bars(parts: Sequence[Part], probs: np.ndarray) -> list[tuple[str, float]]:
    return [(printable(name), value) for _, name, value in best(parts, probs, TOP)]


def _share(window: Explanation, probs: np.ndarray) -> str:
    """Formats the likeliest scene's probability by `probs`, and its change: '0.100 (-0.600)'."""
    share = probs[window.top]
    return f'{number(share)} ({share - window.probs[window.top]:+.3f})'


def _answer(classes: Sequence[str], probs: np.ndarray) -> str:
    return f'{classes[probs.argmax()]} {number(probs.max())}'


def _attention(window: Explanation) -> str:
    if window.attention is None:
        return ''
    times_s, weights = window.attention
    with _style():
        figure, (axes,) = _panels((WIDE, 170), (34, 40), ((60, 1060),))
        axes.set_title('Attention over time')
        axes.step(times_s, weights, where='mid', color=BLUE)
        axes.axhline(1, color=INK, ls=(0, (4, 3)), lw=1)
        axes.set(xlabel='s', xlim=(window.start_s, window.end_s), ylim=(0, 1.1 * weights.max()))
        return _svg(figure, 'Attention over time')


def _timeline(classes: Sequence[str], timeline: Sequence[tuple[float, float, np.ndarray]]) -> str:
    """Plots the likeliest scenes of all windows, stacked; each window ends at the next one."""
    starts = [start for start, *_ in timeline]
    edges = np.array([*starts, timeline[-1][1]])
    probs = np.nan_to_num([probs for *_, probs in timeline])  # of a sense that is missing
    order = np.argsort(-probs.max(axis=0), kind='stable')[: len(COLORS)]
    order = order[np.argsort(-probs[:, order].mean(axis=0), kind='stable')]
    with _style():
        figure, (axes,) = _panels((WIDE, 250), (64, 30), ((44, 1060),))
        below = np.zeros(len(probs))
        for k, color in zip(order, COLORS, strict=False):
            axes.stairs(below + probs[:, k], edges, baseline=below, fill=True, color=color)
            axes.plot([], [], color=color, lw=8, label=_cut(classes[k]))
            below = below + probs[:, k]
        axes.set_title('Scenes over time: the height of a colour is its probability', pad=32)
        axes.legend(loc='lower left', bbox_to_anchor=(-0.01, 1), ncols=5, columnspacing=1.2)
        axes.set(xlim=(edges[0], edges[-1]), ylim=(0, max(1, below.max())), yticks=(0, 0.5, 1))
        axes.xaxis.set_major_formatter(lambda x, _: clock(x))
        return _svg(figure, 'Scenes over time')


def _heated(picture: Picture) -> str:
    """Returns the picture, warm where it speaks for the scene, with outlines of its crops."""
    height, width = picture.image.shape[:2]
    scale = PICTURE_SIDE / max(width, height)
    size = tuple(max(1, round(scale * side)) for side in (width, height))
    image = np.asarray(Image.fromarray(picture.image).resize(size), np.float32)
    if picture.heat is not None:
        heat = np.asarray(Image.fromarray(picture.heat.astype(np.float32)).resize(size))
        warm = 255 * matplotlib.colormaps['inferno'](0.5 + 0.4 * heat)[..., :3]
        image += COVER * heat[..., None] * (warm - image)
    shown = Image.fromarray(image.astype(np.uint8))
    draw = ImageDraw.Draw(shown)
    for crop in picture.crops:
        left, top = round(scale * crop.left), round(scale * crop.top)
        right, bottom = left + round(scale * crop.width) - 1, top + round(scale * crop.height) - 1
        draw.rectangle((left, top, right, bottom), outline='black', width=6)  # seen on white
        draw.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline='white', width=4)
    return _uri(np.asarray(shown), 'JPEG')


def _spectrum(values: np.ndarray, colors: str, limits: tuple | None = None) -> str:
    low, high = limits or (values.min(), values.max())
    share = (values - low) / max(high - low, 1e-9)
    return _uri((255 * matplotlib.colormaps[colors](share[::-1])[..., :3]).astype(np.uint8), 'PNG')


def _framed(image: str, window: Explanation) -> str:
    """Adds axes of time and pitch to the image of a spectrum."""
    bands = window.sound.bands_hz
    marks = [hz for hz in (200, 1000, 3000, 8000, 20000) if bands[0] < hz < bands[-1]]
    with _style():
        figure, (axes,) = _panels((WIDE, 210), (8, 40), ((60, 1060),))
        axes.set(xlabel='s', xlim=(window.start_s, window.end_s), ylim=(-0.5, len(bands) - 0.5))
        places = np.interp(marks, bands, np.arange(len(bands)))
        axes.set_yticks(places, [f'{hz / 1000:g} kHz' for hz in marks])
        box = 'x="60" y="8" width="1000" height="162" preserveAspectRatio="none"'
        over = html.own(f'<image {box} href="{{}}"/>').format(image)
        return _svg(figure, 'Spectrum', over)


def _uri(image: np.ndarray, kind: str) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **({'quality': 80} if kind == 'JPEG' else {}))
    return f'data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}'
