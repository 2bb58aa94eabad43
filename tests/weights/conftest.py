"""Other libraries' networks, for the tests marked `parity`."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / 'benchmarks'))  # where torch_peers lies

import torch_peers


@pytest.fixture
def torchvision() -> ModuleType:
    return torch_peers.import_torchvision()


@pytest.fixture
def open_clip() -> ModuleType:
    return torch_peers.import_open_clip()


@pytest.fixture
def timm() -> ModuleType:
    return torch_peers.import_timm()


@pytest.fixture
def randomized():
    """Fills every tensor of a torch network at random, running statistics too; returns them."""
    import torch

    def values(name, tensor, generator):
        normal = torch.randn(tensor.shape, generator=generator)
        if name.endswith('running_var'):
            return 0.5 + torch.rand(tensor.shape, generator=generator)
        if tensor.ndim > 1:  # without a mean, so that deep networks still tell images apart
            normal -= normal.mean(dim=tuple(range(1, tensor.ndim)), keepdim=True)
            return normal * (3 / tensor[0].numel()) ** 0.5
        if name.endswith('weight'):  # of a norm; little at the end of a residual branch
            return (1 + 0.2 * normal) * (0.2 if '.bn3.' in name and 'layer' in name else 1)
        return 0.1 * normal

    def fill(network) -> dict[str, np.ndarray]:
        generator = torch.Generator().manual_seed(0)
        state = network.state_dict()
        for name, tensor in state.items():
            if tensor.is_floating_point() and tensor.ndim:
                tensor.copy_(values(name, tensor, generator))
        return {name: tensor.numpy() for name, tensor in state.items()}

    return fill
