"""The site builds without a warning, and shows what other programs and readers rely on."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.docs

RELIED_ON = {
    'models': (
        *('list_models', 'create_model', 'input_spec', 'init', 'count_parameters'),
        *('clip_late_fusion.ClipLateFusion', 'clip_late_fusion.ClipLateFusion.encoders'),
    ),
    'training': ('load_run',),
    'predict': ('Predictor', 'Predictor.load', 'tags', 'zero_shot'),
    'weights': ('read', 'write', 'convert', 'SOURCES', 'Source.licence'),
    'audio': (
        *('frontends.hitachi_logmel', 'frontends.openl3_mel256'),
        *('frontends.ioacas_logmel', 'frontends.ioacas_bark', 'frontends.ioacas_scalogram'),
    ),
    'ensemble': ('clamp', 'hitachi', 'search_weights', 'fit_temperature'),
    'metrics': ('log_loss', 'accuracy', 'per_class', 'confusion', 'calibration_error'),
    'tables': ('read', 'write', 'Predictions', 'Predictions.probs'),
    'scenes': ('SCENES', 'parse_clip_id'),
    'losses': ('cross_entropy', 'focal_loss'),
    'augment': ('mix.mixup',),
}


class Page(HTMLParser):
    """The ids and the text of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids, self.text = set(), ''
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.ids |= {value for name, value in attributes if name == 'id'}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope='module')
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site."""
    folder = tmp_path_factory.mktemp('site')
    command = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', '-c', 'docs']
    command += ['-d', str(folder / 'read'), '.', str(folder / 'html')]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / 'html'


@pytest.mark.parametrize('module', RELIED_ON)
def test_a_page_shows_the_names_that_others_rely_on(site: Path, module: str) -> None:
    names = {f'avsc_jax.{module}.{name}' for name in RELIED_ON[module]}
    assert names - Page(site / f'docs/api/{module}.html').ids == set()


def test_the_pages_show_shapes_sources_examples_and_no_fields_of_linen(site: Path) -> None:
    ensemble = Page(site / 'docs/api/ensemble.html')
    assert "probs: Float[Array, 'N C'], labels: Int[Array, 'N']" in ensemble.text
    assert 'Okazaki 2021, Eq. (1)' in ensemble.text and '>>> clamp(' in ensemble.text
    assert 'mean,std – of the channels' in Page(site / 'docs/api/weights.html').text
    networks = Page(site / 'docs/api/models.html')
    fusion = 'avsc_jax.models.clip_late_fusion.ClipLateFusion'
    assert not {f'{fusion}.parent', f'{fusion}.name'} & networks.ids
    # one name for arrays of all kinds, and no constructors that repeat the fields
    assert not any(text in ensemble.text for text in ('jaxlib', '~avsc_jax'))
    assert 'class avsc_jax.models.clip_late_fusion.ClipLateFusion\u00b6' in networks.text


@pytest.mark.parametrize('config', sorted(path.stem for path in ROOT.glob('configs/[!_]*.py')))
def test_a_config_of_a_system_has_its_part_with_rows_fields_and_command(
    site: Path, config: str
) -> None:
    if config == 'common':  # helpers
        return
    texts = (Page(path).text for path in (site / 'docs/systems').glob('*.html'))
    (text,) = (text for text in texts if f'What is read, and how: {config}.py' in text)
    assert f'python -m avsc_jax.main --config=configs/{config}.py' in text
    lines = (ROOT / 'docs/systems.md').read_text().splitlines()
    rows = [line.split(' | ') for line in lines if f'`configs/{config}.py' in line]
    assert all(row[2] in text and row[4].removesuffix(' |') in text for row in rows)


def test_no_page_shows_a_comment_that_stands_for_a_part(site: Path) -> None:
    pages = [path.read_text() for path in site.glob('docs/**/*.html')]
    assert len(pages) > 40
    assert not [page for page in pages if '&lt;!-- ' in page or '<!-- config' in page]
