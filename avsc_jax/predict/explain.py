"""Explains the answer of a system to one window of a clip, by heat maps and by leaving out parts.

Heat maps are Grad-CAM's, for the likeliest scene. Those of an encoder use the gradient that comes
through the network behind it.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import librosa
import numpy as np
from PIL import Image
from scipy.ndimage import map_coordinates

from avsc_jax.data import media
from avsc_jax.input_pipeline.media_inputs import places_together
from avsc_jax.input_pipeline.pooling import common_places, network_inputs
from avsc_jax.input_pipeline.sound import FRONT_ENDS
from avsc_jax.input_pipeline.system import Network, System, SystemInput
from avsc_jax.input_pipeline.transform import FIELDS, filled_times
from avsc_jax.predict.grad_cam import looker
from avsc_jax.predict.member import Member
from avsc_jax.predict.predictor import Predictor
from avsc_jax.report.explanation import Crop, Explanation, Picture, Spectrum
from avsc_jax.tables.parts import likeliest

PICTURES = 4
BANDS, COLUMNS = 96, 600  # size of the spectrum that is shown


def explain(predictor: Predictor, window: Mapping) -> Explanation:
    """Explains a window: heat maps of its likeliest scene, and the answers without each modality.

    An ensemble shows the maps of its first member that takes pictures, and of its first member that
    takes sound.
    """
    (answer,) = predictor.answers([window])
    kinds = [kind for kind in predictor.takes if kind not in answer.without]
    able = [part for part in predictor.members if {*part.takes} & {*kinds}]
    first = {kind: next(part for part in able if kind in part.takes) for kind in kinds}
    targets = {part: likeliest(predictor.own(part, answer.probs)) for part in first.values()}
    views = {part: _lens(part)(window, target) for part, target in targets.items()}
    seen = views[first['picture']].pictures if 'picture' in kinds else []
    heard = views[first['sound']].sounds if 'sound' in kinds else []
    are_tags = len(predictor.parts) > 1  # each sense is answered by itself
    dropped = kinds if len(kinds) > 1 and not are_tags else ()
    shown = able if len(predictor.members) > 1 and not are_tags else ()
    return Explanation(
        start_s=window['start_s'],
        end_s=window['end_s'],
        probs=answer.probs,
        without={kind: predictor.answers([window], without=[kind])[0].probs for kind in dropped},
        parts={part.name: part([window])[0][0] for part in shown},
        pictures=_pictures(window, seen) if 'picture' in kinds else (),
        sound=_sound(window, heard) if 'sound' in kinds else None,
        attention=_attention(window, views[first['sound']]) if 'sound' in kinds else None,
        maps={'picture': [m.network for m in seen], 'sound': [m.network for m in heard]},
        of_kind={
            kind: f'{kind}: ' * are_tags + part.classes[targets[part]]
            for kind, part in first.items()
        },
    )


class Maps(NamedTuple):
    """The heat maps of a network for some items of a window: pictures, or pieces of sound.

    Attributes:
      network: the name of the network.
      source: how the items are read.
      places: indices of the pictures in the window, or starts of the pieces of sound in seconds.
      heat: `[items, h, w]`, not negative, in units of the scene's logit.
    """

    network: str
    source: SystemInput
    places: np.ndarray
    heat: np.ndarray


class View(NamedTuple):
    """The heat maps of a run, and its attention weights `[rows, T]`, or None."""

    pictures: list[Maps]
    sounds: list[Maps]
    attention: np.ndarray | None


@functools.lru_cache(maxsize=2)  # the first with pictures and the first with sound
def _lens(part: Member) -> 'Lens':
    return Lens(part)


class Eye(NamedTuple):
    """An encoder whose own input is a picture or a spectrum.

    Attributes:
      name: its name among the run's sources.
      source: how its items are read.
      look, prepare: `grad_cam.look` at its network, and the preparation of its items, compiled.
    """

    name: str
    source: SystemInput
    look: Callable
    prepare: Callable


class Lens:
    """Computes the heat maps of one run; each of its networks is compiled once."""

    def __init__(self, part: Member):
        self._part = part
        self._system = part.system()
        self._look = looker(self._system.network)
        self._eyes = {
            name: Eye(title, source, looker(network), jax.jit(source.prepared))
            for name, title in self._system.names.items()
            for source, network in _encoders(self._system.sources[title])
        }

    def __call__(self, window: Mapping, target: int) -> View:
        """Maps the evidence for the scene of index `target`."""
        (rows,) = self._part.rows([window])
        learned = {name: rows.pop(name) for name in self._eyes}
        scene = np.eye(len(self._part.classes), dtype=np.float32)[[target]]
        heat, gradients, attention = jax.device_get(self._look(learned, rows, scene))
        mapped = [] if heat is None else self._direct(window, heat)
        for name, eye in self._eyes.items():
            mapped += self._through(name, eye, window, gradients[name])
        pictures = [maps for maps in mapped if maps.source.takes != 'audio']
        sounds = [maps for maps in mapped if maps.source.takes == 'audio']
        return View(pictures, sounds, attention)

    def _direct(self, window: Mapping, heat: np.ndarray) -> list[Maps]:
        """The maps of the run's own network, one for each row or picture."""
        source = self._system.sources[self._system.names['image']]
        assert isinstance(source, SystemInput)  # a run or an encoder gives embeddings, not images
        if FIELDS[source.takes] not in window:  # the network got the mean instead
            return []
        if source.takes == 'audio':
            places, step = _pieces(source, len(heat))
            heat = heat[::step]
        else:
            frames = places_together(window, len(heat))
            heat, frames = heat[frames >= 0], frames[frames >= 0]
            chosen = _spread(len(heat))
            places, heat = frames[chosen], heat[chosen]
        return [Maps(self._part.name, source, places, heat)]

    def _through(self, name: str, eye: Eye, window: Mapping, gradient: np.ndarray) -> list[Maps]:
        """The maps of an encoder, from the gradient by the input that it makes."""
        source, field = eye.source, FIELDS[eye.source.takes]
        chosen: slice | np.ndarray
        if field not in window:
            return []
        if source.takes == 'audio':
            items = source.items(window)
            count = len(items)
            places, step = _pieces(source, count)
            chosen, items = slice(None, None, step), items[::step]
        else:
            count = len(window[field])
            places = chosen = _spread(count)
            items = source.items({field: [window[field][k] for k in places]})
        cotangent = self._of_items(name, eye.name, gradient, count, window)[chosen]
        heat, *_ = jax.device_get(eye.look({}, {'image': eye.prepare(items)}, cotangent))
        return [] if heat is None else [Maps(eye.name, source, places, heat)]

    def _of_items(
        self, name: str, source: str, gradient: np.ndarray, count: int, window: Mapping
    ) -> np.ndarray:
        """Turns the gradient by rows into one by the embeddings that the rows are made of."""
        settings = {**self._system.settings, 'inputs': {name: source}}
        embeddings = np.zeros((count, gradient.shape[-1]), np.float32)
        made, back = jax.vjp(
            lambda x: network_inputs(settings, {source: x[None]}, self._system.stats)[name],
            embeddings,
        )
        rows = np.arange(len(made))
        if settings.get('pool') is None:  # some rows have no partner among the other inputs
            takes = {title: each.takes for title, each in self._system.sources.items()}
            filled = filled_times(window, takes)
            rows = rows[common_places({source: len(made)}, filled)[source]][: len(gradient)]
        of_rows = np.zeros(made.shape, made.dtype)
        of_rows[rows] = gradient
        return back(of_rows)[0]


