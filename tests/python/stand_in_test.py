"""The module that takes torch_memory_saver's place, used as its own users do, against PyTorch's rules
(fake_torch.py), under `gpuroom run` and without."""

import pytest
from conftest import PACKAGE
from sleep_test import CONTENTS

BEFORE = """
import ctypes, os, sys
import fake_torch
torch = fake_torch.install()
from torch_memory_saver import configure_subprocess, torch_memory_saver as saver
import gpuroom
MIB = 1 << 20
def call(name, *arguments):
    result = getattr(ctypes.CDLL("libcuda.so.1"), name)(*arguments)
    assert result == 0, (name, result)
def raised(kind, function, *arguments, **options):
    try:
        function(*arguments, **options)
    except kind as error:
        return str(error)
    raise AssertionError("nothing was raised")
""" + CONTENTS


@pytest.fixture(params=["preloaded", "opened"])
def passes(request, python, tmp_path):
    paths = ":".join(map(str, (PACKAGE / "gpuroom" / "stand_ins", PACKAGE, PACKAGE.parent / "tests" / "python")))

    def run(program, **env):
        body = f"import sys; sys.path[:0] = {paths.split(':')!r}\nFOLDER = {str(tmp_path)!r}\n" + BEFORE + program
        if request.param == "preloaded":
            return python.under_gpuroom(body + "\n", env=env)
        return python.dlopened(body, GPUROOM_HBM_LIMIT=str(256 << 20), GPUROOM_HOST_LIMIT=str(512 << 20), **env)

    return run


def test_regions_pause_and_resume_by_tag(passes):
    passes("""
with saver.region("weights", enable_cpu_backup=True):
    weights, one = fake_torch.allocate(32 * MIB)
with saver.region("kv_cache"):
    kv, other = fake_torch.allocate(16 * MIB)
with saver.region("optimizer", enable_disk_backup=True):
    state, third = fake_torch.allocate(8 * MIB)
for at, value, size in ((weights, 1, 32), (kv, 2, 16), (state, 3, 8)):
    fill(at, value, size * MIB)
saver.set_disk_backup_dir(FOLDER + "/backups")
saver.pause("weights")
assert gpuroom.sleep_states()["weights"].kept == 32 * MIB
saver.pause()
states = gpuroom.sleep_states()
assert states["kv_cache"].dropped == 16 * MIB and states["optimizer (disk)"].on_disk == 8 * MIB, states
(backup,) = os.listdir(FOLDER + "/backups")  # visible, as the original's
assert os.path.getsize(FOLDER + "/backups/" + backup) >= 8 * MIB
saver.resume("kv_cache")
saver.resume()
assert holds(weights, 1, 32 * MIB) and holds(state, 3, 8 * MIB)
assert os.listdir(FOLDER + "/backups") == []
""")


def test_nested_regions_and_what_is_outside(passes):
    passes("""
with saver.region("outer", enable_cpu_backup=True):
    with saver.region("inner"):
        inner, a = fake_torch.allocate(16 * MIB)
    outer, b = fake_torch.allocate(16 * MIB)
states = gpuroom.sleep_states()
assert (states["inner"].ranges, states["outer"].ranges) == (1, 1), states
fill(outer, 5, 16 * MIB)
saver.pause("outer")
saver.pause("outer")
saver.pause("nobody")
saver.resume()
assert holds(outer, 5, 16 * MIB)
""")


def test_disable_is_outside_of_all_regions(passes):
    passes("""
with saver.region("outer", enable_cpu_backup=True):
    first, a = fake_torch.allocate(16 * MIB)
    with saver.disable():
        free, b = fake_torch.allocate(16 * MIB)
        with saver.region("inner", enable_cpu_backup=True):
            inner, c = fake_torch.allocate(16 * MIB)
        with gpuroom.torch.pool():
            apart, d = fake_torch.allocate(16 * MIB)
        free, e = fake_torch.allocate(16 * MIB)
    last, f = fake_torch.allocate(16 * MIB)
assert a is f and b is e and len({id(pool) for pool in (a, b, c, d)}) == 4
states = gpuroom.sleep_states()
assert (states["outer"].ranges, states["inner"].ranges) == (2, 1), states
saver.pause()
assert gpuroom.stats().asleep_bytes == 48 * MIB
fill(free, 3, 16 * MIB)
fill(apart, 4, 16 * MIB)
saver.resume()
with saver.disable():
    outside, g = fake_torch.allocate(16 * MIB)
assert not fake_torch.state.recording and gpuroom.sleep_states()["outer"].ranges == 2
""")


