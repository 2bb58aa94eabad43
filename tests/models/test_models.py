import functools
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from backbones import LARGER

from avsc_jax import models, weights
from avsc_jax.configs import ioacas_image

NAMES, PUBLISHED = models.list_models(), list(weights.SOURCES)
WORKING = """
import functools
from avsc_jax.models import resnet, rules, sources

class Tiny(resnet.ResNet): pass

MODELS = {'tiny': functools.partial(Tiny, layers=(1, 1, 1, 1))}
RULES = rules.linear('fc', 'head')
SOURCES = {'tiny': sources.timm('tiny.in1k', 'MIT', 'bicubic', 0.9)}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose files count among those of avsc_jax/models, which are gathered anew."""
    monkeypatch.setattr(models, '__path__', [*models.__path__, str(tmp_path)])
    monkeypatch.setattr(models, '_gathered', functools.cache(models._gathered.__wrapped__))
    yield tmp_path
    for path in tmp_path.glob('*.py'):
        if sys.modules.pop(f'avsc_jax.models.{path.stem}', None):
            delattr(models, path.stem)


@pytest.mark.parametrize(
    ('name', 'count'),
    [
        ('clip_late_fusion', 1_350_282),
        ('clip_zero_shot', 5_120),
        # the layers of the paper's figures
        ('feng_early', 691_338),
        ('feng_intermediate', 692_874),
        ('feng_late_concat', 694_502),
        ('feng_late_mean', 694_292),
        ('feng_weighted', 537_630),
        ('feng_audio', 429_194),
        ('feng_video', 429_194),
        ('hou_final', 27_729_226),
        ('hou_model_1', 26_280_010),
        ('hou_model_3', 26_544_458),
        ('hou_model_4', 26_544_458),
        # the published checkpoints
        ('yamnet', 3_729_481),
        ('openl3_baseline_audio', 338_634),
        ('openl3_baseline_video', 338_634),
        ('openl3_baseline_early', 600_778),
        ('openl3_baseline_audio_video', 34_186),
    ],
)
def test_parameter_counts_are_the_published_ones(name, count, parameters):
    assert parameters(name) == count


def test_the_list_is_sorted_and_every_name_has_an_input():
    names = models.list_models()
    assert names == sorted(names)
    for name in names:
        assert all(spec.shape[0] == 1 for spec in jax.tree.leaves(models.input_spec(name)))


@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGER)) for name in NAMES]
)
def test_every_network_gives_an_embedding(name, outline):
    (first, out), variables = outline(name)
    assert first.shape[0] == out['embedding'].shape[0] == 1
    assert set(variables) <= {'params', 'batch_stats'}


@pytest.mark.parametrize(
    'token',
    [
        pytest.param(token, marks=[pytest.mark.slow] * (token in LARGER))
        for token in ioacas_image.NETWORKS
    ],
)
def test_hybrids_take_the_embeddings_of_their_image_networks(token, outline):
    name, _, width = ioacas_image.NETWORKS[token]
    (_, out), _ = outline(name)
    assert out['embedding'].shape == (1, width)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'clip_rn100'; the nearest names are clip_rn101, "):
        models.create_model('clip_rn100')


def test_a_network_is_made_by_the_name_of_any_of_its_weights():
    tagged = [name for name in models.published_sources() if '.' in name]
    assert {'hrnet_w18.ms_in1k', 'tf_efficientnet_b5.ra_in1k'} <= {*tagged}
    for name in tagged:
        assert models.create_model(name) == models.create_model(name.partition('.')[0])
        assert models.source_of(name).hub == f'timm/{name}/model.safetensors'
    with pytest.raises(ValueError, match=r"no model is called 'hrnet_w18\.ms_in21k'"):
        models.create_model('hrnet_w18.ms_in21k')


def test_an_unknown_option_is_answered_with_the_allowed_ones():
    allowed = 'attention, dropout, encoders, frames, num_classes, widths'
    with pytest.raises(ValueError, match=f'no option depth; its options are {allowed}$'):
        models.create_model('clip_late_fusion', depth=3)


