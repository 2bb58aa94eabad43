"""Classes of one's own without a run: what is made of their names, and what is no class."""

import csv
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from avsc_jax import models, tables, weights
from avsc_jax.models import clip_tokens
from avsc_jax.predict import __main__ as predict
from avsc_jax.predict import class_texts, zero_shot
from avsc_jax.runtime import cli
from avsc_jax.scenes import SCENES
from avsc_jax.serve import __main__ as serve

FILES = Path(__file__).parents[1] / 'data_files'
TEXT = {'width': 16, 'layers': 1}
TINY = 'width=16,layers=1,patch_size=16,image_size=32,text_width=16,text_layers=1'
ENCODER = f'clip_vit_b32:{TINY}'
PROMPTS = ['a photo of a {}.', 'the {}']


@pytest.fixture(scope='module')
def predictor():
    return zero_shot(['Beach', 'city_street'], encoder=ENCODER, prompts=PROMPTS, origin='random:3')


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_a_class_is_the_mean_of_the_unit_vectors_of_its_sentences(predictor):
    """Worked by hand; underscores are spaces, and case does not count."""
    tower = models.create_model('clip_vit_b32_text', **TEXT)
    texts = ['a photo of a beach.', 'the beach', 'a photo of a city street.', 'the city street']
    variables = weights.random_variables(tower, 3)
    rows, _ = jax.jit(tower.apply)(variables, clip_tokens.token_ids(texts))
    expected = unit(unit(np.asarray(rows)).reshape(2, 2, -1).mean(axis=1)).T
    (member,) = predictor.members
    np.testing.assert_allclose(member.variables['params']['head']['kernel'], expected, atol=1e-6)
    assert predictor.classes == ('Beach', 'city_street') and predictor.takes == ('picture',)
    wants = predictor.wants()
    assert (wants.audio, wants.frames, wants.short_side, wants.window_s) == (
        False, 'clip12', 448, 10.0,
    )  # fmt: skip


def test_probabilities_are_the_mean_over_the_pictures(predictor):
    draw = np.random.default_rng(0)
    frames = [*draw.integers(0, 256, (2, 40, 50, 3), np.uint8)]
    both, one, other = predictor.answers(
        [{'frames': part, 'frame_times': np.arange(len(part))} for part in (frames, *zip(frames))]
    )
    np.testing.assert_allclose(both.probs, (one.probs + other.probs) / 2, atol=1e-6)
    kernel = predictor.members[0].variables['params']['head']['kernel']
    logits = 100 * one.embedding @ np.asarray(kernel)
    np.testing.assert_allclose(one.probs, np.exp(logits) / np.exp(logits).sum(), atol=1e-5)


@pytest.mark.parametrize(
    ('text', 'classes'),
    [
        (None, SCENES),
        ('beach, city  street ,forest', ('beach', 'city street', 'forest')),
        ('北京の駅,🏖️', ('北京の駅', '🏖️')),
    ],
)
def test_classes_are_named_with_commas(text, classes):
    assert class_texts.named(text) == classes


@pytest.mark.parametrize('end', ['', '\n', '\r\n\n'])
@pytest.mark.parametrize('mark', ['', '\ufeff'])
def test_classes_are_read_from_a_file(end, mark, tmp_path):
    file = tmp_path / 'classes.txt'
    file.write_text(f'{mark}a beach, with people\nforest{end}', encoding='utf-8', newline='')
    assert class_texts.named(f'@{file}') == ('a beach, with people', 'forest')


LONG = ' '.join(['bus'] * 76)