def _encoders(source: SystemInput | System) -> list[tuple[SystemInput, Network]]:
    """The items and the network of a source that is an encoder; empty for any other source."""
    if isinstance(source, SystemInput):
        return [(source, source.encoder)] if source.encoder else []
    plain = [
        items
        for name, items in source.sources.items()
        if isinstance(items, SystemInput) and not items.encoder and name not in FRONT_ENDS
    ]
    return [(plain[0], source.network)] if len(plain) == len(source.sources) == 1 else []


def _spread(count: int) -> np.ndarray:
    """Indices of the pictures that are shown, evenly spread over `count`."""
    return media.evenly_spaced(count, min(count, PICTURES))


def _pieces(source: SystemInput, count: int) -> tuple[np.ndarray, int]:
    """Starts, in s, of pieces of sound that do not overlap, and the step between them."""
    rate = source.facts['sample_rate_hz']
    length_s = source.item.shape[0] / rate
    hop_s = float(source.facts.get('window', {}).get('hop_s', length_s))
    step = max(1, round(length_s / hop_s))
    return np.arange(0, count, step) * hop_s - source.facts.get('zeros_before', 0) / rate, step


def _pictures(window: Mapping, seen: Sequence[Maps]) -> list[Picture]:
    """The pictures, each with the sum of its heat maps, scaled to a maximum of 1 over all."""
    field, times = 'frames', 'frame_times'
    if not any(m.source.takes == 'frames' for m in seen) and 'media_frames' in window:
        field, times = 'media_frames', 'media_times'
    seen = [m for m in seen if FIELDS[m.source.takes] == field]
    places = seen[0].places if seen else _spread(len(window[field]))
    heats, crops = [], []
    for k, place in enumerate(places):
        size = window[field][place].shape[:2]
        of_each = [_crop(m.source, *size) for m in seen]
        placed = (_placed(m.heat[k], crop, *size) for m, crop in zip(seen, of_each, strict=True))
        heats.append(sum(placed, np.zeros(size)))
        crops.append([crop for crop in dict.fromkeys(of_each) if crop != (0, 0, *size)])
    most = max((heat.max() for heat in heats), default=0) or 1
    return [
        Picture(
            time_s=float(window[times][place]),
            image=_bytes(window[field][place]),
            heat=(heat / most).astype(np.float32) if seen else None,
            crops=outlined,
        )
        for place, heat, outlined in zip(places, heats, crops, strict=True)
    ]


