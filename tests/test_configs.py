"""Every config, with every token it takes: found here, so a new one needs no test of its own."""

import importlib
import itertools
import json
import re
from functools import cache, partial
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from avsc_jax import configs, losses, models, tables, weights
from avsc_jax.configs import common
from avsc_jax.data import media
from avsc_jax.input_pipeline import encoders, examples, sound
from avsc_jax.input_pipeline import media_inputs as inputs
from avsc_jax.models import build, clip_tokens
from avsc_jax.report import console
from avsc_jax.tables import mix
from avsc_jax.training import config as fields
from avsc_jax.training import loop, optimizer, probe

FILES = sorted(f for f in Path(configs.__path__[0]).glob('[!_]*.py') if f.stem != 'common')


def variants():
    for file in FILES:
        module = importlib.import_module(f'avsc_jax.configs.{file.stem}')
        last = 'final' if 'final=True' in file.read_text() else 'strict'
        shared = ('', 'demo,strict', f'tau,{last}')
        if file.stem == 'own_data':  # which are not TAU
            shared = shared[:-1]
        for tokens in itertools.product(*module.VARIANTS.values(), shared):
            argument = ','.join(filter(None, tokens))
            yield pytest.param(module, argument, id=f'{file.stem}:{argument}')


@pytest.mark.parametrize(('module', 'argument'), list(variants()))
def test_every_variant_builds_its_network_loss_and_schedule(module, argument, outline):
    config = module.get_config(argument)
    json.dumps(config.to_dict())  # config.json
    fields.check(config)
    told = {'row', 'source', 'log_loss', 'accuracy', 'granularity'}
    assert told <= set(config.paper) <= told | {'average', 'note'}
    if config.kind == 'ensemble':  # an ensemble of other configs
        check_ensemble(config)
        return
    model = build.make_model(config.model.to_dict(), num_classes=10)
    resolved = merged(config.to_dict(), config.demo.to_dict())
    small = build.make_model(resolved['model'], num_classes=10)
    if 'pretrained' in config:
        assert config.pretrained in weights.SOURCES
        begun = models.create_model(config.pretrained)
        assert 'pretrained_part' in config or begun == models.create_model(config.model.name)
    elif config.model.name not in weights.SOURCES:  # too large to trace here; tests/models does
        assert has_head(json.dumps(config.model.to_dict()))
    embeddings = {}  # of the demo's runs; tests/models has the full sizes
    for name, member in config.get('members', {}).items():
        own = config_of(member.config)
        check_member(name, own, config)
        if name in config.get('inputs', {}).values():
            options = merged(own.model.to_dict(), own.demo.model.to_dict())
            embeddings[name] = embedding_width(json.dumps(options))
    check_inputs(model, config.to_dict(), outline)
    check_inputs(small, resolved, outline, embeddings)
    if 'augment' in config:
        inputs.make(examples.preprocessing(config, []), None, config.augment.to_dict())
    assert config.get('views') in (None, *tables.VIEWS)
    if config.kind == 'train':
        assert config.loss.name in losses.LOSSES
        loop.selection(config.select, scored='valid' in config.data)
        _, schedule = optimizer.make_optimizer(config, steps_per_epoch=7)
        warm = round(config.get('warmup', 0) * config.epochs * 7)
        assert float(schedule(warm)) == pytest.approx(config.learning_rate)
    elif config.kind == 'probe':
        probe.check(config)
        assert {*config.encoders} == {*config.demo.encoders} and 'valid' not in config.data
    else:
        assert config.prompt_style in clip_tokens.STYLES


def merged(first, second):
    """As ConfigDict's update does."""
    joined = ConfigDict(first)
    joined.update(ConfigDict(second))
    return joined.to_dict()


def check_member(name, member, config):
    """It is trained on the same clips, or begins with the same network's earlier stage."""
    if config.get('begins_with') == name:
        assert member.model.to_dict() == config.model.to_dict()
        assert member.data.source in ('tau', config.data.source)
        return
    for key in ('source', 'train', 'valid', 'test'):
        assert member.data.get(key) == config.data.get(key)
    assert name in config.inputs.values() or [*member.inputs] == [name]


