"""The command avsc_jax.convert, on a network that is small enough for a test."""

import functools
import json
import runpy
import sys
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors
from flax import traverse_util

import avsc_jax
from avsc_jax import models, weights
from avsc_jax.convert import __main__ as convert
from avsc_jax.convert.command import FILES, JOINED
from avsc_jax.models import openl3_baseline
from avsc_jax.runtime import cli

ROOT = Path(__file__).parents[1]
OPTIONS = {'width': 16, 'layers': 1, 'patch_size': 16, 'image_size': 32, 'output_dim': 4}


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A published file of a narrow clip_vit_b32, which this name stands for meanwhile."""
    constructor = models._constructors()['clip_vit_b32']
    narrow = functools.partial(constructor.func, **{**constructor.keywords, **OPTIONS})
    monkeypatch.setitem(models._constructors(), 'clip_vit_b32', narrow)
    random = np.random.default_rng(0)
    d = OPTIONS['width']
    shapes = {
        'class_embedding': (d,), 'positional_embedding': (5, d), 'conv1.weight': (d, 3, 16, 16),
        'ln_pre.weight': (d,), 'ln_pre.bias': (d,), 'ln_post.weight': (d,), 'ln_post.bias': (d,),
        'proj': (d, 4),
    }  # fmt: skip
    layer = {
        'attn.in_proj_weight': (3 * d, d), 'attn.in_proj_bias': (3 * d,),
        'attn.out_proj.weight': (d, d), 'attn.out_proj.bias': (d,),
        'ln_1.weight': (d,), 'ln_1.bias': (d,), 'ln_2.weight': (d,), 'ln_2.bias': (d,),
        'mlp.c_fc.weight': (4 * d, d), 'mlp.c_fc.bias': (4 * d,),
        'mlp.c_proj.weight': (d, 4 * d), 'mlp.c_proj.bias': (d,),
    }  # fmt: skip
    shapes |= {f'transformer.resblocks.0.{name}': shape for name, shape in layer.items()}
    state = {f'visual.{n}': random.standard_normal(s).astype(np.float16) for n, s in shapes.items()}
    np.savez(tmp_path / 'ViT.npz', **state, logit_scale=np.float32(4.6))
    return tmp_path / 'ViT.npz'


def test_the_result_is_the_network_and_says_where_it_is_from(source, tmp_path, capsys):
    out = tmp_path / 'clip_vit_b32.safetensors'
    assert convert.main(['clip_vit_b32', str(source), str(out)]) == 0
    expected = weights.convert('clip_vit_b32', weights.read(source))
    jax.tree.map(
        functools.partial(np.testing.assert_array_equal, strict=True),
        weights.convert('clip_vit_b32', weights.read(out)),
        expected,
    )
    sha256 = weights.fingerprint(out)
    assert weights.identify('clip_vit_b32', tmp_path) == sha256
    with safetensors.safe_open(out, 'numpy') as file:
        assert json.loads(file.metadata()['avsc_jax']) == {
            'network': 'clip_vit_b32',
            'source': 'ViT.npz',
            'sha256': weights.fingerprint(source),
            'version': avsc_jax.__version__,
        }
        assert all(name.startswith('params/') for name in file.keys())  # noqa: SIM118
    count = len(jax.tree.leaves(expected))
    told = f'{out}: {count} arrays, {out.stat().st_size:,} bytes, SHA-256 {sha256}\n'
    assert capsys.readouterr().out == f'{told}licence: MIT, from openai/CLIP\n'


def test_a_converted_file_converts_to_the_same_bytes_but_for_its_origin(source, tmp_path):
    first, second = tmp_path / 'a.safetensors', tmp_path / 'b.safetensors'
    convert.main(['clip_vit_b32', str(source), str(first)])
    convert.main(['clip_vit_b32', str(first), str(second)])
    a, b = weights.read(first), weights.read(second)
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_the_head_can_be_left_out(tmp_path, monkeypatch, capsys):
    constructor = models._constructors()['resnet18']
    narrow = functools.partial(constructor, width=2, image_size=32)
    monkeypatch.setitem(models._constructors(), 'resnet18', narrow)
    published = weights.random_variables(models.create_model('resnet18'), 0)
    source, out = tmp_path / 'source.safetensors', tmp_path / 'resnet18.safetensors'
    weights.write(published, source, {})
    assert convert.main(['resnet18', str(source), str(out), '--head=drop']) == 0
    assert 'licence: Apache-2.0' in capsys.readouterr().out
    del published['params']['head']
    jax.tree.map(
        functools.partial(np.testing.assert_array_equal, strict=True),
        weights.convert('resnet18', weights.read(out), num_classes=0),
        published,
    )
    ten = weights.convert('resnet18', weights.read(out), num_classes=10, head='drop')
    assert ten['params']['head']['bias'].shape == (10,)


def prefixed(source, prefix, **others):
    """A copy of the file whose names begin with a prefix, beside other arrays."""
    path = source.with_name('own.npz')
    state = {f'{prefix}{name}': value for name, value in weights.read(source).items()}
    np.savez(path, **state, **others)
    return path


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'model.', 'module._orig_mod.', 'a/b.'])
def test_a_prefix_is_named_with_the_option_that_takes_it_off(source, tmp_path, prefix):
    own, out = prefixed(source, prefix, loss=np.zeros(3)), tmp_path / 'out.safetensors'
    sentence = f'names that begin with {prefix!r} fit without it: .* --strip_prefix={prefix}, in'
    with pytest.raises(ValueError, match=sentence):
        convert.main(['clip_vit_b32', str(own), str(out)])
    expected = weights.convert('clip_vit_b32', weights.read(source))
    for given in (prefix, prefix.rstrip('.')):
        assert convert.main(['clip_vit_b32', str(own), str(out), f'--strip_prefix={given}']) == 0
        for state, options in ((weights.read(out), {}), (weights.read(own), {'prefix': given})):
            made = weights.convert('clip_vit_b32', state, **options)
            jax.tree.map(np.testing.assert_array_equal, made, expected)
    with pytest.raises(ValueError, match=r"no name begins with 'x\.'; the names are "):
        convert.main(['clip_vit_b32', str(own), str(out), '--strip_prefix=x.'])


def test_other_weights_get_no_advice_about_prefixes(source):
    with pytest.raises(ValueError, match=r'are not the weights .*wrong shape: none\Z'):
        weights.convert('resnet18', weights.read(source))


def test_an_entry_of_a_state_in_memory_is_chosen(source):
    state = weights.read(source)
    with pytest.raises(
        ValueError, match="holds dicts, model, ema, not arrays; choose one by entry='model'"
    ):
        weights.convert('clip_vit_b32', {'model': state, 'ema': state, 'epoch': 3})
    with pytest.raises(ValueError, match="has no dict 'epoch'; it has ema"):
        weights.convert('clip_vit_b32', {'ema': state, 'epoch': 3}, entry='epoch')
    made = weights.convert('clip_vit_b32', {'ema': state, 'epoch': 3}, entry='ema')
    expected = weights.convert('clip_vit_b32', state)
    jax.tree.map(np.testing.assert_array_equal, made, expected)


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        (
            lambda x: np.where(x == x.flat[0], np.nan, x),
            r'has 1 of [\d,]+ values .* not finite as float32, the first of them nan',
        ),
        (
            lambda x: np.where(x == x.flat[0], -np.inf, x),
            'the first of them -inf; the file is broken',
        ),
        (lambda x: np.full(x.shape, 1e300), 'the first of them 1e.300; the file is broken'),
        (lambda x: (100 * x).astype(np.int8), 'is of int8, whose scale no network here takes'),
        (lambda x: x > 0, 'is of bool, whose'),
        (lambda x: x.astype(np.complex64), 'is of complex64, whose'),
        (lambda x: x.astype(ml_dtypes.float8_e4m3fn), 'is of float8_e4m3fn, whose'),
    ],
)
def test_a_weight_that_cannot_be_right_is_refused_by_its_name(source, change, sentence):
    name, state = 'visual.conv1.weight', weights.read(source)
    with pytest.raises(ValueError, match=rf"'visual\.conv1\.weight' .*({sentence})"):
        weights.convert('clip_vit_b32', state | {name: change(state[name])})


def test_a_variance_below_zero_is_refused_by_its_name():
    model = models.create_model('clip_late_fusion')
    state = traverse_util.flatten_dict(weights.random_variables(model, 0), sep='/')
    name = next(name for name in state if name.endswith('/var'))
    state[name] = np.where(np.arange(state[name].size) == 3, -1, state[name])
    with pytest.raises(ValueError, match=rf"'{name}' has a variance of -1\.0, and none is below"):
        weights.convert('clip_late_fusion', state)
    del state[name]
    with pytest.raises(ValueError, match=rf'not the weights of this network: missing: {name};'):
        weights.convert('clip_late_fusion', state)  # no other weights are published


def test_what_is_ignored_may_hold_anything(source):
    state = weights.read(source) | {'logit_scale': np.int8([3])}
    weights.convert('clip_vit_b32', state)


def test_a_head_of_other_classes_is_kept_by_their_number(tmp_path, monkeypatch):
    constructor = models._constructors()['resnet18']
    narrow = functools.partial(constructor, width=2, image_size=32)
    monkeypatch.setitem(models._constructors(), 'resnet18', narrow)
    tuned = weights.random_variables(models.create_model('resnet18', num_classes=7), 0)
    source, out = tmp_path / 'source.safetensors', tmp_path / 'out.safetensors'
    weights.write(tuned, source, {})
    run = functools.partial(convert.main, ['resnet18', str(source), str(out)])
    with pytest.raises(ValueError, match=r'its head has 7 classes: --num_classes=7 of avsc_jax'):
        run()
    for flags, sentence in (
        (['--num_classes=5'], r'wrong shape: .*head.* its head has 7 classes'),
        (['--num_classes=0'], '--num_classes is 0; it must be 1 or more'),
        (['--num_classes=7', '--head=drop'], 'which --head=drop leaves out; give one'),
    ):
        with pytest.raises(ValueError, match=sentence):
            convert.main(['resnet18', str(source), str(out), *flags])
    assert convert.main(['resnet18', str(source), str(out), '--num_classes=7']) == 0
    jax.tree.map(
        functools.partial(np.testing.assert_array_equal, strict=True),
        weights.convert('resnet18', weights.read(out), num_classes=7),
        tuned,
    )


def test_three_files_become_the_baseline_of_sound_and_picture(tmp_path, capsys):
    made = runpy.run_path(str(ROOT / 'tests' / 'weights' / 'test_openl3_baseline.py'))
    states = made['checkpoint'](512, 1), made['checkpoint'](512, 2), made['combination'](4)
    files = [str(tmp_path / f'{name}.npz') for name in FILES]
    for file, state in zip(files, states, strict=True):
        np.savez(file, **state)
    out = tmp_path / 'b03.safetensors'
    assert convert.main([JOINED, *files, str(out)]) == 0
    assert capsys.readouterr().out.startswith(f'{out}: ')
    found = weights.convert(JOINED, weights.read(out))
    jax.tree.map(
        functools.partial(np.testing.assert_array_equal, strict=True),
        found,
        weights.convert(JOINED, openl3_baseline.joined(*states)),
    )
    stems = [found['batch_stats'][f'{name}_embedding']['params'] for name in ('audio', 'image')]
    for stem, state in zip(stems, states, strict=False):
        np.testing.assert_array_equal(stem['fc1']['bias'], state['model.0.bias'])
    with safetensors.safe_open(out, 'numpy') as file:
        about = json.loads(file.metadata()['avsc_jax'])
    assert about['source'] == 'audio.npz, video.npz, combined.npz'
    assert about['sha256'] == ', '.join(map(weights.fingerprint, files))


@pytest.mark.parametrize('change', ['missing', 'unexpected', 'wrong shape'])
def test_a_converted_file_is_taken_strictly(source, change):
    state = weights.convert('clip_vit_b32', weights.read(source))
    state = {f'params/{name}': v for name, v in _flat(state['params'])}
    name = 'params/visual_projection/kernel'
    if change == 'missing':
        del state[name]
    elif change == 'unexpected':
        state['visual.proj'] = state[name]
        name = 'visual.proj'
    else:
        state[name] = state[name][:, :-1]
    with pytest.raises(ValueError, match=rf'{change}: {name}'):
        weights.convert('clip_vit_b32', state)


def test_the_source_is_never_overwritten(source, tmp_path, monkeypatch):
    out = tmp_path / 'a.safetensors'
    convert.main(['clip_vit_b32', str(source), str(out)])
    content = out.read_bytes()
    (tmp_path / 'link.safetensors').symlink_to(out)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match='is the source file itself'):
        convert.main(['clip_vit_b32', str(source), str(out), 'a.safetensors'])
    for name in ('a.safetensors', '../' + tmp_path.name + '/a.safetensors', 'link.safetensors'):
        with pytest.raises(
            ValueError, match='is the source file itself; name another file to write'
        ):
            convert.main(['clip_vit_b32', str(out), name])
    assert out.read_bytes() == content


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['clip_vit_b33', 'ViT.npz', 'a.safetensors'], "no model is called 'clip_vit_b33'"),
        (['clip_vit_b32', 'ViT.npz', 'a.npz'], 'a.npz must end in .safetensors'),
        (['clip_vit_b32', 'ViT.npz', 'no/a.safetensors'], 'no is not a folder; make it first'),
        (['clip_vit_b32', 'none.pt', 'a.safetensors'], 'there is no weights file none.pt'),
        (
            ['clip_vit_b32', 'ViT.npz', 'ViT.npz', 'a.safetensors'],
            'clip_vit_b32 is published in one file, and 2 are given; name one',
        ),
        (
            [JOINED, 'ViT.npz', 'a.safetensors'],
            'is published in 3 files, and 1 are given; name audio, video, combined in this order',
        ),
        ([JOINED, *['ViT.npz'] * 3, 'a.safetensors'], 'unexpected: audio_embedding.visual'),
        ([JOINED, *['ViT.npz'] * 4, 'a.safetensors'], 'is published in 3 files, and 4 are given;'),
        (['clip_rn101', 'ViT.npz', 'a.safetensors'], 'ViT.npz: these are not the weights of this'),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    source, tmp_path, monkeypatch, capsys, arguments, sentence
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['convert', *arguments])
    assert cli.main(convert.main) == 1
    error = capsys.readouterr().err
    assert error.startswith('error: ') and sentence in error and len(error.splitlines()) == 1
    assert [file.name for file in tmp_path.iterdir()] == ['ViT.npz']


@pytest.mark.parametrize(
    ('flag', 'words'),
    [
        ('--help', ('RN101.pt', 'video.pt combined.pt')),
        ('--list', ('.h5.gz', '.pth', 'clip_rn50x4_text')),
    ],
)
def test_files_networks_and_an_example_are_told(flag, words, capsys):
    with pytest.raises(SystemExit) as done:
        convert.main([flag])
    assert done.value.code == 0
    told = capsys.readouterr().out
    assert all(word in told for word in words)


def _flat(tree, prefix=''):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f'{prefix}{name}/')
        else:
            yield f'{prefix}{name}', value
