"""Every public function has an example in its docstring, and it gives what it says."""

import doctest
import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType

import jax
import numpy as np
import pytest

# A package stands for the names that it hands on, a module for those that have no underscore.
PUBLIC = (
    'audio.frontends',
    'augment.image',
    'augment.mix',
    'augment.spectrogram',
    'ensemble',
    'label_metrics',
    'losses',
    'metrics',
    'models',
    'predict',
    'scenes',
    'tables',
    'weights',
)


def functions(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The public functions of a module by name."""
    for name in getattr(module, '__all__', dir(module)):
        value = getattr(module, name)
        home = getattr(value, '__module__', '')
        own = home.startswith('avsc_jax') if hasattr(module, '__all__') else home == module.__name__
        if inspect.isfunction(value) and own and not name.startswith('_'):
            yield name, value


@pytest.mark.parametrize('name', PUBLIC)
def test_the_examples_of_public_functions_give_what_they_say(name: str) -> None:
    module = importlib.import_module(f'avsc_jax.{name}')
    public, missing = dict(functions(module)), []
    assert public
    for title, function in public.items():
        given = {**vars(module), 'np': np, 'jnp': jax.numpy, 'jax': jax, title: function}
        finder = doctest.DocTestFinder(recurse=False)
        examples = [test for test in finder.find(function, title, globs=given) if test.examples]
        missing += [title] if not examples else []
        for example in examples:
            printed: list[str] = []
            runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
            runner.run(example, out=printed.append)
            assert not runner.failures, ''.join(printed)
    assert not missing, f'avsc_jax.{name}: no example in {", ".join(missing)}'
