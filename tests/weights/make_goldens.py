"""Writes goldens/: python tests/weights/make_goldens.py, with torch 2.13.0.

`state` gives what is in them, but for layout and sharing; test_torch_files.py compares.
"""

from collections import OrderedDict
from pathlib import Path

import torch

GOLDENS = Path(__file__).parent / 'goldens'


class Tower(torch.nn.Module):
    """Half precision and dotted names with numbers, as in OpenAI's archives."""

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 2, 1, bias=False)
        self.layer1 = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
        self.conv1.weight.data = torch.tensor([0.5, -0.25]).reshape(2, 1, 1, 1)
        self.layer1[0].weight.data = torch.arange(4.0).reshape(2, 2)
        self.layer1[0].bias.data = torch.tensor([1.0, 2.0])

    def forward(self, x):
        return self.layer1(self.conv1(x).flatten(2).mean(2))


class Clip(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.visual = Tower()
        self.logit_scale = torch.nn.Parameter(torch.tensor(4.5))
        self.register_buffer('input_resolution', torch.tensor(224))

    def forward(self, x):
        return self.visual(x) * self.logit_scale.exp()


def state() -> OrderedDict:
    row = torch.arange(6.0)
    tensors = OrderedDict(
        columns=row.reshape(2, 3).T,
        tail=row[4:],
        every_second=row[::2],
        half=torch.tensor([0.5, -2.0]).half(),
        brain=torch.tensor([1.5, -3.0]).bfloat16(),
        steps=torch.tensor(7),
        flags=torch.tensor([True, False]),
        bytes=torch.tensor([1, 255], dtype=torch.uint8),
        double=torch.tensor([0.1], dtype=torch.float64),
        none=torch.zeros(0, 3),
    )
    tensors['parameter'] = torch.nn.Parameter(torch.ones(2))
    tensors._metadata = OrderedDict({'': {'version': 1}})
    return tensors


if __name__ == '__main__':
    torch.save(state(), GOLDENS / 'zip.pth')
    torch.save(
        {'epoch': 3, 'best': 0.5, 'state_dict': state(), 'optimizer': {'state': {}, 'lr': [0.1]}},
        GOLDENS / 'stream.pth',
        _use_new_zipfile_serialization=False,
    )
    torch.jit.script(Clip().half().eval()).save(GOLDENS / 'script.pt')