def _bytes(image: np.ndarray) -> np.ndarray:
    """Converts a picture to uint8; OpenL3's are floats in [-1, 1] or in [0, 1]."""
    if image.dtype == np.uint8:
        return image
    image = (image + 1) / 2 if image.min() < 0 else image
    return np.clip(255 * image + 0.5, 0, 255).astype(np.uint8)


def _placed(heat: np.ndarray, crop: Crop, height: int, width: int) -> np.ndarray:
    """Enlarges a heat map to the crop that the network sees, inside the whole picture."""
    top, left, rows, columns = crop
    placed = np.zeros((height, width), np.float32)
    enlarged = Image.fromarray(heat).resize((columns, rows), Image.Resampling.BILINEAR)
    placed[top : top + rows, left : left + columns] = np.asarray(enlarged)
    return placed


def _crop(source: SystemInput, height: int, width: int) -> Crop:
    """Returns the central part of a picture that resize and crop leave."""
    crop, resize = source.facts.get('crop'), source.facts['resize']
    if crop is None or source.takes == 'media':
        return Crop(0, 0, height, width)
    (size, _), short = crop['centre'], min(height, width)
    if 'both sides' in resize:
        share = size / resize['both sides']
        rows, columns = round(share * height), round(share * width)
    else:
        resized = resize['short side']
        if 'same_size' in source.facts:  # OpenL3 does not enlarge
            resized = min(resized, short)
        rows = columns = min(short, round(short * size / resized))
    return Crop((height - rows) // 2, (width - columns) // 2, rows, columns)


def _sound(window: Mapping, heard: Sequence[Maps]) -> Spectrum:
    """The spectrum of the window, with the sum of its heat maps, scaled to a maximum of 1."""
    audio, rate = window['audio'].mean(axis=1), window['sample_rate']
    hop, high = max(1, -(-len(audio) // COLUMNS)), min(rate / 2, 24000)
    fft = 1 << (rate // 24).bit_length()  # 2048 at 48 kHz
    power = librosa.feature.melspectrogram(
        y=np.pad(audio, (0, max(0, fft - len(audio)))),
        sr=rate,
        n_fft=fft,
        hop_length=hop,
        n_mels=BANDS,
        fmax=high,
    )[:, : -(-len(audio) // hop)]
    bands_hz = librosa.mel_frequencies(BANDS + 2, fmax=high)[1:-1]
    times_s = np.arange(power.shape[1]) * hop / rate
    heat = sum((_heard(m, bands_hz, times_s) for m in heard), np.zeros(power.shape))
    shown = (heat / (heat.max() or 1)).astype(np.float32) if heard else None
    return Spectrum(librosa.power_to_db(power), bands_hz, shown)


def _heard(maps: Maps, bands_hz: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Resamples heat maps to `[bands, times]`; their pieces of sound do not overlap."""
    facts = maps.source.facts
    filters = facts['front_end']['filters']
    mel = functools.partial(librosa.hz_to_mel, htk=filters['htk'])
    low = mel(filters['low_hz'])
    share = (mel(bands_hz) - low) / (mel(filters['high_hz']) - low)
    length_s = maps.source.item.shape[0] / facts['sample_rate_hz']
    is_upright = facts['front_end']['layout'][0] == 'bands'
    pieces = maps.heat if is_upright else maps.heat.swapaxes(1, 2)
    _, high, wide = pieces.shape
    heat = np.zeros((len(bands_hz), len(times_s)))
    for start_s, piece in zip(maps.places, pieces, strict=True):
        inside = (times_s >= start_s) & (times_s < start_s + length_s)
        columns = (times_s[inside] - start_s) / length_s * wide - 0.5
        where = np.meshgrid(share * high - 0.5, columns, indexing='ij')
        heat[:, inside] = map_coordinates(piece, where, order=1, mode='nearest')
    return heat


def _attention(window: Mapping, view: View) -> tuple[np.ndarray, np.ndarray] | None:
    """Times of the parts of a window that the network attends to, and their weights; mean 1."""
    if view.attention is None:
        return None
    weights = (view.attention * view.attention.shape[1]).reshape(-1)
    start_s, end_s = window['start_s'], window['end_s']
    middles = (np.arange(len(weights)) + 0.5) / len(weights)
    return start_s + middles * (end_s - start_s), weights
