"""Pickles that were written by hand, well or with bad intent, in archives as torch makes them."""

import builtins
import copyreg
import os
import pickle
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from avsc_jax import weights
from avsc_jax.weights import unpickler

DICT, LIST, NOTHING = b'}', b']', b'N'


def text(value: str) -> bytes:
    return b'X' + len(value.encode()).to_bytes(4, 'little') + value.encode()


def number(value: int) -> bytes:
    return b'\x8a\x20' + value.to_bytes(32, 'little', signed=True)


def items(*values: bytes) -> bytes:
    return b'(' + b''.join(values) + b't'


def call(name: str, *arguments: bytes) -> bytes:
    module, _, function = name.rpartition('.')
    return f'c{module}\n{function}\n'.encode() + items(*arguments) + b'R'


def mapping(values: dict[str, bytes]) -> bytes:
    return b'}(' + b''.join(text(name) + value for name, value in values.items()) + b'u'


def storage(key='0', kind='Float', size=6) -> bytes:
    name = f'ctorch\n{kind}Storage\n'.encode()
    return items(text('storage'), name, text(key), text('cpu'), number(size)) + b'Q'


# The second half of another storage, as torch before 0.4 could write it.
PART = storage()[:-2] + items(text('1'), number(3), number(3)) + b'tQ'


def tensor(shape=(6,), strides=(1,), offset=0, source=None) -> bytes:
    sizes = (items(*map(number, values)) for values in (shape, strides))
    return call(
        'torch._utils._rebuild_tensor_v2', source or storage(), number(offset), *sizes, b'\x89',
        call('collections.OrderedDict'),
    )  # fmt: skip


def script_object(attributes: bytes) -> bytes:
    return b'c__torch__.a\nNet\n)\x81' + attributes + b'b'


def read(tmp_path, content, storages=None, entry=None):
    """What `weights.read` makes of the pickle in an archive with the storage '0' of 0 ... 5."""
    path = tmp_path / 'w.pt'
    storages = {'0': np.arange(6, dtype=np.float32).tobytes()} if storages is None else storages
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('w/data.pkl', b'\x80\x02' + content + b'.')
        for key, values in storages.items():
            archive.writestr(f'w/data/{key}', values)
    return weights.read(path, entry=entry)


def refused(tmp_path, content, sentence, **kwargs):
    """The content is an error of one line that says this, at once and with little memory."""
    began = time.process_time()
    tracemalloc.start()
    with pytest.raises(
        ValueError, match=rf'w\.pt cannot be read as \.pt weights: .*{sentence}.*\Z'
    ):
        read(tmp_path, content, **kwargs)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20 and time.process_time() - began < 10


def test_what_is_written_by_hand_is_read(tmp_path):
    state = read(tmp_path, mapping({'a': tensor(), 'b': tensor((2, 2), (1, 3), 1)}))
    np.testing.assert_array_equal(state['a'], np.arange(6, dtype=np.float32), strict=True)
    np.testing.assert_array_equal(state['b'], np.float32([[1, 4], [2, 5]]), strict=True)


def test_views_of_one_storage_take_its_memory_once(tmp_path):
    state = read(tmp_path, mapping({'a': tensor(), 'b': tensor((3,), (1,), 3)}))
    assert np.shares_memory(state['a'], state['b'])


@pytest.mark.parametrize('wrap', ['state_dict', 'model'])
def test_a_checkpoint_gives_its_one_dict_of_tensors(tmp_path, wrap):
    extras = {'epoch': number(3), 'args': mapping({'lr': b'G' + bytes(8)}), 'empty': DICT}
    state = read(tmp_path, mapping(extras | {wrap: mapping({'a': tensor()})}))
    assert list(state) == ['a']


