"""`--download`: the right archives, from a local server, and then the build."""

import csv
import hashlib
import http.server
import shutil
import threading
import zipfile
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from absl import flags
from tensorflow_datasets.scripts.cli import cli_utils

from avsc_jax.runtime import download
from tfds_tau import build, fetch
from tfds_tau.tfds_tau_dataset_builder import Builder

DUMMY = Path(fetch.__file__).parent / 'dummy_data'


def test_the_table_holds_what_zenodo_holds_but_the_examples():
    lines = [line for line in fetch.TABLE.read_text().splitlines() if not line.startswith('#')]
    rows = list(csv.DictReader(lines, delimiter='\t'))
    for record, count, total in (('4477542', 26, 107_607_584_857), ('4767103', 16, 61_249_208_474)):
        chosen = [row for row in rows if row['record'] == record]
        assert (len(chosen), sum(int(row['bytes']) for row in chosen)) == (count, total)
    assert len({row['filename'] for row in rows}) == len(rows) == 42
    assert all(len(bytes.fromhex(row['md5'])) == 16 for row in rows)
    assert not any('example' in row['filename'] for row in rows)


@pytest.mark.parametrize(
    ('configs', 'count'),
    [(['clips'], 26), (['frames10', 'segments'], 26), (['evaluation'], 16), (['demo'], 0)],
)
def test_a_config_takes_the_archives_it_is_made_of(configs, count):
    files = fetch.archives(configs, Path('tau'))
    assert len(files) == count
    assert len(fetch.archives(Builder.builder_configs, Path('tau'))) == 42
    if configs == ['clips']:
        name = 'TAU-urban-audio-visual-scenes-2021-development.video.16.zip'
        url = f'https://zenodo.org/record/4477542/files/{name}'
        md5 = '4e1ab47f0d180b818491ef3c3f45ebc6'
        assert files[-1] == (url, Path('tau') / name, 2286205594, md5, None)


