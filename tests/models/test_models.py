import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from avsc_jax import models
from avsc_jax.configs import ioacas_image


@pytest.mark.parametrize(
    ('name', 'count'),
    [
        ('clip_late_fusion', 1_350_282),
        ('clip_rn101', 56_259_936),
        # with the image towers and a temperature, the 151,277,313 of OpenAI's ViT-B/32
        ('clip_rn101_text', 63_428_096),
        ('clip_rn50x4_text', 91_163_520),
        ('clip_vit_b32_text', 63_428_096),
        ('clip_zero_shot', 5_120),
        ('clip_rn50x4', 87_137_080),
        ('clip_vit_b32', 87_849_216),
    ],
)
def test_parameter_counts_are_the_published_ones(name, count, parameters):
    assert parameters(name) == count


def test_the_list_is_sorted_and_every_name_has_an_input():
    names = models.list_models()
    assert names == sorted(names)
    for name in names:
        assert all(spec.shape[0] == 1 for spec in jax.tree.leaves(models.input_spec(name)))


@pytest.mark.parametrize('name', models.list_models())
def test_every_network_gives_an_embedding(name, outline):
    (first, out), variables = outline(name)
    assert first.shape[0] == out['embedding'].shape[0] == 1
    assert set(variables) <= {'params', 'batch_stats'}


@pytest.mark.parametrize('token', ioacas_image.NETWORKS)
def test_hybrids_take_the_embeddings_of_their_image_networks(token, outline):
    name, _, width = ioacas_image.NETWORKS[token]
    (_, out), _ = outline(name)
    assert out['embedding'].shape == (1, width)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'clip_rn100'; the nearest names are clip_rn101, "):
        models.create_model('clip_rn100')


def test_an_unknown_option_is_answered_with_the_allowed_ones():
    allowed = 'dropout, encoders, num_classes, widths'
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
