"""The notebooks run from top to bottom, and are what their Markdown says."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / 'colab').glob('*.ipynb'))


@pytest.fixture(scope='module')
def workplace(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    """The folder of all notebooks: what one has trained, the next finds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TFDS_DATA_DIR', str(data_dir))
        patch.setenv('PATH', f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}')
        yield {'metadata': {'path': str(tmp_path_factory.mktemp('colab'))}}


@pytest.mark.slow
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path: Path, workplace: dict) -> None:
    import nbclient  # of the notebooks extra
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources=workplace).execute()


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_its_markdown_without_outputs(path: Path) -> None:
    import jupytext

    notebook, markdown = jupytext.read(path), jupytext.read(path.with_suffix('.md'))
    stored, written = (
        [(cell.cell_type, cell.source) for cell in found.cells] for found in (notebook, markdown)
    )
    assert stored == written, 'run: jupytext --update --to ipynb colab/*.md'
    code = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_each_markdown_file_has_its_notebook() -> None:
    folder = NOTEBOOKS[0].parent
    assert {path.stem for path in folder.glob('*.md')} == {path.stem for path in NOTEBOOKS}
