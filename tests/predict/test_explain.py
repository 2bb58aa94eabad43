"""Why a system says what it says: where its heat lies, and what it says with less."""

import functools
from types import SimpleNamespace

import flax.linen as nn
import jax
import numpy as np
import pytest

from avsc_jax import models
from avsc_jax.data import media
from avsc_jax.layers.backbone import Backbone
from avsc_jax.predict import explain as explaining
from avsc_jax.predict import grad_cam
from avsc_jax.predict.explain import explain
from avsc_jax.predict.member import Member
from avsc_jax.predict.predictor import Predictor

CLASSES = ['red', 'green']
PICTURES = dict(items='frame', frames='clip12', short_side=96)
FRAMES = PICTURES | {'size': [64, 64], 'mean': [0.0] * 3, 'std': [1.0] * 3}
SOUND = {
    'items': 'second',
    'piece_s': 1.0,
    'front_end': {'name': 'hitachi_logmel', 'sample_rate_hz': 48000, 'lineage': False},
    'size': [64, 48],
}
LOUD = {'mean': np.float32([-100, 0, 0]), 'std': np.float32([20, 9, 1])}  # silence is -100 dB
FRONT_END = dict(piece_s=1.0, sample_rate_hz=48000, mono='silent', difference_scale=1.0)
HEARD = {'items': 'frame', 'inputs': {'image': 'ioacas_logmel'}}
HEARD |= {'encoders': [{'name': 'ioacas_logmel', 'options': FRONT_END, 'weights': 'none'}]}


class Colours(Backbone, kw_only=True):
    """Says how red and how green a picture is: the mean of a map that is known."""

    @nn.compact
    def __call__(self, images, *, train=False):
        self.param('unused', nn.initializers.zeros, (1,))
        x = nn.avg_pool(self.checked(images), window_shape=(8, 8), strides=(8, 8))
        red, green = x[..., 0] - x[..., 1], x[..., 1] - x[..., 0]
        return self.classified(nn.relu(jax.numpy.stack([red, green], -1)), {}, train=train)

    def classified(self, x, out, *, train):
        embedding = x.mean(axis=(1, 2))
        return (9 * embedding if self.num_classes else embedding), {'embedding': embedding}


@pytest.fixture(scope='module', autouse=True)
def colours():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models._constructors(), 'colours', functools.partial(Colours))
        yield


@pytest.fixture(scope='module')
def tagger(write_run, tmp_path_factory):
    """(name -> model, preprocessing, ...) -> a tagger of one part, or of several as their mean."""

    def make(parts, below=()):
        folders = tmp_path_factory.mktemp('runs')
        found = []
        for name, (model, preprocessing, *stats) in parts.items():
            folder = write_run(
                folders / name, model, preprocessing, classes=CLASSES, stats=stats and stats[0]
            )
            for part, (of, prepared) in dict(below).items():
                write_run(folder / 'parts' / part, of, prepared, classes=CLASSES)
            found.append(Member.load(name, folder))
        return Predictor('t', found, [], lambda probs: np.mean([*probs.values()], axis=0))

    return make


def pictures(*patches, height=60, width=100):
    """Grey pictures, each with a red patch (top, bottom, left, right), or None."""
    frames = np.full((len(patches), height, width, 3), 90, np.uint8)
    for frame, patch in zip(frames, patches, strict=True):
        if patch:
            top, bottom, left, right = patch
            frame[top:bottom, left:right, 0] = 250
    times = {'frame_times': 20 + np.arange(len(patches)) / 2, 'start_s': 20.0, 'end_s': 22.0}
    return {'frames': [*frames], **times}


def beep(seconds=3):
    """Silence with a tone of 4 kHz in the second second."""
    times = np.arange(48000 * seconds) / 48000
    tone = 0.5 * np.sin(2 * np.pi * 4000 * times) * (times >= 1) * (times < 2)
    audio = np.stack([tone, tone], axis=1).astype(np.float32)
    return {'audio': audio, 'sample_rate': 48000, 'start_s': 20.0, 'end_s': 20.0 + seconds}


