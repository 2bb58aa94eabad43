"""timm, open_clip and torchvision beside a CPU torch, for the benchmarks and for the parity tests.

It lies here because a script finds what lies beside it; the tests' conftest files add this folder
to the path.
"""

import functools
from types import ModuleType
from typing import Any

# What timm calls otherwise than we do, and what it sets otherwise by default.
TIMM_NAMES = {'tf_efficientnet_b1_ns': 'tf_efficientnet_b1'}
TIMM_OPTIONS = {'swin_tiny_patch4_window7_224': {'drop_path_rate': 0.0}}


def create_timm(name: str, **options: Any) -> Any:
    """timm's network that goes by our name."""
    options = TIMM_OPTIONS.get(name, {}) | options
    return import_timm().create_model(TIMM_NAMES.get(name, name), **options)


def import_timm() -> ModuleType:
    define_operators()
    import timm

    return timm


def import_open_clip() -> ModuleType:
    define_operators()
    import open_clip

    return open_clip


def import_torchvision() -> ModuleType:
    define_operators()
    import torchvision

    return torchvision


@functools.cache
def define_operators() -> Any:
    """The two operators that a torchvision built for CUDA lacks beside a CPU torch.

    They are there for as long as what this returns, which the cache keeps.
    """
    import torch

    library = torch.library.Library('torchvision', 'FRAGMENT')
    for operator in ('nms', 'qnms'):
        if not hasattr(torch.ops.torchvision, operator):
            library.define(f'{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    return library