@pytest.mark.parametrize(
    ('content', 'sentence'),
    [
        (mapping({'model': mapping({'a': tensor()}), 'ema': mapping({'a': tensor()})}), '2 dicts'),
        (mapping({'a': tensor(), 'epoch': number(3)}), "0 dicts of tensors, .* .'a', 'epoch'.;"),
        (mapping({'model': mapping({'model': mapping({'a': tensor()})})}), '0 dicts'),
        (DICT, '0 dicts of tensors, .* .nothing.;'),
        (items(tensor()), r'it holds a tuple, .* save the state_dict alone; .*torch\.save\('),
        (script_object(DICT), 'its modules have no parameters'),
    ],
)
def test_which_tensors_are_meant_is_not_guessed(tmp_path, content, sentence):
    refused(tmp_path, content, sentence)


SETTINGS = b'cargparse\nNamespace\n)\x81' + mapping({'lr': number(3)}) + b'b'
SEVERAL = {
    'state_dict': mapping({'a': tensor()}),
    'ema': mapping({'state_dict': mapping({'b': tensor()})}),
    'args': SETTINGS,
}


@pytest.mark.parametrize(
    ('content', 'entry', 'names'),
    [
        (mapping(SEVERAL), 'state_dict', ['a']),
        (mapping(SEVERAL), 'ema.state_dict', ['b']),
        (mapping({'model': mapping({'model': mapping({'a': tensor()})})}), 'model.model', ['a']),
        (mapping({'model': mapping({'a': tensor()}), 'args': SETTINGS}), None, ['a']),
    ],
)
def test_an_entry_chooses_among_several_dicts_of_tensors(tmp_path, content, entry, names):
    assert list(read(tmp_path, content, entry=entry)) == names


@pytest.mark.parametrize(
    ('content', 'entry', 'sentence'),
    [
        (mapping(SEVERAL), None, '2 dicts .*choose state_dict or ema.state_dict by .*--select=sta'),
        (mapping(SEVERAL), 'ema', "no dict of tensors called 'ema'; choose state_dict or"),
        (mapping({'m': mapping({'m': mapping({'a': tensor()})})}), None, '0 dicts .*--select=m.m'),
        (script_object(mapping({'a': tensor()})), 'a', 'it holds a Module, not a dict'),
        (mapping({'a.b': mapping({'a': tensor()}), 'a': mapping({'b': mapping({'a': tensor()})})}),
         None, "two dicts of tensors called 'a.b'"),
    ],
)  # fmt: skip
def test_the_option_that_chooses_is_named(tmp_path, content, entry, sentence):
    refused(tmp_path, content, sentence, entry=entry)


def test_dicts_that_hold_each_other_end(tmp_path):
    """Each of a thousand names of a dict leads to the same dict, on every level."""
    below = b''.join(text(f'{k}') + b'h\0' for k in range(1000))
    refused(tmp_path, b'}q\0(' + below + b'u', 'its dicts are nested without end')


def untyped(kind: str, module: str = 'torch') -> bytes:
    """A tensor as torch 2 writes one whose type has no storage class of its own."""
    place = items(text('storage'), b'ctorch.storage\nUntypedStorage\n', text('1'), text('cpu'),
                  number(24)) + b'Q'  # fmt: skip
    sizes = items(number(6)), items(number(1))
    return call(
        'torch._utils._rebuild_tensor_v3', place, number(0), *sizes, b'\x89',
        call('collections.OrderedDict'), f'c{module}\n{kind}\n'.encode(),
    )  # fmt: skip


QUANTIZED = call(
    'torch._utils._rebuild_qtensor', storage('1', 'QInt8', 24), number(0),
    items(number(6)), items(number(1)), items(b'ctorch\nper_tensor_affine\n'), b'\x89',
)  # fmt: skip


@pytest.mark.parametrize(
    ('value', 'sentence'),
    [
        (untyped('float8_e4m3fn'), "'a' is of float8_e4m3fn, whose scale no network here takes"),
        (untyped('uint16'), "'a' is of uint16, .*; give the weights as float32, float16 or bfloat"),
        (QUANTIZED, "'a' is of quantized int8, whose scale"),
        (untyped('system', 'os'), "it names 'os.system'"),
        (untyped('FloatStorage'), 'in a way that is not known'),
    ],
)
def test_a_type_that_is_no_weight_by_itself_is_refused_by_name(tmp_path, value, sentence):
    refused(tmp_path, mapping({'fine': tensor(), 'a': value}), sentence)


