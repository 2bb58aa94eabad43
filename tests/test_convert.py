"""The command avsc_jax.convert, on a network that is small enough for a test."""

import functools
import json
import runpy
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors

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
