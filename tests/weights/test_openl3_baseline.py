"""The published checkpoints' names, and networks that are written out here by them."""

import os
from pathlib import Path

import numpy as np
import pytest

from avsc_jax import models, weights
from avsc_jax.models.openl3_baseline import joined

LINEARS = {0: 512, 4: 128, 8: 64, 12: 10}


def checkpoint(inputs: int, seed: int) -> dict[str, np.ndarray]:
    """Random values under the names of `torch.nn.Sequential`, as published."""
    draw, state = np.random.default_rng(seed), {}
    for place, outputs in LINEARS.items():
        state[f'model.{place}.weight'] = draw.standard_normal((outputs, inputs)) / inputs**0.5
        state[f'model.{place}.bias'] = draw.standard_normal(outputs)
        if place != 12:
            norm = f'model.{place + 1}'
            state[f'{norm}.weight'], state[f'{norm}.running_var'] = draw.uniform(1, 2, (2, outputs))
            state[f'{norm}.bias'], state[f'{norm}.running_mean'] = draw.normal(size=(2, outputs))
            state[f'{norm}.num_batches_tracked'] = np.array(7)
        inputs = outputs
    return {name: value.astype(np.float32) for name, value in state.items()}


def combination(seed: int) -> dict[str, np.ndarray]:
    draw, sizes = np.random.default_rng(seed), ((128, 256), (10, 128))
    state = {f'model.{n}.weight': draw.standard_normal(size, 'f4') for n, size in enumerate(sizes)}
    return state | {
        f'model.{n}.bias': draw.standard_normal(s[0], 'f4') for n, s in enumerate(sizes)
    }


def dense(state, place, x):
    return x @ state[f'model.{place}.weight'].T + state[f'model.{place}.bias'][None]


def answer(state, x, *, until=12):
    for place in LINEARS:
        x = dense(state, place, x)
        if place == until:
            return x
        norm = {name: state[f'model.{place + 1}.{name}'] for name in ('weight', 'bias')}
        mean, var = (state[f'model.{place + 1}.running_{name}'] for name in ('mean', 'var'))
        x = (x - mean[None]) / np.sqrt(var + 1e-5)[None] * norm['weight'][None] + norm['bias'][None]
        x = np.maximum(x, 0)


def assert_networks_answer_as(audio, video, early, combined):
    draw = np.random.default_rng(0)
    x = {f'{n}_embedding': draw.standard_normal((9, 512), 'f4') for n in ('audio', 'image')}
    sound, picture = x.values()
    stems = [answer(audio, sound, until=4), answer(video, picture, until=4)]
    b03 = dense(combined, 1, dense(combined, 0, np.concatenate(stems, axis=1)))
    both = answer(early, np.concatenate([sound, picture], axis=1))
    for name, state, expected in (
        ('audio', audio, answer(audio, sound)),
        ('video', video, answer(video, picture)),
        ('early', early, both),
        ('audio_video', joined(audio, video, combined), b03),
    ):
        name = f'openl3_baseline_{name}'
        logits, _ = models.create_model(name).apply(weights.convert(name, state), x)
        atol = 1e-5 * abs(expected).max()
        np.testing.assert_allclose(logits, expected, rtol=0, atol=atol, err_msg=name)


def test_published_names_give_the_published_networks_answers():
    audio, video, early = checkpoint(512, 1), checkpoint(512, 2), checkpoint(1024, 3)
    assert_networks_answer_as(audio, video, early, combination(4))


def test_what_is_missing_or_too_much_is_named():
    state = checkpoint(512, 1)
    state['model.13.weight'] = state.pop('model.9.running_var')
    message = 'missing: batch_stats/bn3/var; unexpected: model.13.weight; wrong shape: none'
    with pytest.raises(ValueError, match=message):
        weights.convert('openl3_baseline_audio', state)
    three = joined(checkpoint(512, 1), checkpoint(1024, 2), combination(3))
    with pytest.raises(
        ValueError, match=r'image_embedding.model.0.weight \(512, 1024\) for batch_'
    ):
        weights.convert('openl3_baseline_audio_video', three)
    del three['joined.model.1.bias']
    with pytest.raises(ValueError, match='missing: params/head/bias; unexpected: none; wrong'):
        weights.convert('openl3_baseline_audio_video', three)


@pytest.mark.data
def test_the_published_checkpoints_are_taken():
    if not (folder := os.environ.get('AVSC_BASELINE_CHECKPOINTS')):
        pytest.skip(
            'AVSC_BASELINE_CHECKPOINTS names no copy of '
            'github.com/shanwangshan/TAU-urban-audio-visual-scenes'
        )
    files = [f'train/{name}_model' for name in ('audio', 'video', 'audio_video')]
    files.append('train_combine/audio_video_model')
    assert_networks_answer_as(*(weights.read(Path(folder) / file / 'model.pt') for file in files))
