"""Cuts sound into pieces side by side, and into the windows of encoders."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax.audio import efficientat, frontends, level, openl3, yamnet
from avsc_jax.audio.resample import resampled
from avsc_jax.data import media
from avsc_jax.data.sources.source import CLIP_S
from avsc_jax.input_pipeline.transform import Takes, Transform
from avsc_jax.models.efficientat import PUBLISHED as EFFICIENTAT
from avsc_jax.runtime import nearest
from avsc_jax.types import Array

# Front ends whose frames are cached like an encoder's embeddings; they have no weights.
FRONT_ENDS = {name: end.function for name, end in frontends.FRONT_ENDS.items() if end.gives_rows}
SPARE_S = 0.5  # by which a clip of ten seconds may be longer and count as one
EFFICIENTAT_WINDOW_S = (0.32, 60.0)  # 32 columns at least; a minute takes 8 MB
NOTICEABLE = 0.05  # of a piece; less added or left out is not worth a note


def pieces(sound: np.ndarray, length: int) -> np.ndarray:
    """Cuts `[N, ...]` into pieces side by side, `[T, length, ...]`.

    Zeros complete the last piece, and a sound shorter than a piece. A remainder that counts as no
    piece, half of one at most, is left out.
    """
    count = media.num_pieces(len(sound), length)
    return padded(sound, count * length).reshape(count, length, *sound.shape[1:])


def padded(sound: np.ndarray, length: int) -> np.ndarray:
    """Cuts samples `[N, ...]` to a length, or completes them by zeros."""
    if len(sound) >= length:
        return sound[:length]
    return np.pad(sound, [(0, length - len(sound))] + [(0, 0)] * (sound.ndim - 1))


def piece_notes(record: Mapping, piece_s: float) -> list[str]:
    """Says what cutting a record's sound into pieces adds or leaves out, if it is noticeable.

    Files of one kind get the same sentence, so that it is printed once for all of them.
    """
    count = len(record['audio']) / record['sample_rate'] / piece_s
    rest = count - media.num_pieces(count, 1)
    if rest > NOTICEABLE:
        return [f'the end of the sound, half a piece of {piece_s:g} s at most, is left out']
    if rest < -NOTICEABLE:
        which = 'the last piece' if count > 1 else 'sound that is shorter than a piece'
        return [f'{which} of {piece_s:g} s is completed by zeros']
    return []


def piece_facts(length: int, sample_rate_hz: int) -> dict:
    """Describes the cutting into pieces in plain data, for other programs."""
    return {
        'sample_rate_hz': sample_rate_hz,
        'piece': {'samples': length, 'channels': 2},
        'pieces': 'max(1, round(samples / length)), a half to even',
        'last': 'completed by zeros; left out where it is less than half a piece',
    }


def stereo_pieces(record: Mapping, length: int, sample_rate_hz: int) -> np.ndarray:
    """Returns the pieces `[T, length, 2]` of a record's sound, resampled; mono is doubled."""
    sound = resampled(record['audio'], record['sample_rate'], sample_rate_hz)
    return pieces(np.broadcast_to(sound, (len(sound), 2)), length)


class FrontEndPieces:
    """The transform from pieces of sound to a front end's frames; see `transform.Transform`.

    Args:
      name: of FRONT_ENDS.
      reading: `piece_s`, `sample_rate_hz`, `mono` (what becomes of the second channel where both
        are equal: 'silent' or 'duplicate') and `pieces_together`, how many pieces side by side
        make one item.
      options: of the front end.
    """

    takes: Takes = 'audio'

    def __init__(self, name: str, reading: Mapping[str, Any], options: Mapping[str, Any]):
        if reading['mono'] not in ('silent', 'duplicate'):
            raise ValueError(f"mono is {reading['mono']!r}, it must be 'silent' or 'duplicate'")
        self._reading, self._rate = reading, reading['sample_rate_hz']
        self._length = round(reading['piece_s'] * self._rate)
        self._front_end = frontends.make(name, sample_rate_hz=self._rate, **options)
        self.item = jax.ShapeDtypeStruct((self._length, 2), np.float32)
        self.facts = piece_facts(self._length, self._rate) | {
            'front_end': frontends.facts(name, sample_rate_hz=self._rate, **options),
            'mono': f'where both channels are equal, the second one of a frame is '
            f'{reading["mono"]}',
        }

    def items(self, record: Mapping) -> list[np.ndarray]:
        """Returns pieces `[length, 2]`, or so many joined; the last item may have fewer."""
        stereo, together = stereo_pieces(record, self._length, self._rate), self._together
        return [stereo[k : k + together].reshape(-1, 2) for k in range(0, len(stereo), together)]

    @property
    def _together(self) -> int:
        return self._reading['pieces_together']

    def prepare(self, items: Array) -> Array:
        """Turns pieces `[B, N, 2]` into the frames of all of them, `[B T, 2, F]`."""
        rows = self._front_end(items)
        if self._reading['mono'] == 'duplicate':
            alike = (items[..., 0] == items[..., 1]).all(axis=-1)[:, None, None]
            second = jnp.where(alike, rows[:, :, 0], rows[:, :, 1])
            rows = jnp.stack([rows[:, :, 0], second], axis=2)
        return rows.reshape(-1, *rows.shape[2:])

    def notes(self, record: Mapping) -> list[str]:
        """Says what a user should know about how a clip was read."""
        audio, rate = record['audio'], record['sample_rate']
        mono = audio.any() and np.array_equal(audio[:, 0], audio[:, -1])
        notes = {
            f'sound of {rate} Hz is resampled to {self._rate} Hz': rate != self._rate,
            'the sound is silent': not audio.any(),
            'the sound is mono: the difference of its channels is a '
            f'{self._reading["mono"]} channel': mono,
        }
        return [
            *(note for note, holds in notes.items() if holds),
            *piece_notes(record, self._reading['piece_s']),
        ]


