"""Every field of a config is known, and a wrong one is a sentence before anything is written."""

import ast
import json
from pathlib import Path

import pytest
from ml_collections import ConfigDict

import avsc_jax
from avsc_jax.configs import clip_fusion, clip_zero_shot, hitachi_audio, hitachi_ensemble
from avsc_jax.ensemble import recipes
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.training import config as fields
from avsc_jax.training import ensemble, resolve, search, sweep, train

PACKAGE = Path(avsc_jax.__file__).parent


def changed(**changes):
    made = clip_fusion.get_config('demo')
    for name, value in changes.items():
        section, _, field = name.rpartition('__')
        with made.ignore_type():
            (made[section] if section else made)[field] = value
    return made


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'mixup_alhpa': 0.2}, r'config\.mixup_alhpa is no field .* \(did you mean config.mixup_a'),
        ({'pateince': 3}, r'config\.pateince is no field .* \(did you mean config\.patience\?'),
        ({'zzz': 3}, r'config\.zzz is no field of a config; python -m avsc_jax\.main --fields'),
        ({'demo__epoch': 3}, r'config\.demo\.epoch is no field .* config\.demo\.epochs\?'),
        ({'data__splitt': 'x'}, r'config\.data\.splitt is no field'),
        ({'epochs': '20'}, r"config\.epochs is '20'; it must be a whole number"),
        ({'epochs': True}, r'config\.epochs is True; it must be a whole number'),
        ({'size': 64}, r'config\.size is 64; it must be a list'),
        ({'loss': 'focal_loss'}, r"config\.loss is 'focal_loss'; it must be a section of fields"),
    ],
)
def test_a_wrong_field_is_one_sentence_with_the_nearest_name(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        fields.check(changed(**change))


def test_the_configs_of_systems_and_ensembles_are_made_of_known_fields():
    fields.check(changed())
    fields.check(hitachi_ensemble.get_config('S03,demo'))
    fields.check(changed(frames=None, learning_rate=1))  # absent, and a whole number for a number


def test_a_config_without_data_is_one_sentence():
    made = changed()
    del made.data
    with pytest.raises(ValueError, match='the config has no section data'):
        fields.check(made)
    made = changed()
    made.demo.data = {'itmes': 'clip'}
    with pytest.raises(ValueError, match=r'config\.demo\.data\.itmes .* config\.demo\.data\.items'):
        fields.check(made)


@pytest.mark.parametrize(
    ('made', 'kind', 'sentence'),
    [
        (clip_fusion, 'zero-shot', r"config\.kind is 'zero-shot'; it must be one of train, zero_s"),
        (clip_fusion, 'zero_shot', r"is 'zero_shot', which needs config\.text_encoder; change"),
        (clip_fusion, 'ensemble', r"is 'ensemble', which needs config\.groups"),
        (clip_zero_shot, 'train', r"is 'train', which needs config\.data\.train; change"),
        (hitachi_ensemble, 'train', r"is 'train', which needs config\.model"),
        (hitachi_ensemble, None, r"is 'train', which needs config\.model"),
    ],
)
def test_sections_of_another_kind_of_job_are_one_sentence(made, kind, sentence):
    config = made.get_config('demo')
    if kind is None:
        del config.kind
    else:
        config.kind = kind
    with pytest.raises(ValueError, match=sentence):
        fields.check(config)


def test_a_job_of_another_kind_than_its_sections_writes_nothing(tmp_path):
    made = clip_zero_shot.get_config('demo')
    made.kind = 'train'
    with pytest.raises(ValueError, match=r"is 'train', which needs config\.data\.train"):
        train.run(made, workdir=tmp_path / 'run', data_dir=tmp_path, weights_dir=tmp_path)
    assert not (tmp_path / 'run').exists()


def test_a_section_that_only_another_kind_of_job_has_is_one_sentence():
    with pytest.raises(ValueError, match=r"is 'train', which has no config\.groups; change"):
        fields.check(changed(groups={'audio': ('A01',)}))
    made = clip_zero_shot.get_config('demo')
    made.data.train = 'train'
    with pytest.raises(ValueError, match=r"is 'zero_shot', which has no config\.data\.train"):
        fields.check(made)


def test_a_field_of_steps_in_a_job_without_steps_is_a_sentence():
    made = clip_zero_shot.get_config('demo')
    made.ema = 0.9
    with pytest.raises(
        ValueError, match=r"ema changes the steps .* is 'zero_shot', which has none"
    ):
        fields.check(made)
    del made['ema']
    made.demo.accumulate = 2
    with pytest.raises(ValueError, match=r'config\.demo\.accumulate changes the steps'):
        fields.check(made)


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'select': 'last', 'patience': 3}, r"patience is 3, and config\.select is 'last'"),
        ({'accumulate': 64}, r'accumulate is 64, and a batch of 48 has no more rows'),
    ],
)
def test_fields_that_exclude_each_other_are_a_sentence(demo_config, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        fields.check_complete(demo_config('clip_fusion', batch_size=48, **changes))


def test_the_command_trains_where_a_file_does_not_say_its_kind(main, tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text(
        'from avsc_jax.configs import clip_fusion\n\n\n'
        'def get_config(argument=""):\n'
        '    config = clip_fusion.get_config("demo")\n'
        '    del config.kind\n'
        '    return config\n'
    )
    assert main.parse([f'--config={file}']).kind == 'train'


def test_the_command_refuses_an_unknown_field_of_a_file(main, tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text(
        'from avsc_jax.configs import clip_fusion\n\n\n'
        'def get_config(argument=""):\n'
        '    config = clip_fusion.get_config("demo")\n'
        '    config.mixup_alhpa = 0.2\n'
        '    return config\n'
    )
    with pytest.raises(ValueError, match=r'did you mean config\.mixup_alpha'):
        main.main([f'--config={file}', f'--workdir={tmp_path / "run"}'])
    assert not (tmp_path / 'run').exists()


def test_a_config_without_a_demo_is_one_sentence_on_made_up_clips(main, tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text(
        'from avsc_jax.configs import clip_fusion\n\n\n'
        'def get_config(argument=""):\n'
        '    config = clip_fusion.get_config(argument)\n'
        '    del config.demo\n'
        '    return config\n'
    )
    with pytest.raises(ValueError, match='the config has no section demo'):
        main.main([f'--config={file}:demo', f'--workdir={tmp_path / "run"}'])
    assert not (tmp_path / 'run').exists()


def defaults_in_code():
    """(field, default, where) of each `config.get('field', default)` of the package."""
    for path in PACKAGE.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == 'get'
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == 'config'
                and len(node.args) == 2
            ):
                name, default = map(ast.literal_eval, node.args)
                yield name, default, f'{path.name}:{node.lineno}'


def test_the_defaults_in_the_code_are_those_of_the_table():
    found = list(defaults_in_code())
    assert len(found) > 8
    for name, default, where in found:
        assert (not default and not fields.FIELDS[name].default) or (
            default == fields.FIELDS[name].default
        ), (name, where)


def test_each_field_has_a_line_for_people():
    lines = list(fields.table())
    assert ('epochs', 'a whole number', 'required', 'passes over the training rows') in lines
    assert len(lines) == len(fields.FIELDS) + len(fields.DATA_FIELDS)
    assert all(text and '\n' not in text and len(text) < 80 for *_, text in lines)


def test_pictures_of_other_channels_than_the_network_takes_are_found_before_training():
    made = hitachi_audio.get_config('demo')
    made.update(made.demo)
    made.model.in_chans = 1
    model = train.build.make_model(made.model.to_dict(), num_classes=10)
    with pytest.raises(ValueError, match=r'takes pictures of 1 channels, .* gives 3; set config'):
        train.check_channels(made, model)
    made.model.in_chans = 3
    train.check_channels(made, train.build.make_model(made.model.to_dict(), num_classes=10))
    train.check_channels(ConfigDict(), model)  # what takes features


def test_the_page_of_fields_is_made_of_the_table():
    page = (PACKAGE.parent / 'docs/fields.md').read_text()
    assert page == fields.markdown()
    assert '| `data.window_s` | a number | 10.0 |' in page


@pytest.mark.parametrize(
    ('name', 'sentence'),
    [
        ('paper', r'config\.paper is missing; it is the published number'),
        ('loss', r'config\.loss is missing; it is name and options of the loss'),
        ('epochs', r'config\.epochs is missing; it is passes over'),
        ('data.valid', r"config\.data\.valid is missing, and config\.select is 'accuracy'"),
    ],
)
def test_a_missing_field_is_a_sentence_before_anything_is_written(
    name, sentence, demo_config, tmp_path
):
    made = demo_config('clip_fusion')
    section, _, field = name.rpartition('.')
    with made.unlocked():
        del (made[section] if section else made)[field]
    with pytest.raises(ValueError, match=sentence):
        train.run(made, workdir=tmp_path / 'run', data_dir=tmp_path, weights_dir=tmp_path)
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('made', 'section', 'options', 'sentence'),
    [
        (hitachi_audio, 'loss', {'nam': 1}, r'focal_loss has no option nam; its options are gamma'),
        (hitachi_audio, 'loss', {'gamma': None}, r'focal_loss needs the option gamma, which is'),
        (hitachi_audio, 'front_end', {'linage': True}, r'no option linage; .*mean lineage\?'),
        (
            hitachi_audio,
            'front_end',
            {'name': 'mel'},
            r"the front end is 'mel'; it must be one of hitachi",
        ),
        (
            hitachi_audio,
            'augment.time_mask',
            {'max_frame': 3},
            r'mask has no option max_frame; .*s\?',
        ),
        (clip_fusion, 'encoders.clip_rn101', {'widht': 2}, r'no option widht; .*mean width\?'),
        (
            clip_fusion,
            'encoders',
            {'ioacas_bark': {'bands': 2}},
            r'ioacas_bark has no option bands',
        ),
        (
            hitachi_ensemble,
            'recipe',
            {'margn': 0.1},
            r'recipe of E02 has no option margn; .*margin\?',
        ),
        (hitachi_ensemble, 'recipe', {'name': 'median'}, r"recipe of E02 is 'median'; it must be"),
    ],
)
def test_a_mistyped_option_is_a_sentence_before_anything_is_written(
    made, section, options, sentence, data_dir, tmp_path
):
    config = resolve.resolve(made.get_config('demo'), data_dir, named=True)
    with config.unlocked():
        part = config
        for name in section.split('.'):
            part = part[name]
        for name, value in options.items():
            if value is None:
                del part[name]
            else:
                part[name] = value
    with pytest.raises(ValueError, match=sentence):
        train.run(config, workdir=tmp_path / 'run', data_dir=data_dir, weights_dir=tmp_path)
    assert not (tmp_path / 'run').exists()


def test_a_config_that_raises_another_error_is_that_sentence_alone(main, tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text('def get_config(argument=""):\n    raise TypeError("no learning rate")\n')
    with pytest.raises(ValueError, match=r'^no learning rate \(--help'):
        main.parse([f'--config={file}'])


def test_the_command_lists_all_fields(main, capsys):
    assert main.main(['--fields']) == 0
    out = capsys.readouterr().out
    assert 'config.data.window_s  a number, 10.0\n    length of the windows' in out
    assert out.count('\nconfig.') == len(fields.FIELDS) + len(fields.DATA_FIELDS) - 1


def test_absent_fields_have_their_defaults_in_a_run(demo_config, data_dir, tmp_path):
    config = demo_config('ioacas_audio', epochs=1, schedule='constant')
    absent = [name for name in fields.FILLED if name in config and name != 'schedule']
    with config.unlocked():
        for name in absent:
            del config[name]
    assert {'seed', 'momentum', 'weight_decay', 'optimizer'} <= {*absent} | {'optimizer'}
    filled, stored = fields.filled(config), config.to_dict()
    assert {name: filled[name] for name in absent} == {
        name: fields.FIELDS[name].default for name in absent
    }
    folders = {'data_dir': data_dir, 'weights_dir': tmp_path}
    train.run(config, workdir=tmp_path / 'run', dry_run=True, **folders)
    job = train.prepared(filled, RunFolder(tmp_path / 'run'), folders | {'media_dir': None}, stored)
    train.begun(job)
    kept = json.loads(json.dumps(stored))
    assert RunFolder(tmp_path / 'run').config == kept  # what the file says, and no more


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'schedule': 'plateau'}, r'plateau_patience is missing, which config\.schedule=.plateau'),
        ({'schedule': 'cosine_restarts'}, r'config\.periods is missing, which'),
        (
            {'schedule': 'constant', 'front_end': {'name': 'hitachi_logmel'}},
            r'config\.piece_s is missing',
        ),
        (
            {'schedule': 'constant', 'size': (32, 32)},
            r'neither config\.frames nor config\.front_end says of which',
        ),
    ],
)
def test_a_field_that_another_needs_is_a_sentence(demo_config, changes, sentence):
    config = demo_config('ioacas_audio')
    with config.unlocked():
        del config.periods
        config.update(changes)
    with pytest.raises(ValueError, match=sentence):
        fields.check_complete(config)


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'epochs': 0}, r'config\.epochs is 0; it must be more than 0'),
        ({'learning_rate': float('nan')}, r'config\.learning_rate is nan; it must be more than 0'),
        ({'mixup_alpha': -1.0}, r'config\.mixup_alpha is -1\.0; it must be 0 or more'),
        ({'ema': 1.0}, r'config\.ema is 1\.0; it must be less than 1'),
        ({'accumulate': None}, r'config\.accumulate is None; it must be a whole number, and is 1 '),
        ({'demo__patience': None}, r'config\.demo\.patience is None; it must be a whole number'),
        ({'mixup_alpha': float('inf')}, r'config\.mixup_alpha is inf; it must be finite'),
        ({'label_smoothing': -0.1}, r'config\.label_smoothing is -0\.1; it must be 0 or more'),
        ({'layer_decay': 1.5}, r'config\.layer_decay is 1\.5; it must be 1 or less'),
        ({'layer_decay': 0.0}, r'config\.layer_decay is 0\.0; it must be more than 0'),
        ({'accumulate': 0}, r'config\.accumulate is 0; it must be more than 0'),
        ({'train_part': 'haed'}, r"config\.train_part is 'haed'; .* \(did you mean head\?\)"),
        ({'precision': 'float16'}, r"'float16'; it must be one of float32, bfloat16"),
        ({'class_weights': 'even'}, r"class_weights is 'even'; it must be a list or 'balanced'"),
        ({'pool': 'meen'}, r"pool is 'meen'; it must be one of mean, .* \(did you mean mean\?\)"),
        ({'views': 'foo'}, r"config\.views is 'foo'; it must be one of openl3_baseline"),
        ({'begins_with': 'foo'}, r"config\.begins_with is 'foo'; it must be one of '', places"),
        ({'begins_with': 'places'}, r"begins_with is 'places', which is none of config\.members"),
        ({'frames': 'clip21'}, r"config\.frames is 'clip21'; .* \(did you mean clip12\?\)"),
        ({'resize': 'crop_'}, r"config\.resize is 'crop_'; it must be one of squash, crop"),
        ({'interpolation': 'cubic'}, r"config\.interpolation is 'cubic'; it must be one of bil"),
        ({'size': (64,)}, r'config\.size is \(64,\); it must be height and width, whole numbers'),
        ({'size': (64, 0)}, r'config\.size is \(64, 0\); it must be height and width'),
        ({'canvas': (64, 64, 3)}, r'config\.canvas is .*; it must be height and width'),
        ({'demo__pool': 'max'}, r"config\.demo\.pool is 'max'; it must be one of mean, sequence"),
        ({'data__needs': ('sound', 'foo')}, r"needs is \('sound', 'foo'\); each must be one of so"),
        ({'data__items': 'frames'}, r"config\.data\.items is 'frames'; .*mean frame\?"),
        ({'data__source': 'dcase'}, r"config\.data\.source is 'dcase'; it must be one of tau, "),
        ({'data__on_error': 'stop'}, r"config\.data\.on_error is 'stop'; it must be one of fail"),
        ({'data__frames': 'clip'}, r"config\.data\.frames is 'clip'; it must be one of clip12"),
    ],
)
def test_a_value_that_cannot_be_right_is_a_sentence(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        fields.check(changed(**change))


def test_a_flag_sets_a_field_of_steps_that_the_config_does_not_set(main):
    flags = ['--config.ema=0.9', '--config.class_weights=balanced', '--config.patience=3']
    config = main.parse(['--config=configs/clip_fusion.py:demo', '--config.epochs=5', *flags])
    found = (config.ema, config.class_weights, config.patience, config.epochs)
    assert found == (0.9, 'balanced', 3, 5)
    assert 'ema' not in main.parse(['--config=configs/clip_fusion.py:demo'])
    several = main.parse(
        [*flags[:1], '--config=configs/clip_fusion.py:demo', '--config.loss.gamma=1.0']
    )
    assert (several.ema, several.loss.gamma) == (0.9, 1.0)
    swept = ['--config=configs/clip_fusion.py:demo', '--config.class_weights=(1, 2)']
    assert main.parse(swept).class_weights == (1, 2)


@pytest.mark.parametrize('trials', [[], ['--trials=2']])
def test_a_sweep_takes_a_field_of_steps_that_the_config_does_not_set(
    main, monkeypatch, tmp_path, trials
):
    begun = []

    def run(job, config, points, fields, workdir, **_):
        begun.append((sweep.values_of(config, fields), [p.ema for p in points]))

    def searched(job, config, point, fields, *_, **__):
        run(job, config, [point([f'--config.ema={v}']) for v in (0.0, 0.9)], fields, tmp_path)

    monkeypatch.setattr(sweep, 'run_sweep', run)
    monkeypatch.setattr(search, 'run', searched)
    flags = ['--sweep=ema=0.0,0.9', f'--workdir={tmp_path}', *trials]
    assert main.main(['--config=configs/clip_fusion.py:demo', *flags]) == 0
    assert begun == [({'ema': 0.0}, [0.0, 0.9])]  # the config's own value is the default
    assert search.space({'ema': ['0..0.5']}, begun[0][0])['ema'].high == 0.5


@pytest.mark.parametrize(
    ('flag', 'sentence'),
    [
        ('--config.ema=high', r"config\.ema is 'high'; it must be a number"),
        ('--config.ema', r'--config\.ema has no value; give --config\.ema=VALUE'),
        ('--config.train_part=tail', r"train_part is 'tail'; it must be one of all, last_stage"),
        ('--config.optimizer=adam', r'does not set config\.optimizer, and a flag only changes'),
        ('--config.data.items=clip', r'no flag can set config\.data\.items; write it into a copy'),
        ('--config.model=x', r"model is a section of fields, and 'x' is none; .*model\.name=x"),
        ('--config.encoders=clip_rn101', r'config\.encoders is a section .*clip_rn101, clip_rn50'),
    ],
)
def test_a_flag_for_what_no_flag_can_set_is_a_sentence(main, flag, sentence):
    with pytest.raises(ValueError, match=sentence):
        main.parse(['--config=configs/clip_fusion.py:demo', flag])


def test_values_of_a_recipe_are_checked_before_members_are_trained():
    config = hitachi_ensemble.get_config('demo')
    config.recipe = dict(config.recipe.to_dict(), clamp='foo')
    with pytest.raises(ValueError, match="clamp is 'foo'"):
        ensemble.check(config)


def test_a_fusion_may_have_options_of_its_own(monkeypatch):
    def power(probs, *, exponent=2.0, **options):
        return probs

    monkeypatch.setitem(recipes.RECIPES, 'power', recipes.Recipe('power mean', power))
    recipes.check('the recipe', {'name': 'power', 'exponent': 3.0})
    with pytest.raises(ValueError, match=r'has no option exponnt; .*mean exponent'):
        recipes.check('the recipe', {'name': 'power', 'exponnt': 3.0})
