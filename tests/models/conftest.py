"""timm's networks as the reference of ours: the same weights, pictures and labels, drawn by name.

`make_goldens.py` beside this file writes what timm answers to small pictures into `goldens/`; the
default tests compare with those files, and the tests marked `parity` with timm itself. EfficientAT
stands for timm where a row says so: its own code, in a clone that AVSC_EFFICIENTAT names.
"""

import contextlib
import functools
import json
import math
import re
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # before the other backbones.py, of benchmarks
sys.path.append(str(Path(__file__).parents[2] / 'benchmarks'))  # where torch_peers lies

import torch_peers
from backbones import BACKBONES, SIDE

GOLDENS = Path(__file__).parent / 'goldens'
NUM_CLASSES = 10
RATE, DECAY = 1e-4, 1e-2  # of a twin's training; the papers' decay would hardly show
ROWS = 4  # of the golden files' pictures
VALUES_PER_OUTPUT, VALUES_PER_LEAF = 64, 4


# The last norm of a residual branch, where branches of full size would let float32's rounding grow
# to 1e-2 on the way through: timm's own answers differ that much from float64's.
RESIDUAL_END = re.compile(
    r'blocks\.(0\.1\.bn1|[12]\.[1-9]\d*\.bn2|\d+\.[1-9]\d*\.bn3)\.weight'
    r'|layer\d\.\d+\.bn3\.weight|s\d\.b\d+\.conv3\.bn\.weight'
    r'|stage\d\.\d\.(branches\.\d\.\d\.bn2|fuse_layers\.[\d.]*\.1)\.weight'
    r'|features\.\d+\.block\.[23]\.1\.weight'
)


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The values of a source network's tensor, decided by its name and shape alone."""
    draw = np.random.default_rng(zlib.crc32(f'{name} {shape}'.encode()))
    normal = draw.standard_normal(shape)
    if name.endswith('running_var'):
        values = 0.5 + draw.random(shape)
    elif len(shape) > 1:  # without a mean, so that deep networks still tell pictures apart
        normal -= normal.mean(axis=tuple(range(1, len(shape))), keepdims=True)
        values = normal * (3 / np.prod(shape[1:])) ** 0.5
    else:
        values = 1 + 0.2 * normal if name.endswith('weight') else 0.1 * normal
        if RESIDUAL_END.fullmatch(name):
            # EfficientNetV2 has 40 blocks, and gates that feed on what they let through.
            values = (0.1 if name.startswith('blocks') else 0.2) * values
    return values.astype(np.float32)