def test_an_object_of_torchscript_gives_dotted_names(tmp_path):
    block = script_object(mapping({'weight': tensor(), 'training': b'\x89', 'bias': NOTHING}))
    names = call('torch.jit._pickle.build_intlist', LIST)
    layer = script_object(mapping({'0': block, '1': block, 'sizes': names}))
    state = read(tmp_path, script_object(mapping({'layer': layer, 'scale': tensor((), ())})))
    assert sorted(state) == ['layer.0.weight', 'layer.1.weight', 'scale']


class Payload:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call

    def __call__(self):
        """Only what can be called may stand for a function."""


TOUCH = 'touch escaped'
PAYLOADS = {
    'os.system': Payload(os.system, TOUCH),
    'eval': Payload(builtins.eval, f'__import__("os").system({TOUCH!r})'),
    'exec': Payload(builtins.exec, f'import os; os.system({TOUCH!r})'),
    'getattr': Payload(getattr, Payload(__import__, 'os'), 'system'),
    'nested': Payload(Payload(getattr, Payload(__import__, 'os'), 'system'), TOUCH),
    'in a dict': {'state_dict': {'a': Payload(os.system, TOUCH)}},
    'copyreg': Payload(copyreg._reconstructor, Exception, object, None),
    'extension': Payload(copyreg.add_extension, 'os', 'system', 7),
    'class': Payload,
    'set': {1, 2},
    'bytearray': bytearray(3),
}


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize('name', PAYLOADS)
def test_a_payload_is_refused_and_not_executed(tmp_path, monkeypatch, name, protocol):
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps(PAYLOADS[name], protocol)
    refused(tmp_path, content.removesuffix(b'.'), '(names|opcode)')
    (tmp_path / 'w.pt').write_bytes(content)  # bare, as the first pickle of a stream
    with pytest.raises(ValueError, match=r'w\.pt cannot be read'):
        weights.read(tmp_path / 'w.pt')
    assert not (tmp_path / 'escaped').exists()


@pytest.mark.parametrize('name', ['os.system', 'eval', 'exec', 'nested', 'in a dict'])
def test_the_payloads_are_live(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(PAYLOADS[name]))
    assert (tmp_path / 'escaped').exists()


