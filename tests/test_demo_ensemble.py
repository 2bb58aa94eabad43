"""Hitachi's ensembles of members trained on the whole demo, and what they must show."""

import numpy as np
import pytest

from avsc_jax import ensemble, metrics, tables
from avsc_jax.configs import common
from avsc_jax.report import comparison, scores
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.tables import mix
from tfds_tau import demo

MEMBERS = dict(
    audio='hitachi_audio-regnetx_064-demo',
    visual='hitachi_image-regnetx_064-demo',
    clip='clip_fusion-demo',
)


@pytest.fixture(scope='module')
def runs(tmp_path_factory, train_on_demo):
    """The folder of the runs that the command leaves, with its three trained members.

    The two networks are trained first, for fewer epochs than the command would train them, and that
    of the pictures with half of its blocks.
    """
    folder = tmp_path_factory.mktemp('demo')
    small = dict(common.SIBLINGS['regnetx_064'], layers=(1, 1, 2, 2), image_size=64)
    for config, flags in (
        ('audio', ('epochs=3', 'drop_at=(2,)')),
        ('image', ('epochs=4', 'drop_at=(2, 3)', f'model={small}')),
    ):
        command = f'--config=configs/hitachi_{config}.py:regnetx_064,demo'
        train_on_demo(folder, command, *(f'--config.{flag}' for flag in flags))
    train_on_demo(folder, '--config=configs/hitachi_ensemble.py:demo')
    return folder / 'runs'


@pytest.fixture(scope='module')
def found(runs):
    """Role -> the member's table of clips, all in one order."""
    files = {
        role: RunFolder(runs / name).predictions_file('test') for role, name in MEMBERS.items()
    }
    return mix.alike({role: tables.read(file) for role, file in files.items()}, pooled=True)


@pytest.mark.slow
def test_e02_beats_every_member_by_two_paired_standard_errors(runs, found):
    fused = tables.read(runs / 'hitachi_ensemble-demo/predictions/test.npz')
    for name, member in found.items():
        told = comparison.make({'E02': fused, name: member})['tests'][name]['log_loss']
        assert told.difference < -2 * told.standard_error, (name, told)
    told = RunFolder(runs / 'hitachi_ensemble-demo').read_json('report.json')
    names = [line['name'] for line in told['members'] if 'temperature' not in line['name']]
    own = "E02, the paper's own stage"
    assert names[-5:] == ['A04V04', 'E01', 'A04V04_pp', own, 'E02']


@pytest.mark.slow
def test_the_gate_helps_at_night(found):
    table = mix.first(found)
    nights = {clip.clip_id for clip in demo.clips() if clip.night}
    night = np.isin(table.clip_id, list(nights))
    probs = {role: member.probs for role, member in found.items()}
    gated, blind = (
        ensemble.hitachi(**probs, classes=table.meta['classes'], gate=gate)[night]
        for gate in ('visual_mean', None)
    )
    group, _ = scores.groups(tables.rows(table, night))
    told = metrics.paired_test(gated, blind, table.label[night], group)['log_loss']
    assert night.sum() == 20 and told.difference < 0, told
