"""The pickles in PyTorch's files, read by a machine that cannot import or call anything.

A pickle is a program for a stack machine, and Python's own runs whatever it names. This one builds
lists, tuples, dicts, numbers and strings, and *descriptions* of tensors and of TorchScript's
objects. A name is only ever compared with the few that PyTorch writes; any other is an error.
"""

import dataclasses
import io
import itertools
import pickletools
from typing import Any

import ml_dtypes
import numpy as np

MAX_STEPS = 1 << 19  # published files take some forty a tensor

DTYPES = {
    'torch.DoubleStorage': np.float64,
    'torch.FloatStorage': np.float32,
    'torch.HalfStorage': np.float16,
    'torch.BFloat16Storage': ml_dtypes.bfloat16,
    'torch.LongStorage': np.int64,
    'torch.IntStorage': np.int32,
    'torch.ShortStorage': np.int16,
    'torch.CharStorage': np.int8,
    'torch.ByteStorage': np.uint8,
    'torch.BoolStorage': np.bool_,
    'torch.ComplexDoubleStorage': np.complex128,
    'torch.ComplexFloatStorage': np.complex64,
}
ORDERED_DICT = 'collections.OrderedDict'
REBUILD_TENSOR = ('torch._utils._rebuild_tensor', 'torch._utils._rebuild_tensor_v2')
REBUILD_PARAMETER = 'torch._utils._rebuild_parameter'
SCRIPT_CLASS = '__torch__.'  # classes whose code is in a TorchScript archive
SCRIPT_LISTS = tuple(
    f'torch.jit._pickle.{name}'
    for name in (
        'build_boollist',
        'build_doublelist',
        'build_intlist',
        'build_tensorlist',
        'restore_type_tag',
    )
)
NAMES = {ORDERED_DICT, *REBUILD_TENSOR, REBUILD_PARAMETER, *SCRIPT_LISTS, *DTYPES}


@dataclasses.dataclass(frozen=True)
class Storage:
    """Numbers in a row, elsewhere in the file."""

    key: str
    dtype: np.dtype
    size: int

    @property
    def num_bytes(self) -> int:
        return self.size * self.dtype.itemsize


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A view of a storage; offset and strides count its numbers. Nothing is checked yet."""

    storage: Storage
    offset: int
    shape: tuple
    strides: tuple


@dataclasses.dataclass(frozen=True, eq=False)
class Module:
    """An object of a class that a TorchScript archive defines; its code stays unread."""

    attributes: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class _Name:
    """A class or function that the pickle names: one of NAMES, or a TorchScript class."""

    name: str


class Unpickler:
    """Reads pickles one after the other.

    Attributes:
      storages: by key, all that were described so far.
    """

    def __init__(self):
        self.storages: dict[str, Storage] = {}

    def load(self, file: io.BufferedIOBase) -> Any:
        """The object of the next pickle. No call here goes deeper for what lies deeper in it."""
        stack, marks, memo = [], [], {}

        def pop_to_mark() -> list:
            start = marks.pop()
            items = stack[start:]
            del stack[start:]
            return items

        # genops reads an opcode and its argument, never more than the file has
        for opcode, argument, _ in itertools.islice(pickletools.genops(file), MAX_STEPS):
            match opcode.name:
                case 'PROTO' | 'FRAME':
                    pass
                case 'STOP':
                    return stack.pop()
                case 'MARK':
                    marks.append(len(stack))
                case 'NONE':
                    stack.append(None)
                case 'NEWTRUE' | 'NEWFALSE':
                    stack.append(opcode.name == 'NEWTRUE')
                case (
                    'BININT' | 'BININT1' | 'BININT2' | 'LONG1' | 'BINFLOAT'
                    | 'BINUNICODE' | 'SHORT_BINUNICODE'
                ):  # fmt: skip
                    stack.append(argument)
                case 'EMPTY_TUPLE':
                    stack.append(())
                case 'EMPTY_LIST':
                    stack.append([])
                case 'EMPTY_DICT':
                    stack.append({})
                case 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
                    length = int(opcode.name[-1])
                    stack[-length:] = [tuple(stack[-length:])]
                case 'TUPLE':
                    stack.append(tuple(pop_to_mark()))
                case 'BINPUT' | 'LONG_BINPUT':
                    memo[argument] = stack[-1]
                case 'MEMOIZE':
                    memo[len(memo)] = stack[-1]
                case 'BINGET' | 'LONG_BINGET':
                    stack.append(memo[argument])
                case 'APPEND' | 'APPENDS':
                    items = pop_to_mark() if opcode.name == 'APPENDS' else [stack.pop()]
                    _expect(list, stack[-1]).extend(items)
                case 'SETITEM' | 'SETITEMS':
                    items = pop_to_mark() if opcode.name == 'SETITEMS' else _pop(stack, 2)
                    # other keys could be tuples so deep that hashing them overruns the stack
                    keys = [_expect(str | int, key) for key in items[::2]]
                    _expect(dict, stack[-1]).update(zip(keys, items[1::2], strict=True))
                case 'GLOBAL':
                    stack.append(_name(argument.replace(' ', '.')))
                case 'STACK_GLOBAL':
                    module, name = _pop(stack, 2)
                    stack.append(_name(f'{_expect(str, module)}.{_expect(str, name)}'))
                case 'REDUCE' | 'NEWOBJ':
                    function, arguments = _pop(stack, 2)
                    name = _expect(_Name, function).name
                    stack.append(_result(name, _expect(tuple, arguments)))
                case 'BUILD':
                    state = _expect(dict, stack.pop())
                    if isinstance(stack[-1], Module):
                        stack[-1].attributes.update(state)
                    else:  # what PyTorch notes about a state_dict, such as its version
                        _expect(dict, stack[-1])
                case 'BINPERSID':
                    stack.append(self._storage(stack.pop()))
                case _:
                    raise ValueError(f'its pickle has the opcode {opcode.name}')
        raise ValueError(f'its pickle goes on after {MAX_STEPS:,} steps')

    def _storage(self, description: Any) -> Storage:
        match description:
            # further on there may be the key of a storage that this one is a part of: torch < 0.4
            case ('storage', _Name(name=name), str(key), str(), int(size), *rest) if (
                name in DTYPES and size >= 0 and not any(rest)
            ):
                found = Storage(key, np.dtype(DTYPES[name]), size)
                if self.storages.setdefault(key, found) != found:
                    raise ValueError(f'it describes the storage {key[:80]!r} in two ways')
                return found
        raise ValueError('it describes a storage in a way that is not known')


def _name(name: str) -> _Name:
    if name not in NAMES and not name.startswith(SCRIPT_CLASS):
        raise ValueError(
            f'it names {name[:80]!r}, and only tensors in dicts are read; save the state_dict alone'
        )
    return _Name(name)


def _result(name: str, arguments: tuple) -> Any:
    """What stands for the result of a call."""
    match arguments:
        case () if name == ORDERED_DICT:
            return {}
        case () if name.startswith(SCRIPT_CLASS):
            return Module()
        case (Storage(), int(), tuple(), tuple(), *_) if name in REBUILD_TENSOR:
            return Tensor(*arguments[:4])
        case (Tensor(), *_) if name == REBUILD_PARAMETER:
            return arguments[0]
        case (list() | dict(), *_) if name in SCRIPT_LISTS:
            return arguments[0]
    raise ValueError(f'it calls {name[:80]!r} in a way that is not known')


def _pop(stack: list, count: int) -> list:
    items = stack[-count:]
    del stack[-count:]
    return items


def _expect(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f'its pickle has a {type(value).__name__} where none belongs')
    return value