@pytest.mark.parametrize(
    'content',
    [
        b'cos\nsystem\n' + items(text(TOUCH)) + b'R',
        b'(' + text(TOUCH) + b'ios\nsystem\n',  # INST
        b'(cos\nsystem\n' + text(TOUCH) + b'o',  # OBJ
        b'cos\nsystem\n' + items(text(TOUCH)) + DICT + b'\x92',  # NEWOBJ_EX
        text('os') + text('system') + b'\x93' + items(text(TOUCH)) + b'R',  # STACK_GLOBAL
        call('torch._utils._rebuild_tensor_v2.__globals__', text('os')),
        call('torch.serialization.load', text('x.pt')),
        call('torch.load', text('x.pt')),
        call('numpy.core.multiarray._reconstruct'),
        call('__torch__', text('x')),
        call('__torch__.a.Net', text('x')),
        call('torch.FloatStorage', number(6)),
        call('collections.OrderedDict', LIST),
        call('torch._utils._rebuild_tensor_v2', text('os')),
        call('torch._utils._rebuild_parameter', text('os')),
        text('os') + items(text('x')) + b'R',  # calls a string
        b'ccollections\nOrderedDict\n' + LIST + b'R',  # arguments that are no tuple
        text('os') + DICT + b'b',  # state of a string
        tensor() + mapping({'__class__': text('x')}) + b'b',  # and of a tensor
        script_object(LIST),
        script_object(text('x')),
        items(text('module'), storage(), text('x.py'), text('import os')) + b'Q',
        text('x') + b'Q',
        b'Px\n',  # PERSID
        b'\x82\x07',  # EXT1
        b'(S"x"\nl',  # of protocol 0
        b'\x97',  # NEXT_BUFFER
        LIST + text('a') + NOTHING + b's',
        DICT + LIST + NOTHING + b's',
        DICT + b'(' + text('a') + b'u',
        DICT + text('a') + b'a',
        b't', b'u', b'R', b'b', b'a', b's', b'Q', b'\x93', b'q\0', b'h\0', b'\x94', b'0', b'2',
    ],
)  # fmt: skip
def test_no_other_way_to_act_or_go_wrong_is_open(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    refused(tmp_path, content, '')
    assert not (tmp_path / 'escaped').exists()


@pytest.mark.parametrize(
    ('content', 'sentence'),
    [
        (DICT + items() + NOTHING + b's', 'a tuple where none belongs'),  # a key
        (script_object(LIST), 'a list where none belongs'),
        (tensor() + DICT + b'b', 'a Tensor where none belongs'),
        (PART, 'a storage in a way that is not known'),
        (
            b'ctimm.models.resnet\nResNet\n',
            "it names 'timm.models.resnet.ResNet', a class .*torch.save",
        ),
    ],
)
def test_what_the_machine_refuses_it_names(tmp_path, content, sentence):
    refused(tmp_path, content, sentence)


def test_a_pickle_without_end_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(unpickler, 'MAX_STEPS', 2000)
    refused(tmp_path, NOTHING * 3000, 'has more than 2,000 steps')
    states = {f'{k}': tensor(source=storage(key='0')) for k in range(40)}
    assert len(read(tmp_path, mapping(states))) == 40  # some forty steps each


HUGE = 2**40


@pytest.mark.parametrize(
    ('value', 'sentence'),
    [
        (tensor((HUGE,)), 'does not fit into its storage'),
        (tensor((7,)), 'does not fit'),
        (tensor((6,), offset=1), 'does not fit'),
        (tensor((3,), (3,)), 'does not fit'),
        (tensor((HUGE,), (0,)), 'does not fit'),
        (tensor((3, 3), (1, 1)), 'does not fit'),
        (tensor((2**20, 2**20), (0, 0)), 'does not fit'),
        (tensor((6,), offset=-1), 'does not fit'),
        (tensor((6,), (-1,), 5), 'does not fit'),
        (tensor((-6,)), 'does not fit'),
        (tensor((6,), ()), 'argument'),
        (tensor((1,) * 33, (1,) * 33), 'does not fit'),
        (tensor((), (), 6), 'does not fit'),
        (tensor((0, 2**62, 2**62), (1, 1, 1)), 'too (big|large)|Maximum'),
        (tensor().replace(number(0), text('0')), 'in a way that is not known'),
        (tensor((5,)).replace(number(5), text('5')), 'does not fit'),
        (tensor((5,)).replace(number(5), LIST), 'does not fit'),
        (tensor(source=storage(size=HUGE)), 'tensors claim 4,398,046,511,104 bytes'),
        (tensor(source=storage(size=2**200)), 'tensors claim'),
        (tensor(source=storage(size=5)), "'w/data/0' claims 24 bytes, not 20"),
        (tensor(source=storage(size=7)), "storage '0' has 24 bytes, not 28"),
        (tensor(source=storage(size=-1)), 'a storage in a way that is not known'),
        (tensor(source=storage(key='../0')), "no member 'w/data/../0'"),
        (tensor(source=storage(kind='Quantum')), "names 'torch.QuantumStorage'"),
    ],
)
def test_a_tensor_that_its_storage_does_not_hold_is_refused(tmp_path, value, sentence):
    refused(tmp_path, mapping({'a': value}), sentence)


def test_one_storage_has_one_type(tmp_path):
    halves = storage(kind='Half', size=12)
    both = mapping({'a': tensor(), 'b': tensor(source=halves)})
    refused(tmp_path, both, "the storage '0' in two ways")


def stream(tmp_path, value, *, version=1001, keys=('0',), size=6):
    """The same in a file without an archive."""
    magic = b'\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19'  # the first ten bytes of each such file
    names = b'](' + b''.join(map(text, keys)) + b'e'
    pickles = (magic, number(version), DICT, mapping({'a': value}), names)
    content = b''.join(b'\x80\x02' + content + b'.' for content in pickles)
    values = np.arange(6, dtype=np.float32).tobytes()
    (tmp_path / 'w.pth').write_bytes(content + size.to_bytes(8, 'little') + values)
    return weights.read(tmp_path / 'w.pth')


def test_a_stream_written_by_hand_is_read(tmp_path):
    found = stream(tmp_path, tensor((2, 3), (3, 1)))['a']
    np.testing.assert_array_equal(found, np.arange(6, dtype=np.float32).reshape(2, 3), strict=True)


@pytest.mark.parametrize(
    ('value', 'options', 'sentence'),
    [
        (tensor(source=storage(size=HUGE)), {'size': HUGE}, 'tensors claim 4,398,046,511,104 by'),
        (tensor(), {'size': HUGE}, "its storage '0' has another length than its description"),
        (tensor(source=storage(size=7)), {'size': 7}, "its storage '0' has 24 bytes, not 28"),
        (tensor(), {'version': 1000}, 'its stream is not of version 1001'),
        (tensor(), {'keys': ()}, 'KeyError'),
        (tensor(), {'keys': ('1',)}, 'KeyError'),
        (tensor((7,)), {}, 'does not fit'),
    ],
)
def test_a_stream_that_contradicts_itself_is_refused(tmp_path, value, options, sentence):
    with pytest.raises(ValueError, match=rf'w\.pth cannot be read as \.pth weights: .*{sentence}'):
        stream(tmp_path, value, **options)


def test_many_storages_that_are_in_the_file_but_once_are_not_read(tmp_path):
    values = {f'{k}': tensor(source=storage(key=f'{k}', size=1 << 18)) for k in range(99)}
    one = {'0': bytes(1 << 20)}
    refused(tmp_path, mapping(values), 'tensors claim 103,809,024 bytes', storages=one)


def nested(depth: int) -> bytes:
    return b')' + b'\x85' * depth


@pytest.mark.parametrize(
    'content',
    [
        nested(20_000),
        pytest.param(mapping({'a': nested(20_000)}), marks=pytest.mark.slow),
        DICT + nested(20_000) + NOTHING + b's',  # as a key, whose hash would need its own
        pytest.param(LIST * 20_000, marks=pytest.mark.slow),
        b'X\xff\xff\xff\xff' + b'short',
        b'\x8d' + b'\xff' * 8 + b'short',
        b'\x96' + b'\xff' * 8 + b'short',
        b'\x8b\xff\xff\xff\x7f' + b'short',
        b'\x95' + b'\xff' * 8 + DICT,
        NOTHING + b'r\xff\xff\xff\xff',  # Python's own takes 64 GB for such a place
        b'I' + b'9' * 100_000 + b'\n',
    ],
)
def test_depth_and_claimed_lengths_cost_nothing(tmp_path, content):
    refused(tmp_path, content, '')


def test_modules_that_multiply_are_refused(tmp_path):
    """Forty modules, each twice in the next, would have 2**40 names; and one that holds itself."""
    layer = script_object(mapping({'weight': tensor()}))
    for _ in range(40):
        layer = script_object(b'}(' + text('a') + layer + b'q\0' + text('b') + b'h\0u')
    refused(tmp_path, layer, 'modules are nested without end')
    itself = b'c__torch__.a\nNet\n)\x81q\0}' + text('a') + b'h\0sb'
    refused(tmp_path, itself, 'modules are nested without end')


def test_long_names_do_not_multiply(tmp_path):
    inner = script_object(mapping({'x' * 2000: tensor(), 'scale': tensor()}))
    refused(tmp_path, script_object(mapping({'y' * 1001: inner})), 'nested without end')
