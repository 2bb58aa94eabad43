"""Writes goldens/<name>.npz, what timm's small networks answer to small pictures.

Needs torch and timm: `PYTHONPATH=. python tests/models/make_goldens.py [name ...]`. Those of
EfficientAT (mn10_as and mn01_as, made at its commit a425fdc) also need its clone: say its folder
by AVSC_EFFICIENTAT.
"""

import sys

from conftest import BACKBONES, GOLDENS, by_timm, pictures_of, torch_peers, write_golden


def main(names: list[str]) -> None:
    import torch

    GOLDENS.mkdir(exist_ok=True)
    versions = {'torch': torch.__version__, 'timm': torch_peers.import_timm().__version__}
    for name in names:
        path = GOLDENS / f'{name}.npz'
        write_golden(path, *by_timm(name, pictures_of(name)), versions)
        print(f'{path}: {path.stat().st_size:,} bytes')


if __name__ == '__main__':
    main(sys.argv[1:] or [name for name, row in BACKBONES.items() if row.golden])