def test_the_heat_lies_on_what_drives_the_class(tagger):
    found = tagger({'see': ({'name': 'colours'}, FRAMES)})
    window = pictures((30, 60, 75, 100), None, (0, 15, 0, 50), None, None, None, None)
    window['frames'][4][:30, :50, 0] = 170  # half as red
    told = explain(found, window)
    (answer,) = found.answers([window])
    np.testing.assert_allclose(told.probs, answer.probs)
    assert told.top == 0 and told.without == {} and told.parts == {} and told.sound is None
    # of 7 pictures the first (places 0, 2, 4, 6): the middles of four equal parts
    assert [picture.time_s for picture in told.pictures] == [20.0, 21.0, 22.0, 23.0]
    corner, stripe, faint, grey = [picture.heat for picture in told.pictures]
    assert corner.shape == (60, 100) and corner.max() == stripe.max() == 1
    assert corner[32:58, 78:98].min() > 0.3 and max(corner[:20].max(), corner[:, :60].max()) < 0.01
    assert stripe[2:12, 5:45].min() > 0.3 and max(stripe[30:].max(), stripe[:, 65:].max()) < 0.01
    np.testing.assert_allclose(faint.max(), 0.5, atol=0.01)
    assert not grey.any()
    assert told.maps == {'picture': ['see'], 'sound': []}
    np.testing.assert_array_equal(told.pictures[1].image, window['frames'][2])


def test_the_crop_that_the_network_saw_is_told_and_holds_all_heat(tagger):
    crop = {'crop': {'centre': [64, 64]}, 'resize': {'short side': 80}}
    cropped = explaining._crop(SimpleNamespace(takes='frames', facts=crop), 60, 100)
    assert cropped == (6, 26, 48, 48)  # 64 of 80 of the short side, in the middle
    both = crop | {'resize': {'both sides': 80}}
    assert explaining._crop(SimpleNamespace(takes='frames', facts=both), 60, 100) == (6, 10, 48, 80)
    whole = explaining._crop(SimpleNamespace(takes='frames', facts={'resize': {}}), 60, 100)
    assert whole == (0, 0, 60, 100)
    settings = FRAMES | {'resize': 'crop', 'crop_fraction': 0.8, 'interpolation': 'bilinear'}
    told = explain(tagger({'see': ({'name': 'colours'}, settings)}), pictures((0, 60, 0, 100)))
    ((top, left, rows, columns),) = told.pictures[0].crops
    assert (top, left, rows, columns) == (6, 26, 48, 48)
    outside = told.pictures[0].heat.copy()
    outside[top : top + rows, left : left + columns] = 0
    assert told.pictures[0].heat.max() == 1 and not outside.any()
    plain = explain(tagger({'see': ({'name': 'colours'}, FRAMES)}), pictures((0, 60, 0, 100)))
    assert plain.pictures[0].crops == []


