"""A reader of the pickles in PyTorch's files that cannot import or call anything.

A pickle is a program for a stack machine, and Python's own machine calls whatever it names. This
one builds lists, tuples, dicts, numbers and strings, and *descriptions* of tensors and of
TorchScript's objects. A name is only compared with the few that PyTorch writes; any other is an
error.
"""

import dataclasses
import io
import itertools
import pickletools
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

MAX_STEPS = 1 << 19  # published files take about forty steps a tensor

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
    # of tensors that are refused by name
    'torch.storage.UntypedStorage': np.uint8,
    'torch.QInt8Storage': np.int8,
    'torch.QUInt8Storage': np.uint8,
    'torch.QInt32Storage': np.int32,
}
ORDERED_DICT = 'collections.OrderedDict'
REBUILD_TENSOR = ('torch._utils._rebuild_tensor', 'torch._utils._rebuild_tensor_v2')
REBUILD_TYPED, REBUILD_QUANTIZED = (
    f'torch._utils._rebuild_{name}' for name in ('tensor_v3', 'qtensor')
)
TYPES = tuple(
    f'torch.{name}'
    for name in (
        'float8_e4m3fn', 'float8_e5m2', 'float8_e4m3fnuz', 'float8_e5m2fnuz', 'float8_e8m0fnu',
        'float4_e2m1fn_x2', 'uint16', 'uint32', 'uint64',
    )
)  # fmt: skip
SCHEMES = tuple(f'torch.per_{name}' for name in ('tensor_affine', 'channel_affine'))
ALONE = (
    'save the state_dict alone; if you trust the file, in PyTorch by torch.save(torch.load(FILE, '
    "weights_only=False)['state_dict'], NEW_FILE), or [...].state_dict() where it holds a module"
)
SETTINGS = 'argparse.Namespace'  # beside the weights in a checkpoint of timm
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
NAMES = {ORDERED_DICT, *REBUILD_TENSOR, REBUILD_PARAMETER, *SCRIPT_LISTS, *DTYPES, SETTINGS}
NAMES |= {REBUILD_TYPED, REBUILD_QUANTIZED, *TYPES, *SCHEMES}


@dataclasses.dataclass(frozen=True)
class Storage:
    """A description of consecutive numbers that lie elsewhere in the file."""

    key: str
    dtype: np.dtype
    size: int

    @property
    def num_bytes(self) -> int:
        return self.size * self.dtype.itemsize


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """An unchecked view of a storage; offset and strides count its numbers.

    Attributes:
      kind: the type of a tensor that is not read, such as float8; '' if it is read.
    """

    storage: Storage
    offset: int
    shape: tuple
    strides: tuple
    kind: str = ''


@dataclasses.dataclass(frozen=True, eq=False)
class Module:
    """An object of a class that a TorchScript archive defines, or settings; no code is read."""

    attributes: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class _Name:
    """A class or function that the pickle names: one of NAMES, or a TorchScript class."""

    name: str


class Unpickler:
    """Reads pickles one after the other.

    Attributes:
      storages: key -> each storage that was described so far.
    """

    def __init__(self):
        self.storages: dict[str, Storage] = {}

    def load(self, file: io.BufferedIOBase) -> Any:
        """Returns the object of the next pickle; deep nesting in it takes no deep recursion."""
        machine = _Machine(self._storage)
        # genops reads an opcode and its argument, never more than the file has
        for opcode, argument, _ in itertools.islice(pickletools.genops(file), MAX_STEPS):
            if opcode.name == 'STOP':
                return machine.stack.pop()
            machine.step(opcode.name, argument)
        raise ValueError(f'its pickle has more than {MAX_STEPS:,} steps')

    def _storage(self, description: Any) -> Storage:
        match description:
            # torch < 0.4 also writes the key of a storage that this one is a part of
            case ('storage', _Name(name=name), str(key), str(), int(size), *rest) if (
                name in DTYPES and size >= 0 and not any(rest)
            ):
                storage = Storage(key, np.dtype(DTYPES[name]), size)
                if self.storages.setdefault(key, storage) != storage:
                    raise ValueError(f'it describes the storage {key[:80]!r} in two ways')
                return storage
        raise ValueError('it describes a storage in a way that is not known')


