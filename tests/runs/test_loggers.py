"""Loggers get each step once, and no training waits for them."""

import json
import re
import struct
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from avsc_jax.runs import loggers
from avsc_jax.runs.history import History
from avsc_jax.runs.loggers import background
from avsc_jax.runs.loggers.background import Background, Opened
from avsc_jax.runtime import multihost
from avsc_jax.training import train as job

LINES = [{'epoch': k, 'step': 3 * k + 3, 'train_loss': 1 / (k + 1), 'best': True} for k in range(4)]
STEPS = [line['step'] for line in LINES]


class Kept:
    """A service that keeps runs in memory; `known` is the last step that it says it has."""

    def __init__(self):
        self.runs, self.closed, self.known = {}, [], -1

    def open(self, folder, config, id_):
        self.id = id_ or f'run {len(self.runs)}'
        self.runs.setdefault(self.id, [])
        return Opened(self.id, self.known)

    def log(self, scores, step):
        assert set(scores) == {'train_loss'}
        self.runs[self.id].append(step)

    def close(self, *, failed):
        self.closed.append(failed)


@pytest.fixture
def unopened():
    """The modules of the services are imported anew, by this test and by the next."""

    def forget():
        for name in loggers.SERVICES:
            sys.modules.pop(f'avsc_jax.runs.loggers.{name}', None)

    forget()
    yield
    forget()


def follow(folder, service, lines, restored=()):
    with History(folder, [Background('kept', lambda: service)], {'seed': 0}) as history:
        if restored:
            history.restart([*restored])
        for line in lines:
            history.append(line)


def test_a_resumed_run_goes_on_with_the_same_one_and_sends_each_step_once(tmp_path):
    service = Kept()
    follow(tmp_path, service, LINES[:3])
    follow(tmp_path, service, LINES[2:], restored=LINES[:2])  # the checkpoint is an epoch older
    assert service.runs == {'run 0': STEPS} and service.closed == [False, False]
    assert json.loads((tmp_path / 'kept.json').read_text()) == {'id': 'run 0', 'last_step': 12}


def test_what_did_not_arrive_before_a_kill_is_sent_after_it(tmp_path):
    service = Kept()
    follow(tmp_path, service, LINES[:1])
    follow(tmp_path, service, LINES[3:], restored=LINES[:3])
    assert service.runs == {'run 0': STEPS}


def test_what_the_service_has_already_is_not_sent_again(tmp_path):
    service = Kept()
    follow(tmp_path, service, LINES[:1])
    service.known = STEPS[1]  # it was killed after it had sent this line, before it noted so
    follow(tmp_path, service, LINES[1:], restored=LINES[:1])
    assert service.runs == {'run 0': [3, 9, 12]}


def test_a_broken_note_of_a_run_begins_a_new_one(tmp_path):
    (tmp_path / 'kept.json').write_text('{"id": ')
    service = Kept()
    follow(tmp_path, service, LINES)
    assert service.runs == {'run 0': STEPS}


@pytest.mark.parametrize('part', ['open', 'log', 'close'])
def test_a_service_that_fails_is_one_sentence_and_the_history_is_whole(tmp_path, capsys, part):
    def fail(*args, **options):
        raise RuntimeError('no route to host\nand more')

    service = Kept()
    setattr(service, part, fail)
    follow(tmp_path, service, LINES)
    told = capsys.readouterr().err
    assert told.count('\n') == 1 and '--loggers=kept has failed (no route to host)' in told
    assert len((tmp_path / 'metrics.jsonl').read_text().splitlines()) == 4


