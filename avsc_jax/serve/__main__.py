"""A small local page: drop a clip and see its scenes, when each of them is, and why.

python -m avsc_jax.serve --model=runs/clip_fusion
curl -F file=@clip.mp4 http://127.0.0.1:8000/api/tag

It is for people on this machine. Clips are kept in temporary files while they are tagged, and sent
nowhere.
"""

import argparse
import sys
from pathlib import Path

from avsc_jax.runtime import cli


def main(arguments: list[str]) -> int:
    """Serves the page until Ctrl-C."""
    args = parse(arguments)
    from avsc_jax.serve import command  # loads JAX, which --help does without

    return command.run(args)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog='python -m avsc_jax.serve',
        description='Serves a page for this machine, where one drops a clip and sees its scenes.',
    )
    add = parser.add_argument
    add('--model', type=Path, required=True, help='run folder, of a system or an ensemble')
    add('--host', default='127.0.0.1', help='address to listen at (default 127.0.0.1)')
    add('--port', type=int, default=8000, help='0 for any that is free (default 8000)')
    add('--max_mb', type=float, default=200.0, help='largest clip that is taken (default 200)')
    add('--max_seconds', type=float, default=120.0, help='of work for a clip (default 120)')
    add('--window', type=float, default=10.0, help='seconds of the timeline (default 10)')
    add('--weights_dir', type=Path, help='of the encoders')
    add('--download_weights', action='store_true', help='fetch those that are missing there')
    args = parser.parse_args(arguments)
    for name, low, high in (('window', 0.5, 60), ('max_mb', 0.001, 1e5), ('max_seconds', 1, 1e5)):
        if not low <= (value := getattr(args, name)) <= high:
            raise ValueError(f'--{name} is {value:g}; it must be {low:g} to {high:g}')
    return args


def run() -> None:
    """Console script avsc-serve."""
    sys.exit(cli.main(main))


if __name__ == '__main__':
    run()
