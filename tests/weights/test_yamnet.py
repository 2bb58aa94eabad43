"""YAMNet with its real weights, against the SavedModel that Google published.

goldens/yamnet.npz holds two recordings at 16 kHz in 16 bits, and what that model gives for them;
`make_yamnet_golden.py` beside it makes it.
"""

import sys
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest

from avsc_jax import models, weights
from avsc_jax.audio.frontends import yamnet_logmel
from avsc_jax.audio.yamnet import yamnet_views
from avsc_jax.input_pipeline.encoders import Encoder, EncoderSpec

HERE = Path(__file__).parent
GOLDEN = HERE / 'goldens' / 'yamnet.npz'
NAMES = ('acoustic_scene', 'bento')


def answers(variables, sound):
    model = models.create_model('yamnet')
    patches = yamnet_logmel(yamnet_views(sound), sample_rate_hz=16000)
    logits, out = jax.jit(model.apply)(variables, patches)
    return jax.device_get((jax.nn.sigmoid(logits), out['embedding']))


def shipped():
    model = models.create_model('yamnet')
    return weights.load(model, 'yamnet', weights.SOURCES['yamnet'].shipped.sha256, 'nowhere')


def test_the_shipped_weights_give_the_published_tags():
    variables, tags = shipped(), weights.class_names('yamnet')
    with np.load(GOLDEN) as golden:
        for name, first in zip(NAMES, ('Vehicle', 'Animal'), strict=True):
            scores, embeddings = answers(variables, golden[f'{name}_sound'] / np.float32(32768))
            # kernels are stored in float16
            np.testing.assert_allclose(scores, golden[f'{name}_scores'], atol=5e-3)
            np.testing.assert_allclose(embeddings, golden[f'{name}_embeddings'], atol=3e-2)
            assert tags[scores.mean(axis=0).argmax()] == first
            assert tags[golden[f'{name}_scores'].mean(axis=0).argmax()] == first


def test_kernels_alone_are_stored_in_float16():
    file = Path(weights.__file__).parent / 'shipped' / 'yamnet.safetensors'
    state = weights.read(file)
    assert sum(value.size for value in state.values()) == 3_751_369
    kinds = {name.endswith('/kernel'): set() for name in state}
    for name, value in state.items():
        kinds[name.endswith('/kernel')].add(value.dtype.name)
    assert kinds == {True: {'float16'}, False: {'float32'}}
    assert file.stat().st_size < 7.6e6


def test_yamnet_is_an_encoder_of_sound():
    sha256 = weights.identify('yamnet', 'nowhere')
    assert sha256 == weights.SOURCES['yamnet'].shipped.sha256
    spec = EncoderSpec('yamnet', {'num_classes': 0}, sha256)
    assert spec.output_shape == (1024,) and spec.takes == 'audio'
    record = {'audio': np.zeros((48000, 2), np.float32), 'sample_rate': 48000}
    assert len(spec.transform.items(record)) == 2
    assert spec.transform.notes(record) == ['the sound is silent']
    quiet = record | {'audio': np.full((48000, 2), 0.002, np.float32)}
    assert '--gain auto lifts it' in spec.transform.notes(quiet)[0]
    lifting = spec.replace(gain='auto')
    assert lifting.key('data') != spec.key('data')
    assert np.abs(lifting.transform.items(quiet)[0]).max() > 20 * 0.002
    with pytest.raises(ValueError, match="gain is 'loud', it must be 'auto'"):
        spec.replace(gain='loud').check()


def test_embeddings_come_every_048_s():
    spec = EncoderSpec('yamnet', {'num_classes': 0, 'width': 0.0625}, 'random:0')
    encoder = Encoder(spec, Path('nowhere'))
    record = {'audio': np.ones((32000, 1), np.float32), 'sample_rate': 16000}
    rows = encoder(encoder.items(record))
    assert rows.shape == (4, 64)
    np.testing.assert_allclose(encoder.times_s(record, 4), [0, 0.48, 0.96, 1.44])


def in_h5_layout(variables):
    """Weights under the names that the publisher's code gives in its h5 file."""
    state = {'dense_1/dense_1/kernel:0': variables['params']['head']['kernel']}
    state['dense_1/dense_1/bias:0'] = variables['params']['head']['bias']
    for layer, parts in variables['params'].items():
        for name in (name for name in parts if name.endswith('conv')):
            norm = variables['batch_stats'][layer][f'{name}_bn']
            place, kernel = f'{layer}/{name}', parts[name]['kernel']
            if name == 'depthwise_conv':
                state[f'{place}/{place}/depthwise_kernel:0'] = np.swapaxes(kernel, 2, 3)
            else:
                state[f'{place}/{place}/kernel:0'] = kernel
            place = f'{place}/bn/{place}/bn'
            state[f'{place}/beta:0'] = parts[f'{name}_bn']['bias']
            state[f'{place}/moving_mean:0'] = norm['mean']
            state[f'{place}/moving_variance:0'] = norm['var']
    return state


def test_a_made_up_file_in_the_publisher_s_layout_is_converted(tmp_path):
    own = shipped()
    state, path = in_h5_layout(own), tmp_path / 'yamnet.h5'
    with h5py.File(path, 'w') as file:
        for name, value in state.items():
            file[name] = value
    variables = weights.convert('yamnet', weights.read(path))
    jax.tree.map(np.testing.assert_array_equal, variables, own)
    state.pop('layer3/pointwise_conv/bn/layer3/pointwise_conv/bn/beta:0')
    with pytest.raises(ValueError, match='missing: params/layer3/pointwise_conv_bn/bias; unexp'):
        weights.convert('yamnet', state)


@pytest.mark.tf
def test_the_published_model_gives_the_same_for_any_length(tmp_path, monkeypatch):
    """With the weights of its own variables, in float32."""
    pytest.importorskip('tensorflow')
    monkeypatch.syspath_prepend(str(HERE))
    import make_yamnet_golden as published

    model = published.model(tmp_path)
    variables = weights.convert('yamnet', published.state(model))
    rng, recordings = np.random.default_rng(0), []
    with np.load(GOLDEN) as golden:
        recordings = [golden[f'{name}_sound'] / np.float32(32768) for name in NAMES]
    recordings += [(0.1 * rng.standard_normal(num)).astype(np.float32) for num in (1, 15601, 40000)]
    for sound in recordings:
        scores, embeddings, _ = (each.numpy() for each in model(sound))
        ours, embedded = answers(variables, sound)
        np.testing.assert_allclose(ours, scores, atol=1e-4)
        np.testing.assert_allclose(embedded, embeddings, atol=1e-4 * np.abs(embeddings).max())
        coarse, _ = answers(shipped(), sound)
        np.testing.assert_allclose(coarse, scores, atol=5e-3)
        assert coarse.mean(axis=0).argmax() == scores.mean(axis=0).argmax()
    assert 'tensorflow' in sys.modules
