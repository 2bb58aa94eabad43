"""Every page, given hostile names: they are shown as they are, and nothing obeys them."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import numpy as np
import pytest

import avsc_jax
from avsc_jax import report, tables
from avsc_jax.report import comparison, explanation, gallery, html, modalities
from avsc_jax.runtime.files import printable

PACKAGE = Path(avsc_jax.__file__).parent
EVIL = '</title></style><script src=x>"\' onload=\'"><!x> &lt; {{ 7 * 7 }} {% x %} a\x1b[2J\0b\n'
LABELS = np.array([0, 0, 1, 1, 2])
HISTORY = [{'epoch': 0, 'learning_rate': 0.1, 'train_loss': 1.0, 'best': True}]


def evil(what):
    return f'{what} {EVIL}'


def harmless(what):
    return f'{what} {"x" * len(EVIL)}'


def table(name, answers, **meta):
    """Five clips, two of them of one place."""
    clips = [f'park-{name("city")}-{place}-{i}' for i, place in enumerate((1, 1, 2, 3, 4))]
    probs = np.full((5, 3), 0.1)
    probs[np.arange(5), answers] = 0.8
    classes = [name(f'class {k}') for k in range(3)]
    return tables.Predictions(clips, np.full(5, -1), LABELS, probs, {'classes': classes, **meta})


def about(name):
    return {
        'data': name('data'),
        'protocol': name('protocol'),
        'weights': {name('encoder'): name('origin')},
        'warnings': [name('warning')],
    }


def report_page(name, folder):
    row = {'row': name('row'), 'source': name('source'), 'granularity': name('paper')}
    told = report.make(
        table(
            name, LABELS, granularity=name('kind'), split=name('split'), config_hash=name('hash')
        ),
        title=name('title'),
        about=about(name),
        paper=row | {'log_loss': 1.0, 'accuracy': 0.1},
        history=HISTORY,
        learned={name('learned'): {name('weight'): 0.5}},
        also={name('view'): table(name, LABELS)},
    )
    scores = ('log_loss_micro', 'log_loss_macro', 'accuracy_micro', 'accuracy_macro')
    member = {'name': name('member'), 'level': name('level')}
    told['members'] = [member | dict.fromkeys((*scores, 'mean_confidence'), 0.5)]
    told['versions'] = {name('library'): name('version')}
    return report.write(told, folder).read_text()


def unscored_page(name, folder):
    told = report.trained(
        title=name('title'),
        about=about(name),
        meta={'classes': [name('class 0')], 'step': 7, 'config_hash': name('hash')},
        history=HISTORY,
        learned={name('learned'): {name('weight'): 0.5}},
    )
    return report.write(told, folder).read_text()


def comparison_page(name, folder):
    first, second = printable(name('first')), printable(name('second'))
    told = comparison.make(
        {first: table(name, LABELS), second: table(name, [0, 1, 1, 2, 0])},
        {first: {name('fact'): name('told')}},
        {name('setting'): {first: name('value')}},
        [name('warning')],
    )
    return comparison.write(told, folder).read_text()


def modalities_page(name, folder):
    answers = {'fusion': [0, 1, 1, 2, 2], 'audio': [0, 0, 0, 1, 1], 'video': [0, 1, 0, 2, 2]}
    members = {role: table(name, of, about=about(name)) for role, of in answers.items()}
    return modalities.write(modalities.make(members), folder).read_text()


class Dark:
    """A dataset of black pictures of these clips."""

    name = 'dark'

    def __init__(self, clips):
        self.clips = clips

    def records(self, split, fields):
        return self

    def __len__(self):
        return len(self.clips)

    def outline(self, index):
        return {'clip_id': self.clips[index]}

    def __getitem__(self, index):
        return {'frames': np.zeros((1, 9, 16, 3), np.uint8)}


def gallery_page(name, folder):
    sound, picture = table(name, LABELS), table(name, [0, 1, 0, 1, 1])
    members = {name('sound'): sound, name('picture'): picture}
    roles = {'sound': name('sound'), 'picture': name('picture')}
    gallery.write(members, Dark(sound.clip_id), 'test', folder / 'page.html', **roles)
    return (folder / 'page.html').read_text()


def explanation_page(name, folder):
    del folder
    probs = np.array([0.7, 0.2, 0.1])
    heat = np.ones((9, 16), np.float32)
    told = explanation.Explanation(
        start_s=0.0,
        end_s=10.0,
        probs=probs,
        without={'sound': probs[::-1]},
        parts={name('member'): probs},
        pictures=[explanation.Picture(0.5, np.zeros((9, 16, 3), np.uint8), heat)],
        sound=explanation.Spectrum(np.eye(9, 16), np.geomspace(20, 20000, 9), 0 * heat),
        attention=(np.arange(3.0), np.ones(3)),
        maps={'picture': [name('network')], 'sound': [name('listener')]},
    )
    classes = [name(f'class {k}') for k in range(3)]
    windows = [(0.0, 10.0, probs), (10.0, 20.0, probs)]
    file, notes, warnings = name('file'), [name('note')], [name('warning')]
    return explanation.document(file, classes, windows, [told], notes, warnings)


def labels_page(name, folder):
    labels = np.eye(5, 3, dtype=bool) | (np.arange(5) > 2)[:, None]
    clips = [f'park-{name("city")}-{place}-{i}' for i, place in enumerate((1, 1, 2, 3, 4))]
    limits = {'thresholds': [0.3] * 3, 'beta': 1.0, 'fitted_on': name('split'), 'not_fitted': []}
    meta = {'classes': [name(f'class {k}') for k in range(3)], 'kind': 'independent'}
    meta |= {'thresholds': limits, 'granularity': name('kind')}
    probs = np.linspace(0.1, 0.9, 15).reshape(5, 3)
    made = tables.Predictions(clips, np.full(5, -1), labels, probs, meta)
    told = report.make(made, title=name('title'), about=about(name), history=HISTORY)
    told['members'] = [report.line(name('member'), made)]
    return report.write(told, folder).read_text()


# Page -> the names that it shows whole.
PAGES = {
    labels_page: 'title data protocol encoder origin warning member split',
    report_page: 'title data protocol encoder origin warning row source member level kind paper '
    'learned weight split hash library version view city',
    unscored_page: 'title data protocol encoder origin warning learned weight hash',
    comparison_page: 'first second fact told setting value warning city',
    modalities_page: 'warning city',
    gallery_page: 'sound picture city',
    explanation_page: 'file note warning member network listener',
}
CLASSES = {
    labels_page,
    report_page,
    comparison_page,
    modalities_page,
    gallery_page,
    explanation_page,
}


class Seen(HTMLParser):
    """Tags with the names of their attributes, as a browser reads them, and the text."""

    def __init__(self, shown):
        super().__init__()
        self.tags, self.text = [], ''
        self.feed(shown)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, *(key for key, _ in attributes)))

    def handle_endtag(self, tag):
        self.tags.append(f'/{tag}')

    def handle_comment(self, data):
        self.tags.append('comment')

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize('make', PAGES, ids=lambda make: make.__name__)
def test_hostile_names_are_shown_as_they_are_and_change_no_markup(make, tmp_path):
    shown = make(evil, tmp_path)
    seen = Seen(shown)
    assert seen.tags == Seen(make(harmless, tmp_path)).tags
    assert not re.search('[\0-\x09\x0b-\x1f\x7f]', shown)
    names = PAGES[make].split() + [f'class {k}' for k in range(3) if make in CLASSES]
    missing = [name for name in names if printable(evil(name)) not in seen.text]
    assert not missing


def test_only_one_function_marks_markup_as_safe():
    for path in sorted((PACKAGE / 'report' / 'templates').iterdir()):
        assert not re.search(r'\|\s*safe|autoescape|Markup', path.read_text('utf-8')), path.name
    users = {path for path in PACKAGE.rglob('*.py') if 'Markup(' in path.read_text('utf-8')}
    assert users == {PACKAGE / 'report' / 'html.py'}


def test_a_value_that_is_not_given_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match='sentence'):
        html.render('gallery.html', title='a', warnings=(), cards=())


def test_what_is_printed_needs_no_templates_and_no_plots():
    code = (
        'import sys; from avsc_jax.report import comparison, modalities\n'
        'print([name for name in ("jinja2", "matplotlib") if name in sys.modules])'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout.strip() == '[]', done.stdout + done.stderr
