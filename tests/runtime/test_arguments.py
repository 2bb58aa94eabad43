"""A wrong command line is one sentence with the nearest flag or value, and exit code 2."""

import sys

import pytest

from avsc_jax.runtime import arguments, cli


@pytest.fixture
def parser():
    made = arguments.Parser(prog='tag')
    made.add_argument('file')
    made.add_argument('--model', type=int)
    made.add_argument('--gain', choices=['auto', 'none'])
    return made


@pytest.mark.parametrize(
    ('given', 'sentence'),
    [
        (['a', '--modle=3'], 'there is no flag --modle (did you mean --model?)'),
        (['a', '--zzz'], 'there is no flag --zzz'),
        (['a', 'b'], "'b' is one argument too many"),
        (
            ['a', '--gain=Auto'],
            "--gain is 'Auto'; it must be one of auto, none (did you mean auto?)",
        ),
        (['a', '--model=x'], "argument --model: invalid int value: 'x'"),
        ([], 'the following arguments are required: file'),
    ],
)
def test_a_wrong_command_line_is_one_sentence(parser, given, sentence, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['tag', *given])
    assert cli.main(parser.parse_args) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ('', f'error: {sentence} (--help lists the flags)\n')


def test_a_right_command_line_is_read_as_ever(parser):
    assert vars(parser.parse_args(['a', '--gain', 'auto'])) == {
        'file': 'a',
        'model': None,
        'gain': 'auto',
    }