@pytest.mark.parametrize('pool', [None, 'sequence'])
def test_behind_an_encoder_the_gradient_goes_through_both_networks(tagger, pool):
    inputs = {'image_embedding': 'eye'}
    fusion = PICTURES | {'pool': pool, 'standardize': True, 'inputs': inputs}
    fusion['encoders'] = [{'name': 'eye', 'run': 'parts/eye', 'weights': 'run:1'}]
    if pool == 'sequence':
        fusion['length'] = 5
    model = dict(name='feng_video', embeddings={'image_embedding': 2}, hidden=16, widths=[8, 8])
    stats = {
        f'{k}_image_embedding': np.float32(v) for k, v in (('mean', [0, 0.1]), ('std', [1, 2]))
    }
    eye = {'eye': ({'name': 'colours'}, FRAMES)}
    found = tagger({'both': (model, fusion, stats)}, eye)
    window = pictures((30, 60, 75, 100), None, (0, 15, 0, 50))
    window['frames'][1][..., 1] = 200
    told = explain(found, window)

    (part,) = found.members
    rows = np.stack([media.resize_picture(frame, 64, 64) for frame in window['frames']])
    maps = rows.reshape(3, 8, 8, 8, 8, 3).mean(axis=(2, 4), dtype=np.float32) / 255
    maps = maps[..., :2] - maps[..., 1::-1]
    maps = np.maximum(maps, 0)
    embeddings = maps.mean(axis=(1, 2))

    def score(embeddings):
        x = (embeddings - stats['mean_image_embedding'][None]) / stats['std_image_embedding'][None]
        if pool == 'sequence':
            x = x[np.arange(5) % 3][None]
        return part.model.apply(part.variables, {'image_embedding': x})[0][:, told.top].sum()

    heat = np.maximum(np.einsum('bhwk,bk->bhw', maps, jax.jit(jax.grad(score))(embeddings)), 0)
    most = [picture.heat.max() for picture in told.pictures]
    expected = heat.max(axis=(1, 2)) / heat.max()
    assert np.count_nonzero(expected) > 0 and max(most) == 1
    np.testing.assert_allclose(most, expected, rtol=0.05, atol=1e-6)  # enlarged, peaks lose some
    assert told.maps['picture'] == ['eye']


def test_what_a_square_encoder_does_not_see_stays_cold(tagger):
    encoder = dict(width=16, layers=1, patch_size=16, image_size=32, output_dim=5)
    encoder = {'name': 'clip_vit_b32', 'options': encoder, 'weights': 'random:0'}
    fusion = dict(name='clip_late_fusion', encoders={'clip_vit_b32': 5}, widths=[16, 8, 8])
    found = tagger({'C04': (fusion, PICTURES | {'encoders': [encoder]})})
    told = explain(found, pictures(*[(20, 40, 20, 80)] * 2))
    for picture in told.pictures:
        assert not picture.heat[:, :20].any() and not picture.heat[:, 80:].any()
        assert picture.heat[:, 20:80].any()
    assert told.maps['picture'] == ['clip_vit_b32']


@pytest.fixture(scope='module')
def three(tagger):
    see = ({'name': 'colours'}, FRAMES)
    return tagger({'see': see, 'see too': see, 'hear': ({'name': 'colours'}, SOUND, LOUD)})


def test_the_heat_of_a_sound_lies_at_its_time_and_pitch(three):
    told = explain(three, beep())
    level, heat, hz = told.sound.level, told.sound.heat, told.sound.bands_hz
    assert level.shape == heat.shape and len(hz) == len(heat) and heat.max() == 1
    seconds = heat.shape[1] / 3
    for values in (level - level.min(), heat):
        band, time = np.unravel_index(values.argmax(), values.shape)
        assert 3000 < hz[band] < 5000 and 0.9 < time / seconds < 2.1
    assert heat[:, : int(0.9 * seconds)].max() < 0.01 > heat[:, int(2.1 * seconds) :].max()
    assert told.maps == {'picture': [], 'sound': ['hear']} and not told.pictures
    assert told.without == {} and set(told.parts) == {'hear'}


def test_an_ensemble_tells_what_is_left_without_a_part_and_what_each_says(three):
    window = beep() | pictures(None, (0, 30, 0, 50))
    told = explain(three, window)
    assert set(told.without) == {'sound', 'picture'}
    for kind, probs in told.without.items():
        (answer,) = three.answers([window], without=[kind])
        np.testing.assert_array_equal(probs, answer.probs)
    assert set(told.parts) == {'see', 'see too', 'hear'}
    for part in three.members:
        np.testing.assert_allclose(told.parts[part.name], part([window])[0][0])
    assert told.maps == {'picture': ['see'], 'sound': ['hear']}
    deaf = {name: value for name, value in window.items() if name != 'audio'}
    told = explain(three, deaf)
    assert told.without == {} and told.sound is None and set(told.parts) == {'see', 'see too'}
    assert len(told.pictures) == 2