@pytest.fixture
def zenodo(tmp_path, monkeypatch):
    """A server with the dummy clips in archives, and the table that describes them."""
    served, table = tmp_path / 'served', ['record\tfilename\tbytes\tmd5']
    for record in (fetch.DEVELOPMENT, fetch.EVALUATION):
        (served / f'record/{record}/files').mkdir(parents=True)
    archives = {'meta': 'evaluation_setup/*', 'audio.1': 'audio/*', 'video.1': 'video/*'}
    for part, pattern in archives.items():
        path = served / f'record/{fetch.DEVELOPMENT}/files/development.{part}.zip'
        with zipfile.ZipFile(path, 'w') as archive:
            for file in DUMMY.glob(pattern):
                archive.write(file, f'TAU/{file.relative_to(DUMMY)}')
    for kind, ending in (('audio', 'wav'), ('video', 'mp4')):
        path = served / f'record/{fetch.EVALUATION}/files/evaluation.{kind}.1.zip'
        with zipfile.ZipFile(path, 'w') as archive:
            archive.write(DUMMY / f'{kind}/bus-london-18-35.{ending}', f'TAU/{kind}/7.{ending}')
    for path in sorted(served.rglob('*.zip')):
        facts = (path.parts[-3], path.name, path.stat().st_size, md5(path))
        table.append('\t'.join(map(str, facts)))
    (tmp_path / 'table.tsv').write_text('\n'.join(table))
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(served))

        def do_GET(self):
            asked.append(self.path.rpartition('/')[2])
            if asked.count(asked[-1]) == 1 and 'audio' in asked[-1]:
                self.send_error(503)  # each archive of sound, the first time
            else:
                super().do_GET()

        def log_message(self, *args):
            pass

    monkeypatch.setattr(download, 'BACK_OFF_S', 0.01)
    monkeypatch.setattr(fetch, 'TABLE', tmp_path / 'table.tsv')
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        monkeypatch.setattr(fetch, 'BASE_URL', f'http://127.0.0.1:{server.server_port}')
        thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.01))
        thread.start()
        server.served, server.asked = served, asked
        yield server
        server.shutdown()
        thread.join()


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def command(*arguments):
    """Runs the build command in this process."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(['test'])
    parse = cli_utils.make_flags_parser(build.Args, description='')
    with pytest.MonkeyPatch.context() as patch:  # the command sets them for its process
        for name in ('workers', 'on_error'):
            patch.setattr(Builder, name, getattr(Builder, name))
        code = build.main(parse(['build', *arguments]))
    tfds.enable_progress_bar()
    return code


def test_a_config_is_fetched_and_built_by_one_command(zenodo, tmp_path, capsys):
    assert command('--config=clips', '--download', f'--data_dir={tmp_path}') == 0
    folder = tmp_path / 'downloads/manual'
    names = ['development.audio.1.zip', 'development.meta.zip', 'development.video.1.zip']
    assert sorted(path.name for path in folder.iterdir()) == names
    assert sorted(zenodo.asked) == sorted([*names, names[0]])
    assert tfds.builder_from_directory(tmp_path / 'tfds_tau/clips/1.0.0').info.splits['train']
    told = capsys.readouterr().err
    assert '3 archives' in told
    assert '0.0 GB, are fetched into' in told
    assert 'non-commercial use only' in told
    zenodo.asked.clear()
    assert command('--config=clips', '--download', f'--data_dir={tmp_path}') == 0
    assert zenodo.asked == []


def test_the_named_folder_is_filled_with_all_that_every_config_needs(zenodo, tmp_path):
    fetch.fetch(Builder.builder_configs, tmp_path / 'mine')
    assert len(list((tmp_path / 'mine').glob('*.zip'))) == 5
    shutil.rmtree(tmp_path / 'mine')
    folder = f'--manual_dir={tmp_path}/mine'
    code = command('--config=evaluation', '--download', f'--data_dir={tmp_path}', folder)
    assert code == 0
    assert len(list((tmp_path / 'mine').glob('*.zip'))) == 2
    assert (tmp_path / 'tfds_tau/evaluation/1.0.0/dataset_info.json').exists()


def test_archives_that_do_not_come_are_named_and_nothing_is_built(zenodo, tmp_path, capsys):
    files = zenodo.served / f'record/{fetch.DEVELOPMENT}/files'
    (files / 'development.video.1.zip').unlink()
    data = bytearray((files / 'development.audio.1.zip').read_bytes())
    data[5000] ^= 1
    (files / 'development.audio.1.zip').write_bytes(data)
    assert command('--config=clips', '--download', f'--data_dir={tmp_path}') == 1
    (sentence,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith('error:')]
    assert '2 of 3 files were not fetched' in sentence
    assert 'development.audio.1.zip' in sentence
    assert 'development.video.1.zip: the server answers 404' in sentence
    assert [p.name for p in (tmp_path / 'downloads/manual').iterdir()] == ['development.meta.zip']
    assert not (tmp_path / 'tfds_tau').exists()


@pytest.mark.parametrize(
    ('given', 'sentence'),
    [
        (['--max_shard_size_mb=64'], '--num_shards'),
        (['--beam_pipeline_options=runner=x'], '[beam]'),
        (['--beam_pipeline_options=runner=x', '--nondeterministic_order'], 'leave it out'),
    ],
)
def test_flags_that_would_do_nothing_are_refused(tmp_path, capsys, monkeypatch, given, sentence):
    monkeypatch.setattr('importlib.util.find_spec', lambda _: None)
    assert command('--config=demo', f'--data_dir={tmp_path}', *given) == 1
    assert sentence in capsys.readouterr().err


def test_bad_clips_are_left_out_where_the_command_says_so(tmp_path, capsys):
    shutil.copytree(DUMMY, tmp_path / 'tau')
    (tmp_path / 'tau/video/bus-london-18-35.mp4').write_bytes(b'')
    where = ('--config=clips', f'--manual_dir={tmp_path}/tau', f'--data_dir={tmp_path}')
    assert command(*where) == 1
    assert '--on_error=skip' in capsys.readouterr().err
    assert command(*where, '--on_error=skip') == 0
    info = tfds.builder_from_directory(tmp_path / 'tfds_tau/clips/1.0.0').info
    assert info.metadata['left_out'] == ['bus-london-18-35']
