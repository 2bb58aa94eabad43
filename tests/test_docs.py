"""The API pages build from the docstrings, and show the names that other programs rely on."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

RELIED_ON = {
    'models': ('list_models', 'create_model', 'input_spec', 'init', 'count_parameters'),
    'models/clip_late_fusion': ('ClipLateFusion', 'ClipLateFusion.encoders'),
    'training': ('load_run',),
    'predict': ('Predictor', 'Predictor.load'),
    'weights': ('read', 'write', 'convert', 'SOURCES', 'Source.licence'),
    'audio/frontends': (
        *('hitachi_logmel', 'openl3_mel256'),
        *('ioacas_logmel', 'ioacas_bark', 'ioacas_scalogram'),
    ),
    'ensemble': ('clamp', 'hitachi', 'search_weights', 'fit_temperature'),
    'metrics': ('log_loss', 'accuracy', 'per_class', 'confusion', 'calibration_error'),
    'tables': ('read', 'write', 'Predictions', 'Predictions.probs'),
    'scenes': ('SCENES', 'parse_clip_id'),
    'losses': ('cross_entropy', 'focal_loss'),
    'augment/mix': ('mixup',),
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
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the package's pages."""
    folder = tmp_path_factory.mktemp('api')
    command = [sys.executable, str(ROOT / 'docs/api.py'), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'warn' not in (done.stdout + done.stderr).lower()
    return folder / 'avsc_jax'


@pytest.mark.parametrize('module', RELIED_ON)
def test_a_page_shows_the_names_that_others_rely_on(pages: Path, module: str) -> None:
    assert {*RELIED_ON[module]} - Page(pages / f'{module}.html').ids == set()


def test_the_pages_show_shapes_sources_and_no_fields_of_linen(pages: Path) -> None:
    ensemble = Page(pages / 'ensemble.html')
    assert "probs: Float[Array, 'N C'], labels: Int[Array, 'N']" in ensemble.text
    assert 'Okazaki 2021, Eq. (1)' in ensemble.text
    network = Page(pages / 'models/clip_late_fusion.html')
    assert not {'ClipLateFusion.parent', 'ClipLateFusion.name'} & network.ids
