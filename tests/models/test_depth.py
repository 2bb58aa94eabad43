import re

import flax.linen as nn
import pytest
from flax import traverse_util

from avsc_jax import models
from avsc_jax.layers.linear import Linear
from avsc_jax.models import depth


def groups(name, **options):
    """(top-level names of each group, the first group of the last stage)."""
    model = models.create_model(name, num_classes=10, **options)
    found = depth.of(model, models.variable_shapes(model)['params'])
    names = [set() for _ in range(found.count)]
    for path, group in traverse_util.flatten_dict(found.group).items():
        names[group].add(path[0])
    return names, found.last_stage


def test_blocks_are_groups_between_stem_and_head():
    names, last = groups('resnet18')
    blocks = [{f'layer{stage}_{index}'} for stage in (1, 2, 3, 4) for index in (0, 1)]
    assert names == [{'conv1', 'bn1'}, *blocks, {'head'}] and last == 7


def test_what_merges_maps_belongs_to_the_block_behind_it_and_the_last_norm_to_the_last_block():
    names, last = groups('swin_tiny_patch4_window7_224')
    assert names[3] == {'layers_1_downsample', 'layers_1_blocks_0'}
    assert names[-2:] == [{'layers_3_blocks_1', 'norm'}, {'head'}] and last == len(names) - 3


def test_numbers_count_as_numbers():
    names, _ = groups('regnetx_064')
    order = [*map(frozenset, names)]
    assert order.index({'s3_b9'}) + 1 == order.index({'s3_b10'})


def test_streams_side_by_side_are_one_group():
    names, last = groups('clip_late_fusion')
    assert names == [{'clip_rn50x4', 'clip_rn101', 'clip_vit_b32'}, {'fusion'}, {'head'}]
    assert last == 1


# A small network of each class that configs train, so not CLIP's and OpenL3's.
OTHERS = r'clip_(?!late)|openl3_(audio|image)$|probe|.*efficientnet(_b[15]|v2)|hrnet_w18$'
NAMES = {
    type(models.create_model(name)): name
    for name in reversed(models.list_models())
    if not re.match(OTHERS, name)
}.values()


@pytest.mark.parametrize('name', NAMES)
def test_every_network_that_configs_train_knows_its_order(name):
    names, last = groups(name)
    assert names[-1] == {'head'} and all(names) and 0 <= last < len(names) - 1


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Linear(2, name='head')(Linear(3, name='first')(x))


def test_an_unknown_order_is_a_sentence():
    params = {'first': {'kernel': 0}, 'head': {'kernel': 0}}
    with pytest.raises(
        ValueError, match='the order of the layers of Plain is not known; add DEPTH'
    ):
        depth.of(Plain(), params)
    Plain.DEPTH = ('second',)
    with pytest.raises(ValueError, match='first/kernel is in no group of the DEPTH of Plain'):
        depth.of(Plain(), params)
