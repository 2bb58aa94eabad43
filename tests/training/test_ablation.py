"""Ablation: which parts are left out, and what the table says of them."""

import pytest
from ml_collections import ConfigDict

from avsc_jax.configs import clip_fusion, hitachi_image
from avsc_jax.training import ablation
from tests.training.test_ensemble import config, finished, run, runs  # noqa: F401


def settled(of, tokens=''):
    made = of.get_config(tokens)
    with made.unlocked():
        made.update(made.demo)
        del made.demo
        made.kind = 'train'
    return made


def test_each_encoder_of_a_late_fusion_is_a_part():
    made = settled(clip_fusion)
    parts = ablation.parts_of(made)
    assert {'clip_rn50x4', 'clip_rn101', 'clip_vit_b32'} <= {*parts}
    without = ablation.without(made, 'clip_rn101', parts['clip_rn101'])
    assert [*without.encoders] == ['clip_rn50x4', 'clip_vit_b32'] == [*without.model.encoders]


def test_each_augmentation_is_a_part_and_a_config_can_name_its_own():
    made = settled(hitachi_image)
    assert {*made.augment} <= {*ablation.parts_of(made)}
    with made.unlocked():
        made.ablate = {'all of it': {'augment': {}}}
    parts = ablation.parts_of(made)
    assert [*parts] == ['all of it']
    assert not ablation.without(made, 'all of it', parts['all of it']).augment


def test_a_field_that_a_config_does_not_have_is_one_sentence():
    with pytest.raises(ValueError, match=r'by the field augment\.gian'):
        ablation.without(settled(hitachi_image), 'gain', {'augment.gian': None})


def test_members_and_steps_of_an_ensemble_are_left_out_and_sorted_by_their_worth(
    runs, tmp_path, capsys  # noqa: F811
):  # fmt: skip
    made = config('E02,tau')
    with made.unlocked():
        made.decision, made.lines = ('temperature',), ()
        made.roles, made.recipe = ('visual', 'clip'), {'name': 'mean'}

    def job(each, *, workdir):
        run(ConfigDict(each.to_dict()).lock(), workdir)

    ablation.run(job, made, tmp_path / 'ablated')
    out = capsys.readouterr().out
    assert 'the step temperature' in out and 'nothing: the whole system' in out
    told = ablation.json.loads((tmp_path / 'ablated/ablation.json').read_text())
    gaps = [row['tests']['log_loss']['difference'] for row in told['rows'][1:]]
    assert gaps == sorted(gaps, reverse=True) and len({*gaps}) > 1
    assert {row['name'] for row in told['rows'][1:]} == {*told['parts']}
    whole = told['rows'][0]['log_loss']
    assert gaps == pytest.approx([row['log_loss'] - whole for row in told['rows'][1:]])
    assert (tmp_path / 'ablated/ablation.html').exists()


def test_a_dry_run_counts_the_jobs_and_runs_none(tmp_path, capsys):
    ablation.run(None, settled(clip_fusion), tmp_path, dry_run=True)
    assert 'runs' in capsys.readouterr().out and not [*tmp_path.iterdir()]