@pytest.fixture(scope='module')
def hybrid(tagger):
    sources = {'audio_embedding': 'audio', 'image_embedding': 'eye'}
    model = dict(name='ioacas_hybrid', audio_size=8, image_size=2, hidden=8, attention_width=4)
    runs = [{'name': n, 'run': f'parts/{n}', 'weights': f'run:{n}'} for n in sources.values()]
    settings = dict(items='second', frames='second_centres', short_side=96, inputs=sources)
    settings |= dict(frames_per_row={'audio_embedding': 6}, encoders=runs)
    audio = dict(name='resnet1d', num_filters=256, hidden=[8, 8, 8])
    below = {'audio': (audio, HEARD), 'eye': ({'name': 'colours'}, FRAMES)}
    return tagger({'hybrid': (model, settings)}, below)


@pytest.mark.slow
def test_attention_is_told_over_the_time_of_the_window(hybrid):
    window = pictures(None, (0, 30, 0, 50), None) | beep()
    told = explain(hybrid, window)
    (part,) = hybrid.members
    (rows,) = part.rows([window])
    attention = part.model.apply(part.variables, rows)[1]['attention']
    times_s, weights = told.attention
    np.testing.assert_allclose(weights, 6 * attention.reshape(-1), rtol=1e-4)
    np.testing.assert_allclose(times_s, 20 + (np.arange(3 * 6) + 0.5) / 6)
    assert set(told.without) == {'sound', 'picture'} and told.parts == {}
    assert told.sound.heat is None and told.maps == {'picture': ['eye'], 'sound': []}
    deaf = {name: value for name, value in window.items() if name != 'audio'}
    assert explain(hybrid, deaf).attention is None
    blind = {name: value for name, value in window.items() if name != 'frames'}
    told = explain(hybrid, blind)
    assert told.attention is not None and told.pictures == () and told.without == {}


def test_nothing_is_traced_again_for_the_next_window(hybrid, monkeypatch):
    window = pictures(None, (0, 30, 0, 50), None) | beep()
    explain(hybrid, window)
    monkeypatch.setattr(grad_cam, '_with_maps', None)  # cannot be traced any more
    explain(hybrid, pictures((0, 9, 0, 9), None, None) | beep())
    explaining._lens.cache_clear()
    with pytest.raises(TypeError, match='not callable'):
        explain(hybrid, window)


@pytest.mark.slow
def test_the_dual_streams_own_pictures_have_heat_and_its_sound_through_the_encoder(tagger):
    encoder = dict(embedding_size=384, widths=[2, 2, 2, 32], hop_s=0.1, max_windows=96)
    network = dict(embedding_size=384, image_size=64, layers=[1, 1, 1, 1], width=4, features=16)
    settings = FRAMES | dict(items='clip', pictures=10, pool='sequence', length=96)
    settings['inputs'] = {'audio_embedding': 'openl3_audio'}
    settings['encoders'] = [{'name': 'openl3_audio', 'options': encoder, 'weights': 'random:0'}]
    found = tagger({'hou': (network | dict(name='hou_final', filters=[4, 4, 4]), settings)})
    window = beep(10) | pictures(*[(0, 30, 0, 50)] * 12)
    told = explain(found, window)
    assert told.maps == {'picture': ['hou'], 'sound': ['openl3_audio']}
    # of 12 frames the network takes ten, of which the 2nd, 4th, 7th and 9th are shown
    assert [picture.time_s for picture in told.pictures] == [20.5, 22.0, 23.5, 25.0]
    assert max(picture.heat.max() for picture in told.pictures) == 1
    assert told.sound.heat.shape == told.sound.level.shape
    blind = {name: value for name, value in window.items() if name != 'frames'}
    told = explain(found, blind)
    assert told.pictures == () and told.maps['picture'] == [] and told.sound is not None


def test_openl3s_pictures_are_shown_whatever_their_range():
    image = np.zeros((2, 2, 3), np.float32)
    image[0, 0] = 0.6
    assert explaining._bytes(image)[:, 0, 0].tolist() == [153, 0]
    assert explaining._bytes(2 * image - 1)[:, 0, 0].tolist() == [153, 0]