def test_a_service_that_hangs_holds_up_nothing_but_the_end_for_a_while(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(background, 'PATIENCE_S', 0.1)
    answered, service = threading.Event(), Kept()
    service.log = lambda scores, step: answered.wait(20)
    began = time.monotonic()
    follow(tmp_path, service, LINES)
    assert time.monotonic() - began < 10
    answered.set()
    assert '--loggers=kept has not taken all lines within 0.1 s' in capsys.readouterr().err


def test_a_run_that_breaks_off_is_closed_as_failed(tmp_path):
    service = Kept()
    with (
        pytest.raises(OSError, match='full'),
        History(tmp_path, [Background('kept', lambda: service)], {}),
    ):
        raise OSError('the disk is full')
    assert service.closed == [True]


def test_only_the_first_process_logs(tmp_path, monkeypatch):
    monkeypatch.setattr(multihost, 'is_first', lambda: False)
    service = Kept()
    follow(tmp_path, service, LINES)
    assert not service.runs and not [*tmp_path.iterdir()]


def test_wandb_is_told_the_run_its_group_and_nothing_about_the_machine(
    unopened, tmp_path, monkeypatch
):
    calls = []

    class Run:
        id, step = 'abc', 7

        def log(self, scores, **options):
            calls.append((scores, options))

        def finish(self, **options):
            calls.append(options)

    def init(**options):
        calls.append(options)
        return Run()

    fake = SimpleNamespace(init=init, Settings=lambda **given: given)
    monkeypatch.setitem(sys.modules, 'wandb', fake)
    from avsc_jax.runs.loggers.wandb import Service

    service = Service('seeds')
    assert service.open(tmp_path / 'seed1', {'seed': 1}, 'abc') == ('abc', 6)
    service.log({'train_loss': 0.5}, 9)
    service.close(failed=True)
    begun, logged, ended = calls
    assert (begun['id'], begun['group'], begun['dir']) == ('abc', 'seeds', str(tmp_path / 'seed1'))
    assert (begun['name'], begun['resume'], begun['config']) == ('seed1', 'allow', {'seed': 1})
    assert begun['settings']['x_disable_meta'] and begun['settings']['disable_git']
    assert logged == ({'train_loss': 0.5}, {'step': 9, 'commit': True})
    assert ended == {'exit_code': 1}


@pytest.mark.parametrize(
    ('config', 'names', 'sentence'),
    [
        ('clip_fusion', 'wandbb', "--loggers is 'wandbb'; it must be one of wandb, mlflow"),
        ('clip_fusion', 'wandb', "--loggers=wandb needs wandb: pip install 'avsc_jax[wandb]'"),
        ('clip_fusion', 'mlflow', "--loggers=mlflow needs mlflow: pip install 'avsc_jax[mlflow]'"),
        ('clip_zero_shot', 'wandb', "a config of kind 'zero_shot' has no epochs to log"),
    ],
)
def test_what_cannot_be_logged_to_is_a_sentence_before_any_training(
    unopened, main, tmp_path, monkeypatch, config, names, sentence
):
    for name in loggers.SERVICES:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(job, 'run', lambda *args, **options: pytest.fail('it runs'))
    with pytest.raises(ValueError, match=re.escape(sentence)):
        main.main([
            f'--config=configs/{config}.py:demo', f'--data_dir={tmp_path}', f'--loggers={names}',
            f'--workdir={tmp_path}/run',
        ])  # fmt: skip


class Stop:
    """Ends the training between an epoch and its checkpoint, as a kill may."""

    def begin(self, folder, config): ...
    def resume(self, lines): ...
    def end(self, *, failed): ...

    def log(self, line):
        if line['epoch'] == 1:
            raise OSError('the power failed')


def trained_twice(demo_config, data_dir, folder, names):
    """Trains a run that is stopped after its second epoch and goes on; returns its history."""
    config = demo_config('clip_fusion', epochs=3)
    folders = {'data_dir': data_dir, 'weights_dir': folder / 'none'}
    with pytest.raises(OSError, match='the power failed'):
        followers = [*loggers.chosen(names, 'sweep'), Stop()]
        job.run(config, workdir=folder / 'run', loggers=followers, **folders)
    job.run(config, workdir=folder / 'run', loggers=loggers.chosen(names, 'sweep'), **folders)
    lines = (folder / 'run/metrics.jsonl').read_text().splitlines()
    return [json.loads(line) for line in lines]


def scores(line):
    return {n: pytest.approx(x) for n, x in line.items() if n not in background.NOT_SCORES}


@pytest.mark.slow
def test_mlflow_holds_the_history_of_a_resumed_run_once(
    demo_config, data_dir, tmp_path, monkeypatch
):
    import mlflow

    monkeypatch.setenv('MLFLOW_TRACKING_URI', f'sqlite:///{tmp_path}/mlflow.db')
    lines = trained_twice(demo_config, data_dir, tmp_path, ['mlflow'])
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name('avsc_jax').experiment_id])
    assert run.info.status == 'FINISHED' and run.info.run_name == 'run'
    assert run.data.tags['group'] == 'sweep' and run.data.params['model.name'] == (
        "'clip_late_fusion'"
    )
    for name in scores(lines[0]):
        kept = client.get_metric_history(run.info.run_id, name)
        assert [(each.step, each.value) for each in kept] == [
            (line['step'], pytest.approx(line[name])) for line in lines
        ]


@pytest.mark.slow
def test_wandb_offline_holds_the_history_of_a_resumed_run_once_and_no_key(
    demo_config, data_dir, tmp_path, monkeypatch
):
    import wandb
    from wandb.proto import wandb_internal_pb2 as records

    key = '0123456789' * 4
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.setenv('WANDB_API_KEY', key)
    lines = trained_twice(demo_config, data_dir, tmp_path, ['wandb'])
    wandb.teardown()
    history, runs = [], []
    for file in sorted(tmp_path.glob('run/wandb/offline-run-*/*.wandb')):
        for content in leveldb_log(file.read_bytes()[7:], first=7):
            record = records.Record.FromString(content)
            if record.WhichOneof('record_type') == 'history':
                items = record.history.item
                history.append({i.key or i.nested_key[0]: json.loads(i.value_json) for i in items})
            elif record.WhichOneof('record_type') == 'run':
                runs.append((record.run.run_id, record.run.run_group, record.run.display_name))
    assert len(runs) == 2 and len({*runs}) == 1 and runs[0][1:] == ('sweep', 'run')
    assert [line['_step'] for line in history] == [line['step'] for line in lines]
    for kept, line in zip(history, lines, strict=True):
        assert {n: x for n, x in kept.items() if not n.startswith('_')} == scores(line)
    inside = [path for path in (tmp_path / 'run').rglob('*') if path.is_file()]
    assert not [path for path in inside if key.encode() in path.read_bytes()]


def leveldb_log(data, *, first):
    """Yields the records of W&B's file: LevelDB's log of blocks of 32 KiB, after `first` bytes."""
    place, record = 0, b''
    while place < len(data):
        left = 32768 - (place + first) % 32768
        if left < 7:
            place += left
            continue
        size, kind = struct.unpack('<HB', data[place + 4 : place + 7])
        record += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or its last part
            yield record
            record = b''
