"""Two commands that write one file: the second is refused."""

import os

import pytest

from avsc_jax.predict import outputs
from avsc_jax.runtime import files


def test_the_second_writer_of_an_output_is_refused_with_the_first_one_s_process(tmp_path):
    journal, table = tmp_path / 'a.jsonl', tmp_path / 'a.csv'
    (tmp_path / 'linked.jsonl').symlink_to(journal)
    wanted = f'is in use by process {os.getpid()} on .*; wait until it has ended, or name another'
    with outputs.alone([journal, table, None, table]):
        for paths in ([journal], [None, table], [tmp_path / 'linked.jsonl']):
            with pytest.raises(files.Busy, match=wanted), outputs.alone(paths):
                pytest.fail('two write it')
        with outputs.alone([tmp_path / 'other.csv', None]):
            pass
    with outputs.alone([journal, table]):
        pass
    assert not [*tmp_path.glob('*.lock')]