def pictures(
    rows: int = ROWS, height: int = SIDE, width: int = SIDE, channels: int = 3
) -> np.ndarray:
    """Random colours, the same in patches of 4 by 4 and a little noise on top."""
    draw = np.random.default_rng(0)
    coarse = draw.standard_normal((rows, -(-height // 4), -(-width // 4), channels))
    images = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]
    return (images + 0.3 * draw.standard_normal(images.shape)).astype(np.float32)


def pictures_of(name: str, *shape: int) -> np.ndarray:
    """Pictures with the channels of a network; see `pictures`."""
    rows, height, width = shape or (ROWS, SIDE, SIDE)
    return pictures(rows, height, width, BACKBONES[name].channels)


def peer_network(name: str) -> Any:
    """The untrained network of timm or of EfficientAT that goes by our name."""
    row = BACKBONES[name]
    if row.peer == 'timm':
        options = {'num_classes': NUM_CLASSES, **row.timm_options}
        return torch_peers.create_timm(row.name or name, **options)
    source, width = torch_peers.import_efficientat('models.mn.model'), int(name[2:4]) / 10
    with contextlib.redirect_stdout(None):  # it prints the network
        network = source.get_model(num_classes=NUM_CLASSES, width_mult=width)
    network.classifier[4].p = 0.0  # of the dropout
    return network


def timm_network(name: str) -> Any:
    """The peer's network with drawn weights and statistics, and their shapes by name.

    It computes in float64, for in float32 its own rounding would be half of what is compared.
    """
    network = peer_network(name)
    import torch

    shapes = {}
    for key, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            shapes[key] = tuple(tensor.shape)
            tensor.copy_(torch.from_numpy(drawn(key, shapes[key])))
    for module in network.modules():
        if type(module).__name__ == 'HighResolutionModule':
            cut_what_overhangs(module)
    return network.double(), shapes


def cut_what_overhangs(module: Any) -> None:
    """Lets timm's HRNet take images of any sides: else it fails where a halved side was odd."""
    sides = []
    module.register_forward_pre_hook(
        lambda _, inputs: sides.__setitem__(slice(None), [x.shape[2:] for x in inputs[0]])
    )
    for to, row in enumerate(module.fuse_layers):
        for enlarging in row[to + 1 :]:
            enlarging.register_forward_hook(
                lambda _, __, x, to=to: x[:, :, : sides[to][0], : sides[to][1]]
            )


def smoothed(network: Any) -> Any:
    """The network with SiLU for ReLU.

    The gradients of a ReLU whose input is 0 but for rounding are one thing or another: in float32
    timm's HRNet is off by 5e-2 from its own in float64. By SiLU they can be compared.
    """
    import torch

    for module in network.modules():
        for name, child in module.named_children():
            if type(child) is torch.nn.ReLU:
                setattr(module, name, torch.nn.SiLU())
    return network.train()


def by_timm(name: str, images: np.ndarray, *, train: bool = True) -> tuple[dict, dict]:
    """What timm's network answers, and its tensors' shapes by name.

    The answer has `eval/logits`, `eval/<stage>` and, with `train`, the same with the batch's
    statistics and `smoothed`, `gradient/<tensor>` of the mean cross entropy, and
    `statistic/<tensor>`, the running statistics after that one step.
    """
    import torch

    network, shapes = timm_network(name)
    answer = {}

    def keep(key, value):
        if isinstance(value, tuple):  # EfficientAT's, logits and features
            value = value[0]
        if isinstance(value, list):
            for index, one in enumerate(value):
                keep(f'{key}_{index}', one)
        elif value.ndim == 4 and not BACKBONES[name].channels_last:
            answer[key] = value.detach().permute(0, 2, 3, 1).numpy()
        else:
            answer[key] = value.detach().numpy()

    modules = dict(network.named_modules())
    mode = ''
    for stage in BACKBONES[name].modules:
        modules[stage].register_forward_hook(
            lambda _, __, value, stage=stage: keep(f'{mode}/{stage.replace(".", "_")}', value)
        )
    x = torch.from_numpy(images).double().permute(0, 3, 1, 2)
    network.eval()
    mode = 'eval'
    with torch.no_grad():
        keep('eval/logits', network(x))
    if train:
        mode = 'train'
        logits = smoothed(network)(x)
        logits = logits[0] if isinstance(logits, tuple) else logits
        keep('train/logits', logits)
        torch.nn.functional.cross_entropy(logits, torch.arange(len(x)) % NUM_CLASSES).backward()
        for key, parameter in network.named_parameters():
            answer[f'gradient/{key}'] = parameter.grad.numpy()
        for key, value in network.named_buffers():
            if key in shapes:
                answer[f'statistic/{key}'] = value.numpy()
    return answer, shapes


def by_us(name: str, shapes: dict, images: np.ndarray, *, train: bool = True) -> dict:
    """What our network answers with the same weights, under the same keys as timm's."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import optax

    from avsc_jax import models, weights

    options = {'num_classes': NUM_CLASSES, **BACKBONES[name].options}
    name = BACKBONES[name].name or name
    model = models.create_model(name, **options)
    # Each conversion asks for the shapes of the network's variables: it is traced for the first.
    traced = mock.patch.object(models, 'variable_shapes', functools.cache(models.variable_shapes))
    state = {key: drawn(key, shape) for key, shape in shapes.items()}
    with traced:
        variables = weights.convert(name, state, **options)
    labels = jnp.arange(len(images)) % NUM_CLASSES

    def loss(params, variables, x):
        variables = {**variables, 'params': params}
        with mock.patch.object(nn, 'relu', nn.silu):
            (logits, out), new = model.apply(variables, x, train=True, mutable=['batch_stats'])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), ({'logits': logits, **out}, new)

    @jax.jit
    def run(variables, x):
        logits, out = model.apply(variables, x)
        answer = {'eval': {'logits': logits, **out}}
        if train:
            grad = jax.grad(loss, has_aux=True)
            gradients, (answer['train'], new) = grad(variables['params'], variables, x)
            answer['leaves'] = {'params': gradients, **new}
        return answer

    answer = jax.tree.map(np.asarray, run(variables, images))
    flat = {f'{m}/{key}': v for m in ('eval', 'train') for key, v in answer.get(m, {}).items()}
    with traced:
        leaves = as_source(name, answer.get('leaves'), shapes, options)
    for key, value in leaves.items():
        kind = 'statistic' if 'running_' in key else 'gradient'
        flat[f'{kind}/{key}'] = value
    return flat


def as_source(name: str, leaves: dict | None, shapes: dict, options: dict) -> dict:
    """Values in the shape of our variables, put back under the source's names and layout.

    Conversion only moves values. So converting each tensor's number, and each value's place in
    its tensor, says where a leaf's values come from.
    """
    import jax

    from avsc_jax import weights

    if leaves is None:
        return {}
    numbers = {
        key: np.full(shape, number, np.float32)
        for number, (key, shape) in enumerate(shapes.items())
    }
    places = {
        key: np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        for key, shape in shapes.items()
    }
    numbers, places = (weights.convert(name, state, **options) for state in (numbers, places))
    source = [np.full(shape, np.nan, np.float32).reshape(-1) for shape in shapes.values()]
    for value, number, place in zip(*map(jax.tree.leaves, (leaves, numbers, places)), strict=True):
        source[int(number.flat[0])][place.astype(int)] = value
    return {
        key: value.reshape(shape)
        for (key, shape), value in zip(shapes.items(), source, strict=True)
    }


def summary(value: np.ndarray, count: int) -> np.ndarray:
    """[largest, root mean square, values at even steps]: what a golden file holds of an array."""
    places = np.linspace(0, value.size - 1, count).astype(int)
    overall = np.abs(value).max(), np.sqrt(np.square(value, dtype=np.float64).mean())
    return np.concatenate([overall, value.reshape(-1)[places]]).astype(np.float32)


def summaries(answer: dict) -> dict:
    """The summary of each array of an answer."""
    counts = {'eval': VALUES_PER_OUTPUT, 'train': VALUES_PER_OUTPUT}
    return {k: summary(v, counts.get(k.split('/')[0], VALUES_PER_LEAF)) for k, v in answer.items()}


def write_golden(path: Path, answer: dict, shapes: dict, versions: dict) -> None:
    """One file of three arrays and a JSON header: a zip entry for each array would be larger."""
    short = summaries(answer)
    outputs = {k: v for k, v in short.items() if len(v) == 2 + VALUES_PER_OUTPUT}
    leaves = {k: v for k, v in short.items() if k not in outputs}
    header = {'versions': versions, 'shapes': shapes, 'keys': [*outputs, *leaves]}
    np.savez_compressed(
        path,
        header=np.frombuffer(json.dumps(header).encode(), np.uint8),
        outputs=np.stack(list(outputs.values())),
        leaves=np.stack(list(leaves.values())),
    )


def read_golden(path: Path) -> tuple[dict, dict]:
    """(summaries by key, shapes by tensor name) of a golden file."""
    with np.load(path) as file:
        header = json.loads(file['header'].tobytes())
        rows = [*file['outputs'], *file['leaves']]
    shapes = {key: tuple(shape) for key, shape in header['shapes'].items()}
    return dict(zip(header['keys'], rows, strict=True)), shapes


def assert_agree(ours: dict, theirs: dict) -> None:
    """Outputs within 1e-4 of timm's largest value, train mode and gradients within 1e-3.

    float32 over dozens of layers: eval mode has 1e-6 to 1e-5; batch statistics amplify. A
    gradient that is zero but for rounding is compared with the largest of the network, at 1e-6.
    """
    missing = theirs.keys() - ours.keys()
    assert not missing, missing
    largest = max(
        (np.abs(v).max() for k, v in theirs.items() if k.startswith('gradient')), default=0
    )
    worst = {}
    for key, expected in theirs.items():
        kind, _, name = key.partition('/')
        assert ours[key].shape == expected.shape, (key, ours[key].shape, expected.shape)
        scale = np.abs(expected).max() + (1e-3 * largest if kind == 'gradient' else 0)
        error = np.abs(ours[key] - expected).max() / scale
        worst.setdefault(kind, []).append((error, name))
    for kind, errors in worst.items():
        error, name = max(errors)
        print(f'{kind}: largest relative error {error:.1e} ({name}) of {len(errors)}')
        assert error < (1e-4 if kind == 'eval' else 1e-3), (kind, name)


@pytest.fixture(scope='session')
def parameters(outline) -> Callable[..., int]:
    """Number of a network's trainable values, by its name, with the classes that are asked for.

    A class more or less is one more or less for each value of the embedding, and a bias.
    """

    import jax

    def count(name, num_classes=None):
        (logits, out), variables = outline(name)
        total = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables['params']))
        if num_classes is None:
            return total
        return total + (num_classes - logits.shape[1]) * (out['embedding'].shape[1] + 1)

    return count


@pytest.fixture(scope='session')
def leaves(outline) -> Callable[[str], set[str]]:
    """The paths of a network's variables, by its name."""

    from flax import traverse_util

    @functools.cache
    def paths(name):
        _, variables = outline(name)
        return set(traverse_util.flatten_dict(variables, sep='/'))

    return paths


@pytest.fixture
def agrees_with_golden() -> Callable[..., None]:
    """Compares our network of a name with what timm's answered once, for small pictures."""

    def check(name, *, train=True):
        theirs, shapes = read_golden(GOLDENS / f'{name}.npz')
        theirs = {k: v for k, v in theirs.items() if train or k.startswith('eval')}
        assert_agree(summaries(by_us(name, shapes, pictures_of(name), train=train)), theirs)

    return check


@pytest.fixture
def agrees_with_timm() -> Callable[..., None]:
    """Compares our network of a name with timm's, on pictures of any size, every value."""

    def check(name, height, width, *, rows=2, train=False):
        images = pictures_of(name, rows, height, width)
        theirs, shapes = by_timm(name, images, train=train)
        assert_agree(by_us(name, shapes, images, train=train), theirs)

    return check


@pytest.fixture
def agrees_with_twin() -> Callable[..., None]:
    """Compares a network of ours with layers of PyTorch that carry the same random weights.

    The answers; and, with SiLU for ReLU (see `smoothed`), those with the batch's statistics, every
    gradient of the mean cross entropy, and what 20 steps of Adam with coupled decay leave behind.
    """

    def check(name, layers, forward, inputs, /, **options):
        import flax.linen as nn
        import jax
        import optax
        import torch
        from flax import traverse_util

        from avsc_jax import models
        from avsc_jax.training.optimizer import make_optimizer

        model = models.create_model(name, **options)
        shapes = traverse_util.flatten_dict(models.variable_shapes(model), sep='/')
        leaves = {path: drawn_leaf(path, leaf.shape) for path, leaf in shapes.items()}
        labels = np.arange(len(next(iter(inputs.values())))) % NUM_CLASSES
        # In float64, for in float32 PyTorch's own rounding would be half of what is compared.
        network = torch.nn.ModuleDict(layers).double()
        network.load_state_dict({**network.state_dict(), **in_pytorch(leaves)})
        settings = {
            'optimizer': 'adam',
            'learning_rate': RATE,
            'drop_at': (),
            'weight_decay': DECAY,
        }
        optimizer, _ = make_optimizer(settings, 1)

        @jax.jit
        def step(variables, state, inputs):
            def loss(params):
                state = {**variables, 'params': params}
                with mock.patch.object(nn, 'relu', nn.silu):
                    (logits, _), new = model.apply(
                        state, inputs, train=True, mutable=['batch_stats']
                    )
                losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
                return losses.mean(), (logits, new)

            grads, (logits, new) = jax.grad(loss, has_aux=True)(variables['params'])
            updates, state = optimizer.update(grads, state, variables['params'])
            params = optax.apply_updates(variables['params'], updates)
            return {**variables, **new, 'params': params}, state, grads, logits

        adam = torch.optim.Adam(
            [value for value in network.parameters() if value.requires_grad],
            lr=RATE,
            weight_decay=DECAY,
        )
        tensors = {key: torch.from_numpy(value).double() for key, value in inputs.items()}
        variables = traverse_util.unflatten_dict(leaves, sep='/')
        state = optimizer.init(variables['params'])
        network.eval()
        assert_near(model.apply(variables, inputs)[0], forward(network, tensors).detach(), 'answer')
        for index in range(20):
            variables, state, grads, logits = step(variables, state, inputs)
            with mock.patch.object(torch.Tensor, 'relu', torch.nn.functional.silu):
                expected = forward(network.train(), tensors)
            adam.zero_grad()
            torch.nn.functional.cross_entropy(expected, torch.from_numpy(labels)).backward()
            if index == 0:
                assert_near(logits, expected.detach(), 'answer in training')
                grads = traverse_util.flatten_dict({'params': grads}, sep='/')
                theirs = dict(network.named_parameters())
                for key, grad in in_pytorch(grads).items():
                    assert_near(grad, theirs[key].grad, f'gradient of {key}')
            adam.step()
        theirs = network.state_dict()
        for key, value in in_pytorch(traverse_util.flatten_dict(variables, sep='/')).items():
            # Running variances are of values to which many parameters' differences add up. And
            # Adam's first step goes as far as any where the gradient is no more than rounding.
            far = abs(value - theirs[key]) > (1e-4 if 'running' in key else 1e-5)
            assert far.double().mean() < 1e-4, f'{key}: {int(far.sum())} of {far.numel()} differ'

    def assert_near(ours, theirs, what):
        scale = max(1.0, float(abs(theirs).max()))
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-5 * scale, err_msg=what)

    return check


def drawn_leaf(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """The values of a variable of ours, decided by its path and shape alone."""
    draw, leaf = np.random.default_rng(zlib.crc32(path.encode())), path.rpartition('/')[2]
    if leaf == 'var':
        return draw.uniform(0.5, 1.5, shape).astype(np.float32)
    values = draw.standard_normal(shape)
    if leaf == 'kernel':
        return (values * np.prod(shape[:-1]) ** -0.5).astype(np.float32)
    return (values * 0.1 + (leaf == 'scale')).astype(np.float32)


def in_pytorch(leaves: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """`module.tensor` of PyTorch, with the module's path of ours -> value, of our variables."""
    import torch

    tensors = {'kernel': 'weight', 'scale': 'weight', 'mean': 'running_mean', 'var': 'running_var'}
    state = {}
    for path, value in leaves.items():
        *parts, leaf = (p for p in path.split('/') if p not in ('params', 'batch_stats'))
        value = np.array(value)
        if leaf == 'kernel':
            value = np.moveaxis(value, (-1, -2), (0, 1))
        state[f'{"/".join(parts)}.{tensors.get(leaf, leaf)}'] = torch.tensor(value)
    return state