def check_inputs(model, settings, outline, embeddings=None):
    """The encoders exist, and give what the network takes.

    Args:
      outline: shapes of a full-size network, by its name.
      embeddings: widths of those that are runs of their own; None: not checked.
    """
    rule = settings.get('frames')
    assert rule in (None, *media.FRAME_RULES)
    widths = dict(embeddings or {})
    for name, options in settings.get('encoders', {}).items():
        spec = encoders.EncoderSpec(name, options, 'random:0')
        if options or name in sound.FRONT_ENDS:
            widths[name] = width_of(name, json.dumps(options))
        else:
            widths[name] = outline(name)[0][0].shape[-1]
        assert spec.takes != 'frames' or rule
    for name, encoder in settings.get('inputs', {}).items():
        if embeddings is None and encoder in settings.get('members', {}):
            continue
        taken = model.input_spec
        taken = taken[name] if isinstance(taken, dict) else taken
        assert taken.shape[-1] == widths[encoder]
    is_fusion = isinstance(model.input_spec, dict)
    if 'size' in settings and is_fusion and 'sound' in model.input_spec:  # both senses
        reader = inputs.make(settings | {'mean': (0.5,) * 3, 'std': (0.25,) * 3})
        made = jax.eval_shape(partial(reader.prepare_batch, None), reader.batch_of_one)
        assert {name: x.shape for name, x in made.items()} == {
            name: spec.shape for name, spec in model.input_spec.items()
        }
    elif 'size' in settings and is_fusion:
        shape = model.input_spec['image'].shape
        assert shape == (1, settings['pictures'], *settings['size'], 3)
        assert model.input_spec['audio_embedding'].shape[1] == settings['length']


@cache
def width_of(name, options):
    """Of an encoder's embedding; traced once for all the configs that have it."""
    return encoders.EncoderSpec(name, json.loads(options), '').output_shape[-1]


@cache
def embedding_width(options):
    model = build.make_model(json.loads(options), num_classes=0)
    (embedding, _), _ = jax.eval_shape(model.init_with_output, jax.random.key(0), model.input_spec)
    return embedding.shape[-1]


@cache
def has_head(options):
    model = build.make_model(json.loads(options), num_classes=10)
    return 'head' in models.variable_shapes(model)['params']


def config_of(text):
    """The config that a command names."""
    file, _, tokens = text.partition(':')
    module = importlib.import_module(f'avsc_jax.{file.removesuffix(".py").replace("/", ".")}')
    return module.get_config(tokens)


def check_ensemble(config):
    """Its members are configs with tokens that they take; its roles are those of its recipe."""
    for groups, members in (
        (config.groups, config.members),
        (config.demo.groups, config.demo.members),
    ):
        for name in (name for names in groups.values() for name in names):
            assert config_of(members[name].config).paper.row in (name, f'IOA {name}')
    roles = {*config.groups, *config.members}
    for line in (*config.lines, {'roles': config.get('roles', ()), 'recipe': config.recipe}):
        assert {*line['roles']} <= roles and line['recipe']['name'] in mix.RECIPES


@pytest.mark.parametrize('file', FILES, ids=lambda f: f.stem)
def test_a_config_is_short_and_its_docstring_says_the_five_things(file):
    text = file.read_text()
    assert len(text.splitlines()) <= 100
    words = re.findall(r'^(Paper|Expect|Needs|Command|Try it): .+', text, flags=re.MULTILINE)
    assert words == ['Paper', 'Expect', 'Needs', 'Command', 'Try it']


