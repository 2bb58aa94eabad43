"""OpenL3's embeddings per second, front end included, ours against the same network in PyTorch.

    pip install -e '.[parity]' && python benchmarks/openl3.py [--parts whole] [--json out.json]

Noise and random weights at full size, float32: windows of a second in, embeddings of 512 out; then
the front end and the network alone, and the pictures' network. Ours is the extractor's `Encoder`,
which takes 16 windows at a time. PyTorch is eager, with the same values in both memory formats. The
three take turns in one process; the medians of their times are compared, and their results are to
agree.
"""

import argparse
import json
import statistics
import time
import warnings
from functools import partial
from pathlib import Path

import jax
import librosa
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from avsc_jax import models, weights
from avsc_jax.audio import openl3
from avsc_jax.input_pipeline import encoders

FORMATS = {'PyTorch': torch.contiguous_format, 'PyTorch channels last': torch.channels_last}
BATCHES = (1, 8, 32, 96)  # 96 windows are ten seconds of sound
PARTS = {'whole': BATCHES, 'front end': BATCHES, 'network': BATCHES, 'pictures': (8,)}
WEIGHTS = 'random:0'
CLOSE = 1e-3  # dB for spectrograms; of the largest value for embeddings


class FrontEnd(nn.Module):
    """openl3 0.3.1's spectrogram by torch.stft."""

    def __init__(self):
        super().__init__()
        lacking = (openl3.COLUMNS - 1) * openl3.FFT_HOP + openl3.FFT - openl3.WINDOW
        self.pads = lacking // 2, lacking - lacking // 2
        self.register_buffer('hann', torch.hann_window(openl3.FFT))
        warnings.filterwarnings('ignore', 'Empty filters')  # between two bins, as in openl3
        filters = librosa.filters.mel(
            sr=openl3.SAMPLE_RATE_HZ, n_fft=openl3.FFT, n_mels=openl3.MELS, htk=True
        )
        self.register_buffer('filters', torch.from_numpy(filters))

    def forward(self, windows):
        padded = functional.pad(windows.mean(-1), self.pads)
        size, hop = openl3.FFT, openl3.FFT_HOP
        spectrum = torch.stft(
            padded, size, hop, window=self.hann, center=False, return_complex=True
        )
        power = spectrum.real.square() + spectrum.imag.square()
        level = 10 * torch.log10((self.filters @ power).sqrt().clamp(min=1e-10))
        level = level - level.amax((1, 2), keepdim=True)
        return level.clamp(min=-80)[:, None]


class Trunk(nn.Module):
    """The network, with the values of our variables."""

    def __init__(self, variables, *, of_sound):
        super().__init__()
        params, seen = variables['params'], variables['batch_stats']
        self.of_sound = of_sound
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        last = 'audio_embedding_layer' if of_sound else 'vision_embedding_layer'
        for name in (*(f'conv2d_{k}' for k in range(1, 8)), last):
            kernel, bias = params[name]['kernel'], params[name]['bias']
            conv = nn.Conv2d(*kernel.shape[2:], 3, padding=1)
            self.convs.append(filled(conv, weight=kernel.transpose(3, 2, 0, 1), bias=bias))
        for name in (f'batch_normalization_{k}' for k in range(1, 9)):
            scale, bias = params[name]['scale'], params[name]['bias']
            statistics = {'running_mean': seen[name]['mean'], 'running_var': seen[name]['var']}
            norm = nn.BatchNorm2d(len(bias), eps=1e-3)
            self.norms.append(filled(norm, weight=scale, bias=bias, **statistics))

    def forward(self, x):
        x = self.norms[0](x)
        for place in range(7):
            x, norm = self.convs[place](x), self.norms[place + 1]
            swapped = place == 1 and not self.of_sound
            x = norm(torch.relu(x)) if swapped else torch.relu(norm(x))
            if place in (1, 3, 5):
                x = functional.max_pool2d(x, 2, ceil_mode=not self.of_sound)
        return self.convs[7](x).amax((2, 3))


