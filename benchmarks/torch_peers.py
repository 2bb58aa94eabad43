"""timm, open_clip, torchvision and EfficientAT beside a CPU torch, for benchmarks and parity tests.

It lies here because a script finds what lies beside it; the tests' conftest files add this folder
to the path.
"""

import contextlib
import functools
import importlib
import importlib.util
import os
import sys
from pathlib import Path
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


def import_efficientat(module: str) -> ModuleType:
    """A module of fschmid56/EfficientAT, such as 'models.mn.model', from a clone of it.

    Raises:
      LookupError: the variable AVSC_EFFICIENTAT names no clone.
    """
    clone = os.environ.get('AVSC_EFFICIENTAT')
    if not clone or not Path(clone, 'models/mn').is_dir():
        raise LookupError(
            f'AVSC_EFFICIENTAT is {clone!r}; it must be the folder of a clone of '
            'https://github.com/fschmid56/EfficientAT'
        )
    clone = str(Path(clone).absolute())
    define_operators()
    if 'torchaudio' not in sys.modules:
        # Its compiled part loads beside no CPU torch, and mel filters need Python alone.
        spec = importlib.util.find_spec('torchaudio')
        stub = ModuleType('torchaudio')
        stub.__path__ = list(spec.submodule_search_locations) if spec else []
        sys.modules['torchaudio'] = stub
    # its modules are found from its folder, where it also opens files as it is imported
    sys.path.insert(0, clone)
    try:
        with contextlib.chdir(clone):
            return importlib.import_module(module)
    finally:
        sys.path.remove(clone)


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