def test_init_is_decided_by_the_seed():
    model = models.create_model('clip_late_fusion', widths=(8, 4, 4))
    first, again = models.init(model, 1), models.init(model, jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    kernels = [models.init(model, seed)['params']['head']['kernel'] for seed in (1, 2)]
    assert not np.array_equal(*kernels)
    shapes = models.variable_shapes(model)
    assert jax.tree.map(np.shape, first) == jax.tree.map(lambda leaf: leaf.shape, shapes)


def test_init_takes_a_name():
    shapes = jax.eval_shape(lambda: models.init('clip_late_fusion'))
    assert shapes['params']['clip_rn50x4']['fc1']['kernel'].shape == (640, 512)


def test_listing_models_does_not_import_transformers():
    code = (
        'import sys; from avsc_jax import models; '
        'models.count_parameters("clip_rn101", width=8, layers=(1, 1, 1, 1), image_size=32); '
        'print("transformers" in sys.modules, "torch" in sys.modules)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert re.fullmatch('False False', done.stdout.strip())


def test_every_file_of_a_network_can_be_imported():
    assert models._gathered().failures == {}


def test_files_are_gathered_once():
    assert weights.SOURCES is models.published_sources()


def test_a_file_is_all_that_a_network_takes(folder):
    (folder / 'tiny_networks.py').write_text(WORKING)
    assert 'tiny' in models.list_models()
    model = models.create_model('tiny', width=8)
    assert models.input_spec('tiny').shape == (1, 224, 224, 3)
    assert models.source_of('tiny').addresses == [
        'https://huggingface.co/timm/tiny.in1k/resolve/main/model.safetensors'
    ]
    assert weights.SOURCES['tiny'].crop_fraction == 0.9
    rules, ignore, renamed = models.rules_of(model)
    assert [rule.pattern for rule in rules] == [r'fc\.weight', r'fc\.bias']
    bias = np.ones(1)
    assert ignore == () and renamed({'fc.bias': bias}) == {'fc.bias': bias}


def test_a_broken_file_is_warned_of_once_and_leaves_the_other_networks(folder):
    (folder / 'broken.py').write_text('import nothing_of_this_name\n')
    (folder / 'works.py').write_text(WORKING)
    why = "ModuleNotFoundError: No module named 'nothing_of_this_name'"
    with pytest.warns() as told:
        assert models.list_models() == sorted([*NAMES, 'tiny'])
        assert weights.SOURCES.keys() == {*PUBLISHED, 'tiny'}
        models.create_model('resnet18')
    (warning,) = told
    assert f'not imported: {folder / "broken.py"} ({why})' in str(warning.message)


@pytest.mark.parametrize(
    ('content', 'error'),
    [
        ('MODELS = {nothing_of_this_name: 1}', NameError),
        ("MODELS = {'tiny': ", SyntaxError),
        ('from avsc_jax.models.resnet import nothing_of_this_name', ImportError),
        ("raise ValueError('a fault of its own')", ValueError),
    ],
)
def test_asking_for_a_network_of_a_broken_file_raises_the_file_s_own_error(folder, content, error):
    (folder / 'broken.py').write_text(content)
    with pytest.warns(RuntimeWarning, match=rf'broken.py \({error.__name__}: '):
        models.list_models()
    why = rf'tiny.*; not imported: .*broken.py \({error.__name__}: '
    for function in (models.create_model, models.input_spec, models.source_of):
        with pytest.raises(ImportError, match=why) as raised:
            function('tiny')
        assert type(raised.value.__cause__) is error
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert models.source_of('resnet18').hub.startswith('timm/resnet18')


def test_a_mistyped_name_beside_a_broken_file_is_a_sentence_with_the_nearest_one(folder):
    (folder / 'broken.py').write_text('1 / 0')
    with pytest.warns(RuntimeWarning, match='broken.py'):
        models.list_models()
    for function in (models.create_model, models.source_of):
        with pytest.raises(ValueError, match=r'mean resnest50d\?\); not imported: .*broken\.py'):
            function('resnest50dd')


def test_two_broken_files_are_both_the_cause(folder):
    (folder / 'broken.py').write_text('1 / 0')
    (folder / 'torn.py').write_text("{}['a']")
    both = r'broken.py \(ZeroDivisionError: .*, .*torn.py \(KeyError: '
    with pytest.warns(RuntimeWarning, match=both):
        models.list_models()
    with pytest.raises(ImportError, match=both) as error:
        models.create_model('tiny')
    causes = error.value.__cause__.exceptions
    assert [type(cause) for cause in causes] == [ZeroDivisionError, KeyError]


def test_a_network_of_a_file_without_rules_has_nothing_to_convert():
    model = models.create_model('feng_early')
    with pytest.raises(ValueError, match='no weights are published for feng: nothing to convert'):
        models.rules_of(model)


def test_a_network_of_too_large_an_input_ends_before_it_makes_anything_of_its_size():
    model = models.create_model('swin_tiny_patch4_window7_224', image_size=100_000)
    with pytest.raises(ValueError, match=r'Swin.* has an input of .*; at most 4,194,304 values'):
        models.variable_shapes(model)


def test_a_network_of_too_many_layers_ends_before_it_is_whole(monkeypatch):
    monkeypatch.setattr(models, 'MAX_LAYERS', 5)
    with pytest.raises(ValueError, match='ResNet has more than 5 layers; check its options'):
        models.variable_shapes(models.create_model('resnet18', num_classes=3, width=2))
    with pytest.raises(ValueError, match='option layers with the number 1001; it must be at most'):
        models.create_model('resnet18', layers=[1, 1001, 1, 1])
