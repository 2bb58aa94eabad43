"""A part of the campaign of benchmarks/faults.py, by a finished tiny run."""

import random

import faults
import pytest


@pytest.mark.slow
@pytest.mark.parametrize('area', ['files', 'media', 'disk', 'pairs', 'page'])
def test_the_program_survives_a_part_of_the_faults(area, finished_run, data_dir, tmp_path):
    run = finished_run('clip_fusion')
    bench = faults.Bench(tmp_path, data_dir, run, random.Random(0), scale=0.02)
    result = faults.AREAS[area](bench)
    assert result.tries and not result.failures


@pytest.mark.parametrize(
    ('code', 'text', 'fault'),
    [
        (0, 'airport 0.9', ''),
        (1, 'error: a.csv cannot be written', ''),
        (1, 'Traceback (most recent call last):\nKeyError: 3', 'a traceback: KeyError: 3'),
        (0, 'Traceback (most recent call last):\nKeyError: 3', 'a traceback: KeyError: 3'),
        (1, 'lost', 'no sentence at the end: lost'),
        (-11, '', 'exit code -11: no word'),
    ],
)
def test_a_command_ends_well_or_in_one_sentence(code, text, fault):
    assert faults.Ended(code, text).fault == fault
