"""Counts the cost of each trained network: parameters, memory of a step, arithmetic, rows/s.

    pip install -e . && python benchmarks/costs.py [--tflops=100] [--only=joint] [--check]

All of it is counted from shapes, none of it is measured. `--tflops` is the arithmetic that a device
is assumed to do in a second: rows a second are that over three times the forward pass of a row, as
a backward pass takes two. With `--check`, XLA's count of the memory of a compiled step stands
beside ours, for networks that this machine compiles in seconds.
"""

import argparse
import importlib

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from avsc_jax import models
from avsc_jax.models import build
from avsc_jax.training import config as fields
from avsc_jax.training import encoder_sizes, step_memory

# Config file -> its tokens
SYSTEMS = (
    ('clip_fusion', ''),
    ('hitachi_audio', 'regnetx_064'),
    ('hitachi_audio', 'resnest50d'),
    ('hitachi_audio', 'tf_efficientnet_b1_ns'),
    ('efficientat_audio', 'mn10_as'),
    ('hitachi_image', 'regnetx_064'),
    ('hitachi_image', 'resnest50d'),
    ('hitachi_image', 'hrnet_w18'),
    ('openl3_baseline', 'audio_video'),
    ('feng_fusion', 'weighted'),
    ('hou_dual_stream', 'final'),
    ('ioacas_audio', 'resnet1d,logmel'),
    ('ioacas_image', 'resnet50'),
    ('ioacas_image', 'tf_efficientnet_b5'),
    ('ioacas_image', 'tf_efficientnetv2_s'),
    ('ioacas_image', 'swin_tiny'),
    ('ioacas_fusion', 'resnet50,logmel'),
    ('late_fusion', 'clip_vit_l14+mn10_as,attention'),
    ('joint_fusion', 'tf_efficientnetv2_s,resnet1d'),
)
CHECKED = ('resnet18', 'regnetx_002', 'swin_tiny_patch4_window7_224')


def settled(file: str, tokens: str) -> ConfigDict:
    """Returns a config with its defaults, at full size."""
    config = importlib.import_module(f'avsc_jax.configs.{file}').get_config(tokens)
    if config.model.name in encoder_sizes.NETWORKS:
        with config.unlocked():
            encoder_sizes.settle(config)
    return fields.filled(config)


def forward_flops(config: ConfigDict) -> float:
    """Counts the floating-point operations of the forward pass of one row."""
    model = build.make_model(config.model.to_dict(), num_classes=10)
    one = step_memory.batch_of(config, model, 1)
    lowered = jax.jit(model.apply).lower(models.variable_shapes(model), one)
    return lowered.cost_analysis()['flops']


def line(file: str, tokens: str, tflops: float) -> str:
    """Returns a system's line of the table."""
    config = settled(file, tokens)
    model = build.make_model(config.model.to_dict(), num_classes=10)
    memory, flops = step_memory.count(config, model), forward_flops(config)
    half = ConfigDict({**config.to_dict(), 'precision': 'bfloat16'})
    gigabytes = [sum(each) / 1e9 for each in (memory, step_memory.count(half, model))]
    cards = [f'{card}' for card in step_memory.CARDS_GB if memory.fits(card)] or ['none']
    return (
        f'| `{file}.py{":" * bool(tokens)}{tokens}` | {memory.gradients // 4:,} '
        f'| {config.batch_size} | {gigabytes[0]:.2f} / {gigabytes[1]:.2f} | {", ".join(cards)} '
        f'| {flops / 1e9:.2f} | {tflops * 1e12 / (3 * flops):,.0f} |'
    )


def check(name: str) -> str:
    """Compares our count of a network's step with XLA's, at batches of 8."""
    size = 224 if 'swin' in name else 128
    config = ConfigDict({**settled('hitachi_image', '').to_dict(), 'batch_size': 8})
    config.size, config.model = (size, size), {'name': name}
    model = build.make_model({'name': name}, num_classes=10)
    variables = build.checkpoint_shapes(model)

    def gradient(variables: dict, x: jax.Array) -> dict:
        def loss(params: dict) -> jax.Array:
            given, key = {**variables, 'params': params}, {'dropout': jax.random.key(0)}
            out, _ = model.apply(given, x, train=True, mutable=['batch_stats'], rngs=key)
            return jnp.sum(out[0])

        return jax.grad(loss)(variables['params'])

    batch = step_memory.batch_of(config, model, 8)
    compiled = jax.jit(gradient).lower(variables, batch).compile()
    theirs = compiled.memory_analysis().temp_size_in_bytes
    ours = step_memory.count(config, model).activations
    return f'{name}: XLA {theirs / 1e6:.0f} MB, counted {ours / 1e6:.0f}: {theirs / ours:.2f}'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--tflops', type=float, default=100.0, help='of a device, assumed')
    parser.add_argument('--only', default='', help='systems whose name contains this')
    parser.add_argument(
        '--check', action='store_true', help="compare with XLA's memory on this CPU"
    )
    args = parser.parse_args()
    if args.check:
        print(*map(check, CHECKED), sep='\n')
        return
    rate = f'rows/s at {args.tflops:g} TFLOP/s'
    print(f'| config | parameters | batch | GB of a step, float32 / bfloat16 | cards (GB) '
          f'| GFLOP a row, forward | {rate} |')  # fmt: skip
    print('|---' * 7 + '|')
    for file, tokens in SYSTEMS:
        if args.only in file:
            print(line(file, tokens, args.tflops), flush=True)


if __name__ == '__main__':
    main()