class _Machine:
    """The stack machine of one pickle, with its marks and memo.

    Args:
      storage: makes a Storage from its description.
    """

    def __init__(self, storage: Callable[[Any], Storage]):
        self.stack: list = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._storage = storage

    def step(self, opcode: str, argument: Any) -> None:
        """Executes one opcode."""
        match opcode:
            case 'PROTO' | 'FRAME':
                pass
            case 'MARK':
                self._marks.append(len(self.stack))
            case 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
                length = int(opcode[-1])
                self.stack[-length:] = [tuple(self.stack[-length:])]
            case 'BINPUT' | 'LONG_BINPUT':
                self._memo[argument] = self.stack[-1]
            case 'MEMOIZE':
                self._memo[len(self._memo)] = self.stack[-1]
            case 'APPEND' | 'APPENDS' | 'SETITEM' | 'SETITEMS' | 'BUILD':
                self._fill(opcode)
            case _:
                self.stack.append(self._value(opcode, argument))

    def _fill(self, opcode: str) -> None:
        """Moves the top of the stack into the list, dict or object below it."""
        match opcode:
            case 'APPEND' | 'APPENDS':
                items = self._pop_to_mark() if opcode == 'APPENDS' else [self.stack.pop()]
                _expect(list, self.stack[-1]).extend(items)
            case 'SETITEM' | 'SETITEMS':
                items = self._pop_to_mark() if opcode == 'SETITEMS' else _pop(self.stack, 2)
                # other keys could be tuples so deep that hashing them overflows the stack
                keys = [_expect(str | int, key) for key in items[::2]]
                _expect(dict, self.stack[-1]).update(zip(keys, items[1::2], strict=True))
            case 'BUILD':
                state = _expect(dict, self.stack.pop())
                if isinstance(self.stack[-1], Module):
                    self.stack[-1].attributes.update(state)
                else:  # PyTorch's notes about a state_dict, such as its version
                    _expect(dict, self.stack[-1])

    def _value(self, opcode: str, argument: Any) -> Any:
        """Returns the value that an opcode pushes, from its argument or the stack's top."""
        match opcode:
            case 'NONE':
                return None
            case 'NEWTRUE' | 'NEWFALSE':
                return opcode == 'NEWTRUE'
            case (
                'BININT' | 'BININT1' | 'BININT2' | 'LONG1' | 'BINFLOAT'
                | 'BINUNICODE' | 'SHORT_BINUNICODE'
            ):  # fmt: skip
                return argument
            case 'EMPTY_TUPLE':
                return ()
            case 'EMPTY_LIST':
                return []
            case 'EMPTY_DICT':
                return {}
            case 'TUPLE':
                return tuple(self._pop_to_mark())
            case 'BINGET' | 'LONG_BINGET':
                return self._memo[argument]
            case 'GLOBAL':
                return _name(argument.replace(' ', '.'))
            case 'STACK_GLOBAL':
                module, name = _pop(self.stack, 2)
                return _name(f'{_expect(str, module)}.{_expect(str, name)}')
            case 'REDUCE' | 'NEWOBJ':
                function, arguments = _pop(self.stack, 2)
                return _result(_expect(_Name, function).name, _expect(tuple, arguments))
            case 'BINPERSID':
                return self._storage(self.stack.pop())
        raise ValueError(f'its pickle has the opcode {opcode}, which PyTorch does not write')

    def _pop_to_mark(self) -> list:
        start = self._marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items


def _name(name: str) -> _Name:
    if name not in NAMES and not name.startswith(SCRIPT_CLASS):
        raise ValueError(
            f'it names {name[:80]!r}, a class or function, and only tensors in dicts are read: '
            f'{ALONE}'
        )
    return _Name(name)


def _result(name: str, arguments: tuple) -> Any:
    """Returns the description that stands for the result of a call."""
    match arguments:
        case () if name == ORDERED_DICT:
            return {}
        case () if name.startswith(SCRIPT_CLASS) or name == SETTINGS:
            return Module()
        case (Storage(), int(), tuple(), tuple(), *_) if name in REBUILD_TENSOR:
            return Tensor(*arguments[:4])
        case (Storage(), int(), tuple(), tuple(), _, _, _Name(name=kind), *_) if (
            name == REBUILD_TYPED and kind in TYPES
        ):
            return Tensor(*arguments[:4], kind.removeprefix('torch.'))
        case (Storage(), int(), tuple(), tuple(), *_) if name == REBUILD_QUANTIZED:
            return Tensor(*arguments[:4], f'quantized {arguments[0].dtype}')
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
