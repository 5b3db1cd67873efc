"""Tensors of bytes and modules with hooks, as much of PyTorch as streaming touches while a model runs. Installed as
`torch` where there is none, so that the streamer's own logic is tested everywhere."""

import contextlib
import itertools
import sys
import types

submit = None  # with a function, work is handed to it as to a GPU's stream instead of being done at once
_addresses = itertools.count(1 << 20, 1 << 20)


class Memory:
    def __init__(self, count):
        self.bytes, self.base = bytearray(count), next(_addresses)

    def data_ptr(self):
        return self.base


class Tensor:
    def __init__(self, memory=None, offset=0, count=0):
        self.memory, self.offset, self.count, self._version = memory, offset, count, 0

    @property
    def data(self):
        return Tensor(self.memory, self.offset, self.count)

    @data.setter
    def data(self, other):
        assert other.count == self.count
        self.memory, self.offset = other.memory, other.offset

    dtype, device, layout = "uint8", "fake", "strided"
    is_conj = is_neg = lambda self: False
    shape = property(lambda self: (self.count,))

    def data_ptr(self):
        return self.memory.base + self.offset

    def numel(self):
        return self.count

    def element_size(self):
        return 1

    def stride(self):
        return (1,)

    def storage_offset(self):
        return self.offset

    def untyped_storage(self):
        return self.memory

    def set_(self, memory, first, shape, _stride):
        self.memory, self.offset, self.count = memory, first, shape[0]
        return self

    def __getitem__(self, part):
        start, stop, _ = part.indices(self.count)
        return Tensor(self.memory, self.offset + start, stop - start)

    def read(self):
        return bytes(self.memory.bytes[self.offset : self.offset + self.count])

    def write(self, content):
        self.copy_(types.SimpleNamespace(data=types.SimpleNamespace(read=lambda: content)))

    def copy_(self, other):
        """Notices at once; where both lie is decided now, and done when the stream comes to it."""
        self._version += 1
        target, source = self.data, other.data
        (submit or (lambda work: work()))(lambda: target.put(source.read()))

    def put(self, content):
        self.memory.bytes[self.offset : self.offset + self.count] = content


class Module:
    """Hooks as PyTorch calls them: before, in order, and after, also when the forward raises."""

    def __init__(self, forward):
        self.forward, self.before, self.after, self.saving = forward, [], [], []

    def modules(self):
        return [self]

    def register_state_dict_pre_hook(self, hook):
        self.saving.append(hook)
        return types.SimpleNamespace(remove=lambda: self.saving.remove(hook))

    def state_dict(self):
        for hook in self.saving:
            hook(self, "", False)

    def register_forward_pre_hook(self, hook, prepend=False):
        self.before.insert(0 if prepend else len(self.before), hook)
        return types.SimpleNamespace(remove=lambda: self.before.remove(hook))

    def register_forward_hook(self, hook, always_call=False):
        assert always_call
        self.after.append(hook)
        return types.SimpleNamespace(remove=lambda: self.after.remove(hook))

    def __call__(self, x):
        result = None
        try:
            for hook in list(self.before):
                hook(self, (x,))
            result = self.forward(x)
        finally:
            for hook in list(self.after):
                other = hook(self, (x,), result)
                result = result if other is None else other
        return result


def tree_map_only(kind, function, tree):
    if isinstance(tree, (list, tuple)):
        return type(tree)(tree_map_only(kind, function, part) for part in tree)
    return function(tree) if isinstance(tree, kind) else tree


def install():
    torch = types.ModuleType("torch")
    torch.empty = lambda _count, dtype=None, device=None: Tensor()
    torch.no_grad = contextlib.nullcontext
    torch.inference_mode = lambda _mode=True: contextlib.nullcontext()
    torch.Tensor, torch.strided = Tensor, Tensor.layout
    torch.utils = types.SimpleNamespace(_pytree=types.SimpleNamespace(tree_map_only=tree_map_only))
    torch.is_grad_enabled = lambda: False
    torch.device = lambda *_arguments: "fake"
    torch.compiler = types.SimpleNamespace(is_compiling=lambda: False)
    sys.modules["torch"] = torch
