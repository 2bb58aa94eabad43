"""Keeps compiled programs from one start of a command to the next, in the user's cache folder."""

import contextlib
import hashlib
import os
import platform
import stat
import warnings
from pathlib import Path

import jax

MOST_BYTES = 1 << 28  # of all programs; the least recently used are deleted
LEAST_S = 0.1  # of compiling; less is not worth a file


def keep() -> None:
    """Makes JAX keep what it compiles, and take what earlier starts have kept.

    JAX's own variables go first: JAX_COMPILATION_CACHE_DIR names another folder, and
    JAX_ENABLE_COMPILATION_CACHE=false turns this off. JAX tells programs apart by their operations,
    the compiler's options and its version; here each kind of processor has a folder of its own. A
    program is code that runs, so the folder must be the user's alone. Without one nothing is kept.
    """
    if jax.config.values['jax_compilation_cache_dir']:
        return
    if folder := own_folder(f'compiled/{_processor()}'):
        # a damaged or foreign entry is compiled again, which nobody needs to know
        warnings.filterwarnings('ignore', message='Error (reading|writing) persistent compilation')
        jax.config.update('jax_compilation_cache_dir', str(folder))
        jax.config.update('jax_compilation_cache_max_size', MOST_BYTES)
        jax.config.update('jax_persistent_cache_min_compile_time_secs', LEAST_S)


def beside(name: str) -> Path | None:
    """Returns a folder for what else commands keep; None where `keep` keeps no programs.

    Args:
      name: of the folder, which is the user's alone, and of this kind of processor.
    """
    values = jax.config.values
    is_on = values['jax_enable_compilation_cache']
    programs = own_folder(f'compiled/{_processor()}') if is_on else None
    is_kept = programs and values['jax_compilation_cache_dir'] == str(programs)
    return own_folder(f'{name}/{_processor()}') if is_kept else None


def own_folder(name: str) -> Path | None:
    """Makes a folder in the user's cache; None if that cannot be, or others can write into it."""
    with contextlib.suppress(OSError, RuntimeError):  # a user may have no home
        folder = Path('~/.cache/avsc_jax').expanduser() / name
        folder.mkdir(0o700, parents=True, exist_ok=True)
        return folder if _is_own(folder) else None
    return None


def _is_own(folder: Path) -> bool:
    """Whether a folder is the user's, and nobody else can write into it."""
    facts = folder.stat()
    others = stat.S_IWGRP | stat.S_IWOTH
    return facts.st_uid == os.getuid() and not facts.st_mode & others and os.access(folder, os.W_OK)


def _processor() -> str:
    """Returns a short name of the kind of processor: programs of one may not run on another."""
    facts = f'{platform.machine()} {platform.processor()}'
    with contextlib.suppress(OSError):
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        facts += next((line for line in lines if line.startswith(('flags', 'Features'))), '')
    return hashlib.sha256(facts.encode()).hexdigest()[:12]