@pytest.mark.parametrize(
    ('flags', 'sentence'),
    [
        (['--classes='], 'no class is named; name 2 to 10,000 classes, with commas'),
        (['--classes=beach'], "only 'beach' is named; name 2 to 10,000"),
        (['--classes=beach,,forest'], 'name 2 of the 3 classes is empty; give each class a name'),
        (['--classes=beach, ,forest'], 'name 2 of the 3 classes is empty'),
        (['--classes=beach,forest,beach'], "the classes 'beach' and 'beach' are read alike"),
        (['--classes=city street,City_Street'], "'city street' and 'City_Street' are read alike"),
        (['--classes=AT&T,AT&amp;T'], "'AT&T' and 'AT&amp;T' are read alike; leave one of"),
        (['--classes=@none.txt'], 'none.txt is not a file; give the path of an existing'),
        (['--classes=@cat.jpg'], 'cat.jpg: the file is no utf-8 text'),
        ([f'--classes={LONG},a'], 'is 83 tokens long; CLIP reads 77: shorten it'),
        (['--prompt=a photo'], "the prompt 'a photo' has 0 places for the name of a class; write"),
        (['--prompt={} or {}'], 'has 2 places for the name of a class; write {} once'),
        (['--prompt={}', '--prompt='], "the prompt '' has 0 places"),
        (['--encoder=resnet50'], 'resnet50 reads no texts; --zero_shot takes one of clip_rn101'),
        (['--encoder=clip_rn101_text'], 'clip_rn101_text encodes texts; name an encoder'),
        (['--encoder=clip_vit_b33'], 'no weights are published for clip_vit_b33'),
        (['--encoder=clip_vit_b32:wide=3'], 'clip_vit_b32 has no option wide; its options are'),
        (['--encoder=clip_vit_b32:text_wide=3'], 'clip_vit_b32_text has no option wide; its'),
        (['--encoder=clip_vit_b32:activation=relu'], "activation is 'relu'; it must be quick_gelu"),
        (['--encoder=clip_vit_b32:mean=0.5'], 'mean of clip_vit_b32 is 0.5; it must be three'),
        (['--encoder=clip_vit_b32:std=(1,1,0)'], 'std of clip_vit_b32 is (1, 1, 0); it must be'),
        (['--weights=zero'], "--weights is 'zero'; it must be random:SEED"),
        ([], 'no weights of clip_vit_b32 in '),
    ],
)  # fmt: skip
@pytest.mark.parametrize('command', [predict, serve])
def test_what_is_no_class_and_no_prompt_is_one_sentence(
    command, flags, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Image.new('RGB', (8, 8)).save('cat.jpg')
    own = ['cat.jpg'] if command is predict else ['--port=0']
    monkeypatch.setattr('sys.argv', ['x', *own, '--zero_shot', '--weights_dir=.', *flags])
    assert cli.main(command.main) == 1
    err = capsys.readouterr().err
    assert sentence in err and len(err.splitlines()) == 1


@pytest.mark.parametrize('flag', ['--classes=a,b', '--prompt={}'])
@pytest.mark.parametrize('command', [predict, serve])
def test_classes_and_prompts_go_with_zero_shot_only(command, flag):
    with pytest.raises(ValueError, match=r'goes with --zero_shot; add that flag, or leave it out'):
        (command.flags.parse if command is predict else command.parse)(['--model=run', flag])


def test_a_class_that_the_table_cannot_hold_is_an_error_before_files_are_read(
    tmp_path, monkeypatch, capsys
):
    flags = ['--zero_shot', '--weights=random:0', f'--encoder={ENCODER}', '--classes=a,filename']
    Image.new('RGB', (8, 8)).save(tmp_path / 'cat.jpg')
    files = [str(tmp_path / 'cat.jpg'), f'--csv={tmp_path / "x.csv"}']
    monkeypatch.setattr('sys.argv', ['x', *files, *flags])
    assert cli.main(predict.main) == 1
    out, err = capsys.readouterr()
    assert not out and len(err.splitlines()) == 1
    assert "x.csv cannot hold a class called 'filename'; write .npz" in err


def test_windows_of_any_length_get_no_note(predictor):
    assert predictor.wants().window_s == 10 and not predictor.window_notes(3.0)


def test_one_text_is_no_list():
    with pytest.raises(TypeError, match="classes is the text 'bus'; give a list of names"):
        zero_shot('bus')
    with pytest.raises(TypeError, match=r'prompts is the text .\{\}.; give a list'):
        zero_shot(prompts='{}')


def test_answers_depend_on_classes_and_prompts(predictor):
    given = dict(encoder=ENCODER, origin='random:3')
    one = zero_shot(['beach', 'city_street'], prompts=PROMPTS, **given)
    other = zero_shot(['Beach', 'city_street'], prompts=PROMPTS[:1], **given)
    assert len({each.content_hash for each in (predictor, one, other)}) == 3


def test_weights_of_the_folder_are_taken_and_others_are_one_sentence(predictor, tmp_path):
    """A folder of weights as avsc-convert leaves them, which need no options."""
    sizes = {
        'clip_vit_b32': {**TEXT, 'patch_size': 16, 'image_size': 32},
        'clip_vit_b32_text': TEXT,
    }
    for name, options in sizes.items():
        about = {'network': name, 'sha256': weights.source_of(name).sha256}
        variables = weights.random_variables(models.create_model(name, **options), 3)
        weights.write(variables, tmp_path / f'{name}.safetensors', about)
    given = dict(prompts=PROMPTS, weights_dir=tmp_path)
    read = zero_shot(['Beach', 'city_street'], encoder=ENCODER, **given)
    record = {'frames': [np.zeros((40, 50, 3), np.uint8)], 'frame_times': np.zeros(1)}
    (one,), (other,) = read.answers([record]), predictor.answers([record])
    np.testing.assert_array_equal(one.probs, other.probs)
    with pytest.raises(ValueError, match=r'wrong shape: \S+ \(77, 16\) for') as error:
        zero_shot(encoder=ENCODER.replace('text_width=16', 'text_width=32'), **given)
    assert 'clip_vit_b32_text.safetensors' in str(error.value) and '\n' not in str(error.value)


@pytest.mark.slow
def test_files_are_tagged_on_every_way_that_a_run_is(tmp_path, capsys):
    """A film and a picture: console, tables, embeddings, pages; a second start adds nothing."""
    files = [str(FILES / 'bento.mp4'), str(FILES / 'cat.jpg')]
    out = {name: tmp_path / f'out.{name}' for name in ('jsonl', 'csv', 'tsv', 'npz')}
    (tmp_path / 'names').write_text('a beach, with people\n<b>street</b>\n')
    flags = ['--zero_shot', f'--encoder={ENCODER}', '--weights=random:0']
    flags += [f'--classes=@{tmp_path / "names"}']
    writes = [f'--jsonl={out["jsonl"]}', f'--csv={out["csv"]}', f'--timeline={out["tsv"]}']
    writes += [f'--embeddings={out["npz"]}', f'--report={tmp_path / "pages"}']
    assert predict.main([*files, *flags, *writes]) == 0
    lines = [json.loads(line) for line in out['jsonl'].read_text().splitlines()]
    names = ['a beach, with people', '<b>street</b>']
    assert [[*line['probs']] for line in lines] == [names] * 2
    assert all(np.isclose(sum(line['probs'].values()), 1) for line in lines)
    with np.load(out['npz']) as kept:
        assert kept['embedding'].shape == (2, 512)
    table = tables.read(out['csv'])
    assert table.meta['classes'] == names
    header, *rows = csv.reader(out['tsv'].open(), delimiter='\t')
    assert header[4:] == names and len(rows) == 2
    pages = sorted((tmp_path / 'pages').iterdir())
    assert len(pages) == 2 and all('&lt;b&gt;street' in page.read_text() for page in pages)
    capsys.readouterr()
    assert predict.main([*files, *flags, *writes]) == 0
    assert '2 of 2 files are finished' in capsys.readouterr().err
    live = tmp_path / 'live.jsonl'
    follow = ['--follow', files[0], '--patience_s=0', f'--jsonl={live}']
    assert predict.main([*follow, *flags]) == 0
    assert [*json.loads(live.read_text().splitlines()[-1])['probs']] == names