class OpenL3Windows:
    """The transform from windows of a second to OpenL3's spectrograms; see `transform.Transform`.

    Args:
      reading: `version` (of openl3), `hop_s`, `centre`, and `max_windows`, the most of a clip of
        ten seconds, which may last half a second longer; longer sound has one more each hop.
    """

    takes: Takes = 'audio'
    item = jax.ShapeDtypeStruct((openl3.WINDOW, 1), np.float32)

    def __init__(self, reading: Mapping[str, Any]):
        version, known = reading['version'], get_args(openl3.Version)
        nearest.check('version', version, known)
        self._reading, rate = reading, openl3.SAMPLE_RATE_HZ
        self.prepare = partial(openl3.openl3_mel256, sample_rate_hz=rate, version=version)
        self.facts = {
            'sample_rate_hz': rate,
            'channels': 'their mean',
            'window': {'samples': openl3.WINDOW, 'hop_s': reading['hop_s']},
            'zeros_before': openl3.WINDOW // 2 if reading['centre'] else 0,
            'most': reading['max_windows'],  # up to CLIP_S + SPARE_S; see most_windows
            'most_of_longer': 'most + round((seconds - 10) / hop_s), from 10.5 s on',
            'last': 'completed by zeros',
            'front_end': frontends.facts('openl3_mel256', sample_rate_hz=rate, version=version),
        }

    def most_windows(self, duration_s: float) -> int | None:
        """Returns the largest number of windows of a sound; None if there is no limit."""
        most = self._reading['max_windows']
        if most is None or duration_s <= CLIP_S + SPARE_S:
            return most
        return most + round((duration_s - CLIP_S) / self._reading['hop_s'])

    def items(self, record: Mapping) -> list[np.ndarray]:
        """Returns windows `[48000, 1]` of the channels' mean."""
        mono = record['audio'].mean(axis=1)
        sound = resampled(mono, record['sample_rate'], openl3.SAMPLE_RATE_HZ)
        hop_s = float(self._reading['hop_s'])
        most = self.most_windows(len(sound) / openl3.SAMPLE_RATE_HZ)
        return list(
            openl3.openl3_views(sound, hop_s=hop_s, centre=self._reading['centre'], most=most)
        )

    def notes(self, record: Mapping) -> list[str]:
        """Says what a user should know about how a clip was read."""
        audio, rate = record['audio'], record['sample_rate']
        wanted, channels = openl3.SAMPLE_RATE_HZ, record.get('channels', audio.shape[1])
        notes = {
            f'{channels} channels are mixed down to one': channels > 2,
            f'sound of {rate} Hz is resampled to {wanted} Hz': rate != wanted,
            'sound of less than a second is completed by zeros': len(audio) < rate,
            'the sound is silent': not audio.any(),
        }
        return [note for note, holds in notes.items() if holds]


