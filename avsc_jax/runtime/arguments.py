"""A parser of command lines whose errors are one sentence, like all errors of our commands."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from avsc_jax.runtime import cli, nearest


class Parser(argparse.ArgumentParser):
    """argparse's parser, which raises `cli.UsageError`, with the nearest name, for a wrong flag.

    Where argparse prints the usage of all flags first, the sentence says which flag is wrong, what
    it may be, and that --help lists the others.
    """

    def parse_args(  # type: ignore[override]  # without a namespace of the caller's
        self, args: Sequence[str] | None = None, namespace: None = None
    ) -> argparse.Namespace:
        """Parses the command line; an unknown flag is an error with the nearest one."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flag = unknown[0].partition('=')[0]
            if flag.startswith('-'):
                known = [known for known in self._option_string_actions if known.startswith('--')]
                self.error(f'there is no flag {flag}{nearest.meant(flag, known)}')
            self.error(f'{unknown[0]!r} is one argument too many')
        return parsed

    def error(self, message: str) -> NoReturn:
        """Raises cli.UsageError, whose process ends with code 2, as argparse's own."""
        raise cli.UsageError(f'{message} (--help lists the flags)')

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None:
            what = '/'.join(action.option_strings) or action.metavar or action.dest
            try:
                nearest.check(str(what), value, [*action.choices])
            except ValueError as error:
                self.error(str(error))