def filled(layer, **values):
    """The layer with these values in place of its own."""
    state = {name: torch.from_numpy(np.array(value)) for name, value in values.items()}
    layer.load_state_dict(layer.state_dict() | state)
    return layer


def ours(part, inputs):
    """A function that does the part once."""
    if part == 'whole':
        encoder = encoders.Encoder(encoders.EncoderSpec('openl3_audio', {}, WEIGHTS), Path())
        return partial(encoder, list(inputs))
    if part == 'front end':
        run = jax.jit(partial(openl3.openl3_mel256, sample_rate_hz=openl3.SAMPLE_RATE_HZ))
    else:
        model, variables = network(part)
        run = partial(encoders.compiled(model), jax.device_put(variables))
    inputs = jax.device_put(inputs)
    return lambda: run(inputs).block_until_ready()


def theirs(part, inputs, memory_format):
    """The same in PyTorch."""
    steps = [FrontEnd()] if part in ('whole', 'front end') else []
    if part != 'front end':
        steps.append(Trunk(network(part)[1], of_sound=part != 'pictures'))
    module, batch = nn.Sequential(*steps).eval(), torch.from_numpy(inputs)
    module = module.to(memory_format=memory_format)
    if part in ('network', 'pictures'):
        batch = batch.permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
    return torch.inference_mode()(lambda: module(batch))


def network(part):
    """Ours, and its values."""
    model = models.create_model('openl3_image' if part == 'pictures' else 'openl3_audio')
    return model, jax.tree.map(np.asarray, weights.random_variables(model, 0))


def inputs_of(part, batch):
    """Noise: as sound, or with a spectrogram's or a picture's shape and range."""
    rng = np.random.default_rng(0)
    if part in ('whole', 'front end'):
        return rng.normal(0, 0.1, (batch, openl3.WINDOW, 1)).astype(np.float32)
    shape = (batch, *network(part)[0].input_spec.shape[1:])
    low, high = (-1, 1) if part == 'pictures' else (-80, 0)
    return rng.uniform(low, high, shape).astype(np.float32)


def compare(part, batch, rounds):
    """Medians of seconds a batch, and what they say."""
    inputs = inputs_of(part, batch)
    runs = {'avsc_jax': ours(part, inputs)}
    runs |= {name: theirs(part, inputs, kind) for name, kind in FORMATS.items()}
    found = [np.asarray(run()) for run in runs.values()]  # compiles and warms up
    if part == 'front end':
        found[1:] = [np.moveaxis(spectrograms, 1, -1) for spectrograms in found[1:]]
    scale = 1 if part == 'front end' else np.abs(found[0]).max()
    off = max(float(np.abs(found[0] - other).max() / scale) for other in found[1:])
    if off > CLOSE:
        raise ValueError(f'{part}, batch {batch}: the results differ by {off}, not by {CLOSE}')
    seconds = {side: [] for side in runs}
    for _ in range(rounds):
        for side, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[side].append(time.perf_counter() - start)
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    return {
        'items_per_second': {side: batch / median for side, median in medians.items()},
        'ratio_of_times': medians['avsc_jax'] / min(medians[side] for side in FORMATS),
        'largest_difference': off,
        'all_seconds': seconds,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS), metavar='PART')
    parser.add_argument('--batches', nargs='+', type=int, help='default 1 8 32 96; 8 pictures')
    parser.add_argument('--rounds', type=int, default=5, help='calls of each (default 5)')
    parser.add_argument('--json', type=Path, help='also write the numbers here')
    args = parser.parse_args()
    results = {}
    for part in args.parts:
        for batch in args.batches or PARTS[part]:
            found = results.setdefault(part, {})[batch] = compare(part, batch, args.rounds)
            rates = ', '.join(f'{k} {v:.1f}' for k, v in found['items_per_second'].items())
            ratio = found['ratio_of_times']
            print(f'{part}, batch {batch}: a second {rates}; ratio of times {ratio:.2f}')
    if args.json:
        versions = {'jax': jax.__version__, 'torch': torch.__version__}
        result = {'openl3': results, 'versions': versions, 'threads': torch.get_num_threads()}
        args.json.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