class YAMNetWindows:
    """The transform from a record's sound to YAMNet's patches; see `transform.Transform`.

    Args:
      reading: `hop_s` from patch to patch, and `gain`: None leaves the level as it is, 'auto' lifts
        quiet sound, see `audio.level.lifted`.
    """

    takes: Takes = 'audio'
    item = jax.ShapeDtypeStruct((yamnet.WINDOW, 1), np.float32)

    def __init__(self, reading: Mapping[str, Any]):
        self._gain, self._hop_s = reading['gain'], float(reading['hop_s'])
        if self._gain not in (None, 'auto'):
            raise ValueError(f"gain is {self._gain!r}, it must be 'auto', or be left out")
        rate = yamnet.SAMPLE_RATE_HZ
        self.prepare = partial(yamnet.yamnet_logmel, sample_rate_hz=rate)
        lifting = f'to an RMS of {level.LIFTED_RMS:g} where it is from {level.FLOOR_RMS:g} to that'
        self.facts = {
            'sample_rate_hz': rate,
            'channels': 'their mean',
            'gain': lifting if self._gain else None,
            'window': {'samples': yamnet.WINDOW, 'hop_s': self._hop_s},
            'last': 'completed by zeros',
            'front_end': frontends.facts('yamnet_logmel', sample_rate_hz=rate),
        }

    def items(self, record: Mapping) -> list[np.ndarray]:
        """Returns windows `[15600, 1]` of the channels' mean."""
        mono = record['audio'].mean(axis=1)
        sound = resampled(mono, record['sample_rate'], yamnet.SAMPLE_RATE_HZ)
        return list(yamnet.yamnet_views(self._levelled(sound), hop_s=self._hop_s))

    def _levelled(self, sound: np.ndarray) -> np.ndarray:
        return level.lifted(sound) if self._gain else sound

    def cut(self, items: Array) -> Array:
        """Returns the items as they are."""
        return items

    def notes(self, record: Mapping) -> list[str]:
        """Says what a user should know about how a clip was read."""
        mono = record['audio'].mean(axis=1)
        loudness, is_short = level.rms(mono), len(mono) < 0.975 * record['sample_rate']
        is_quiet = 0 < loudness < level.QUIET_RMS
        notes = {
            'the sound is silent': not loudness,
            f'the sound is quiet (an RMS below {level.QUIET_RMS:g}), in which YAMNet tends to hear '
            'silence; --gain auto lifts it (--encoder yamnet:gain=auto)': is_quiet
            and not self._gain,
            f'quiet sound is lifted to an RMS of {level.LIFTED_RMS:g}': bool(self._gain)
            and level.FLOOR_RMS <= loudness < level.LIFTED_RMS,
            'sound of less than 0.975 s is completed by zeros': is_short,
        }
        return [note for note, holds in notes.items() if holds]


class EfficientATWindows:
    """The transform from a record's sound to EfficientAT's spectrograms; see `transform.Transform`.

    Args:
      reading: `window_s` and `hop_s` of the windows. A remainder that is new for half a hop at most
        is left out; zeros complete the last window.
    """

    takes: Takes = 'audio'

    def __init__(self, reading: Mapping[str, Any]):
        self._window_s, hop_s = float(reading['window_s']), float(reading['hop_s'])
        rate, (shortest, longest) = efficientat.SAMPLE_RATE_HZ, EFFICIENTAT_WINDOW_S
        self._window, self._hop = round(self._window_s * rate), round(hop_s * rate)
        if not shortest <= self._window_s <= longest or self._hop < 1:
            raise ValueError(
                f'window_s is {self._window_s:g} and hop_s {hop_s:g}; windows must last '
                f'{shortest:g} to {longest:g} s, with a hop above 0'
            )
        self.item = jax.ShapeDtypeStruct((self._window, 1), np.float32)
        self.prepare = partial(efficientat.efficientat_logmel, sample_rate_hz=rate)
        self.facts = {
            'sample_rate_hz': rate,
            'channels': 'their mean',
            'window': {'samples': self._window, 'hop_s': hop_s},
            'windows': '1 + max(0, round((samples - window) / hop)), a half to even',
            'last': 'completed by zeros',
            'front_end': frontends.facts('efficientat_logmel', sample_rate_hz=rate),
        }

    def items(self, record: Mapping) -> list[np.ndarray]:
        """Returns windows `[N, 1]` of the channels' mean."""
        mono = record['audio'].mean(axis=1)
        sound = resampled(mono, record['sample_rate'], efficientat.SAMPLE_RATE_HZ)
        more = max(0, round((len(sound) - self._window) / self._hop))
        whole = padded(sound, self._window + more * self._hop)
        every = np.lib.stride_tricks.sliding_window_view(whole, self._window)
        return list(every[:: self._hop, :, None])

    def notes(self, record: Mapping) -> list[str]:
        """Says what a user should know about how a clip was read."""
        audio, rate = record['audio'], record['sample_rate']
        wanted, is_short = efficientat.SAMPLE_RATE_HZ, len(audio) < self._window_s * rate
        notes = {
            f'sound of {rate} Hz is resampled to {wanted} Hz': rate != wanted,
            f'sound of less than {self._window_s:g} s is completed by zeros': is_short,
            'the sound is silent': not audio.any(),
        }
        return [note for note, holds in notes.items() if holds]


# Encoders of sound -> the transform from a record's sound to the windows that they take.
SOUND_WINDOWS: dict[str, Callable[[Mapping[str, Any]], Transform]] = {
    'openl3_audio': OpenL3Windows,
    'yamnet': YAMNetWindows,
    **dict.fromkeys(EFFICIENTAT, EfficientATWindows),
}