def test_mistakes_are_exceptions(passes):
    passes("""
assert "choose one" in raised(ValueError, saver.region(enable_cpu_backup=True, enable_disk_backup=True).__enter__)
assert "'pinned' or 'mmap'" in raised(ValueError, saver.region(enable_cpu_backup=True, cpu_backup_backend="tape").__enter__)
for region in (saver.region(cpu_backup_backend="mmap"), saver.region(enable_disk_backup=True, cpu_backup_backend="pinned"),
               saver.cuda_graph(None, cpu_backup_backend="mmap")):
    assert raised(ValueError, region.__enter__) == "cpu_backup_backend requires enable_cpu_backup=True"
assert "use 'preload' or 'torch'" in raised(ValueError, setattr, saver, "hook_mode", "magic")
saver.hook_mode = "torch"
assert saver.enabled and saver.hook_mode == "torch"
with saver.region("a", enable_disk_backup=True):
    fake_torch.allocate(16 * MIB)
saver.set_disk_backup_dir(FOLDER + "/gone")
os.rmdir(FOLDER + "/gone")
sys.stderr.flush()
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the library says it there, too
assert "name an existing one" in raised(gpuroom.Error, saver.pause)
if gpuroom._library.load().preloaded:
    with configure_subprocess():
        pass
else:
    assert "gpuroom run" in raised(gpuroom.Unsupported, configure_subprocess().__enter__)
""")


def test_the_backend_is_the_regions(passes):
    passes("""
from torch_memory_saver.binary_wrapper import BinaryWrapper, function
backend = lambda: function("tms_get_cpu_backup_backend")().decode()
with saver.region(enable_cpu_backup=True, cpu_backup_backend="mmap"):
    assert backend() == "mmap"
    with saver.region(enable_cpu_backup=True):
        assert backend() == "mmap"
    with saver.region(enable_cpu_backup=True, cpu_backup_backend="pinned"):
        assert backend() == "pinned"
    assert backend() == "mmap"
assert backend() == "pinned"
""")


def test_a_retained_backup_stays_at_its_address(passes):
    passes("""
from torch_memory_saver.binary_wrapper import function
with saver.region("weights", enable_cpu_backup=True):
    weights, one = fake_torch.allocate(16 * MIB)
def backup():
    return function("tms_get_cpu_backup_pointer")(weights, 16 * MIB)
def first():
    return ctypes.c_uint32.from_address(address).value
assert not saver.retain_cpu_backup
saver.retain_cpu_backup = True
assert saver.retain_cpu_backup
fill(weights, 1, 16 * MIB)
saver.pause()
address = backup()
wanted = first()
saver.resume()
assert first() == wanted and backup() is None  # the copy is there, and the memory is awake
fill(weights, 2, 16 * MIB)
saver.pause()
assert first() != wanted and backup() == address
saver.resume()
saver.retain_cpu_backup = False
""")


def test_variables_say_how_it_begins(passes):
    passes("""
from torch_memory_saver.binary_wrapper import function
assert saver.retain_cpu_backup and function("tms_get_cpu_backup_backend")() == b"mmap"
assert function("tms_get_enable_disk_backup")() and not function("tms_get_enable_cpu_backup")()
""", TMS_RETAIN_CPU_BACKUP="1", TMS_INIT_CPU_BACKUP_BACKEND="mmap", TMS_INIT_ENABLE_DISK_BACKUP="yes")
    passes("""
from torch_memory_saver.binary_wrapper import function
assert not saver.retain_cpu_backup and function("tms_get_cpu_backup_backend")() == b"pinned"
""", TMS_RETAIN_CPU_BACKUP="0", TMS_INIT_CPU_BACKUP_BACKEND="tape")


def test_submodules_of_the_original_are_there(passes):
    passes("""
from torch_memory_saver import binary_wrapper, entrypoint, hooks, testing_utils, utils
from torch_memory_saver.hooks.base import HookMode, HookUtilBase
from torch_memory_saver.hooks.mode_preload import HookUtilModePreload, configure_subprocess as same
from torch_memory_saver.hooks.mode_torch import HookUtilModeTorch
assert same is configure_subprocess and entrypoint.TorchMemorySaver is type(saver) and not utils.is_xpu()
library = HookUtilBase.create("preload").get_path_binary()
assert os.path.basename(library) == "libgpuroom.so" and str(utils.get_binary_path_from_package("x")) == library
functions = binary_wrapper.BinaryWrapper(library)
functions.set_config(tag="t", interesting_region=True, enable_cpu_backup=True, cpu_backup_backend="mmap")
assert functions.cdll.tms_get_current_tag() == b"t" and functions.cdll.tms_get_cpu_backup_backend() == b"mmap"
functions.cdll.set_memory_margin_bytes(0)
with utils.change_env("GPUROOM_TEST_X", "1"):
    assert os.environ["GPUROOM_TEST_X"] == "1"
assert "GPUROOM_TEST_X" not in os.environ and testing_utils.get_device() == "cuda"
""")


def test_the_folder_is_printed(python):
    text = python.passes("import runpy, sys; sys.argv[1:] = ['stand-ins']; runpy.run_module('gpuroom', run_name='__main__')")
    assert text.strip() == str(PACKAGE / "gpuroom" / "stand_ins")
