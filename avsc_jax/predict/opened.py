"""Opens the system that the flags of avsc_jax.predict or avsc_jax.serve name."""

import itertools
from pathlib import Path

from avsc_jax.predict.predictor import member_folders
from avsc_jax.runs.run_folder import RunFolder


def published(model: Path) -> list[str]:
    """Names the encoders with published weights of a run, or of an ensemble's members."""
    if (model / 'members.json').exists():
        runs = [place for _, place in member_folders(model)]
        return list(dict.fromkeys(itertools.chain(*map(published, runs))))
    encoders = RunFolder(model).read_json('preprocessing.json').get('encoders', [])
    return [e['name'] for e in encoders if 'run' not in e and len(e['weights']) == 64]