@pytest.mark.parametrize('encoder', ['rn101', 'rn50x4', 'vit_b32'])
def test_both_towers_of_zero_shot_give_what_the_network_takes(encoder):
    config = importlib.import_module('avsc_jax.configs.clip_zero_shot').get_config(encoder)
    (image,), (text,) = config.encoders, config.text_encoder
    assert (image, text) == (config.model.encoder, f'{config.model.encoder}_text')
    for sizes in (config, config.demo):
        for name, options in {**sizes.encoders, **sizes.text_encoder}.items():
            tower = models.create_model(name, **options)
            assert tower.output_dim == config.model.width


def test_the_steps_of_the_paper_divide_the_rate_on_entering_epochs_5_10_and_15():
    config = importlib.import_module('avsc_jax.configs.clip_fusion').get_config('')
    _, schedule = optimizer.make_optimizer(config, steps_per_epoch=100)
    rates = [float(schedule(step)) for step in (0, 499, 500, 999, 1000, 1499, 1500, 1999)]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_tokens_may_come_in_any_order_and_strict_changes_the_splits():
    choice = common.parse('strict,demo', {})
    assert choice == common.parse('demo,strict', {}) == {'data': 'demo', 'protocol': 'strict'}
    data = common.experiment(choice, items='frame').data
    assert (data.train, data.valid, data.test) == ('train_inner', 'validation', 'test')
    paper = common.experiment(common.parse('', {}), items='frame').data
    assert (paper.train, paper.valid, paper.test) == ('train', 'test', 'test')


def test_final_trains_on_all_there_is_where_the_config_takes_it():
    choice = common.parse('demo,final', {}, final=True)
    data = common.experiment(choice, items='frame').data
    assert data.train == 'train+test' and not {'valid', 'test'} & {*data}
    named = common.member(choice, 'ioacas_audio.py:resnet1d')['config']
    assert named == 'configs/ioacas_audio.py:resnet1d,demo,final'
    network = {'network': 'final', 'data': 'demo', 'protocol': 'paper'}  # as Hou calls his
    named = common.member(network, 'ioacas_audio.py:resnet1d')['config']
    assert named == 'configs/ioacas_audio.py:resnet1d,demo'


@pytest.mark.parametrize(
    ('argument', 'sentence'),
    [
        (
            'demi',
            r"no token 'demi' \(did you mean demo\?\); tokens after the colon are data: demo",
        ),
        ('demo,tau', r"'demo' and 'tau' exclude each other"),
        ('auto', r"no token 'auto'"),
        ('final', r"no token 'final'; .*protocol: strict \(select on [^;,]*\)$"),
    ],
)
def test_a_wrong_token_is_a_sentence_that_lists_the_right_ones(argument, sentence):
    with pytest.raises(ValueError, match=sentence):
        common.parse(argument, {})


def test_the_first_token_of_an_axis_is_its_default():
    assert common.parse('', {'encoder': ('a', 'b')})['encoder'] == 'a'
    assert common.parse('b', {'encoder': ('a', 'b')})['encoder'] == 'b'


def begins_with(file, *tokens):
    """The names on the hub of the weights that a config's network begins with."""
    config = importlib.import_module(f'avsc_jax.configs.{file}').get_config(','.join(tokens))
    source = models.source_of(config.pretrained)
    settings = examples.preprocessing(config, [])
    assert (settings['mean'], settings['std']) == (source.mean, source.std)
    return source.hub.split('/')[1]


@pytest.mark.parametrize(
    ('network', 'papers', 'modern'),
    [
        ('resnet50', 'resnet50.tv_in1k', 'resnet50.a1_in1k'),
        ('tf_efficientnet_b5', 'tf_efficientnet_b5.ra_in1k', 'tf_efficientnet_b5.ns_jft_in1k'),
        ('tf_efficientnetv2_s', 'tf_efficientnetv2_s.in1k', 'tf_efficientnetv2_s.in21k_ft_in1k'),
        (
            'swin_tiny',
            'swin_tiny_patch4_window7_224.ms_in1k',
            'swin_tiny_patch4_window7_224.ms_in22k_ft_in1k',
        ),
    ],
)
def test_ioacas_begins_with_weights_of_imagenet_1k_as_the_paper(network, papers, modern):
    """Sec. 3.2 and 3.4: pretrained on ImageNet; no other pictures."""
    assert begins_with('ioacas_image', network) == begins_with('ioacas_image', network, 'timm')
    for stage in ('scenes', 'places'):
        assert begins_with('ioacas_image', network, stage) == papers
        assert begins_with('ioacas_image', network, stage, 'modern') == modern
    made = config_of(f'configs/ioacas_image.py:{network},modern')
    assert config_of(made.members.places.config).pretrained == made.pretrained
    made = config_of(f'configs/ioacas_image.py:{network},scratch')
    assert 'pretrained' not in made and made.mean == (0.485, 0.456, 0.406)


