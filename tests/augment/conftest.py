"""torchvision beside a CPU torch, for the tests marked `parity`."""

from types import ModuleType

import pytest


@pytest.fixture(scope='session')
def torchvision() -> ModuleType:
    """Its transforms v2; built for CUDA, it lacks two operators that these do not use."""
    import torch

    library = torch.library.Library('torchvision', 'FRAGMENT')
    for operator in ('nms', 'qnms'):
        if not hasattr(torch.ops.torchvision, operator):
            library.define(f'{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    import torchvision.transforms.v2

    yield torchvision