def test_reports_say_whose_weights_stand_in_for_the_papers_own():
    """Sec. 3.2: EfficientNetV2-S and Swin-T were trained on ImageNet by the authors."""
    stands_in = 'tf_efficientnetv2_s.in1k stands in for weights that the paper trained itself'
    for tokens in ('image.py:tf_efficientnetv2_s', 'fusion.py:tf_efficientnetv2_s,bark'):
        config = config_of(f'configs/ioacas_{tokens}')
        beside = config.paper.to_dict() | {'difference': {}}
        assert console.paper_source(beside).endswith(f'; not scored here); {stands_in}')
        assert merged(config.paper, config.demo.paper)['note'] == ''
    assert config_of('configs/ioacas_image.py:resnet50').paper.note == ''
    assert config_of('configs/ioacas_image.py:swin_tiny,scratch').paper.note == ''
    assert 'stronger' in config_of('configs/ioacas_image.py:resnet50,modern').paper.note
    note = config_of('configs/ioacas_ensemble.py:III').paper.note
    assert stands_in in note and 'swin_tiny_patch4_window7_224 stands in' in note


def test_v03_begins_with_the_first_weights_of_its_network_and_sees_whole_frames():
    """The published ones when the paper was written; the crop of these is not the paper's."""
    assert begins_with('hitachi_image', 'hrnet_w18') == 'hrnet_w18.ms_in1k'
    assert config_of('configs/hitachi_image.py:hrnet_w18').size == (448, 448)


@pytest.mark.parametrize('stage', ['scenes', 'places', 'imagenet'])
def test_ioacas_sees_pictures_unsquashed(stage):
    """RandomResizedCrop, Sec. 3.2, and its usual partner in tests."""
    config = config_of(f'configs/ioacas_image.py:resnet50,{stage}')
    settings = examples.preprocessing(config, [])
    assert (settings['resize'], settings['crop_fraction']) == ('crop', 0.875)
    made = inputs.make(settings, None, config.augment.to_dict())
    frame = Image.fromarray(np.zeros((480, 640, 3), np.uint8))
    record = type('One', (), {'picture': lambda *_: frame})()
    assert made.read(record, 0, 0)['extent'].tolist() == (
        [480, 640] if stage == 'scenes' else [384, 512]
    )
    assert inputs.make(settings).facts['resize'] == {
        'short side': 256, 'how': "Pillow's bilinear"
    }  # fmt: skip


def test_hou_s_rate_drops_in_the_epochs_of_his_code_and_his_pictures_are_resized_sharply():
    """Where (epoch + 1) % 20 == 0; Pillow's own default is bicubic."""
    for token, factor in (('rate_half', 0.5), ('rate_tenth', 0.1)):
        config = config_of(f'configs/hou_dual_stream.py:{token}')
        rate = optimizer.make_schedule(config, steps_per_epoch=7)
        for epoch, drops in ((18, 0), (19, 1), (38, 1), (39, 2), (49, 2)):
            expected = pytest.approx(1e-4 * factor**drops)
            assert float(rate(7 * epoch)) == float(rate(7 * epoch + 6)) == expected
    made = inputs.FrameInputs(config.to_dict())
    assert made.facts['resize']['how'] == "the whole picture, Pillow's bicubic"
    assert config.demo.drop_at == (7, 9)
