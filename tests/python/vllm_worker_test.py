"""The plug-in in processes of its own, with a stand-in for vLLM that has its names and rules: when it is there, what it
replaces, how large the KV cache becomes, and that vLLM goes on where something fails."""

import json
import shutil
import textwrap

import pytest
from conftest import BUILD, COMMAND, PACKAGE, SIM

PLUGINS = BUILD / "lib" / "gpuroom" / "plugins"
MIB = 1 << 20

VLLM = {
    "vllm/__init__.py": "",
    "vllm/forward_context.py": """
        def get_forward_context():
            raise AssertionError
        def is_forward_context_available():
            return False
        """,
    "vllm/v1/kv_cache_interface.py": """
        class KVCacheSpec:
            page_size_bytes = 1 << 20
            def max_memory_usage_bytes(self, vllm_config):
                return self.page_size_bytes * vllm_config.blocks
        """,
    "vllm/v1/worker/utils.py": """
        import math
        def request_memory(init_snapshot, cache_config):
            requested = math.ceil(init_snapshot.total_memory * cache_config.gpu_memory_utilization)
            if init_snapshot.free_memory < requested:
                raise ValueError("Free memory on device is less than desired GPU memory utilization")
            return requested
        """,
    "vllm/v1/worker/gpu_worker.py": """
        import types
        import torch
        from vllm.v1.kv_cache_interface import KVCacheSpec
        from .utils import request_memory

        class Worker:
            def __init__(self, utilization=0.9, given=None, blocks=4, weights=64 << 20):
                self.device = types.SimpleNamespace(type="cuda", index=0)
                self.cache_config = types.SimpleNamespace(gpu_memory_utilization=utilization, kv_cache_memory_bytes=given)
                self.vllm_config = types.SimpleNamespace(
                    model_config=types.SimpleNamespace(
                        enable_sleep_mode=utilization == 0.8, sleep_mode_backend="cumem", enable_cumem_allocator=utilization == 0.8),
                    blocks=blocks, additional_config={}, parallel_config=None,
                    compilation_config=types.SimpleNamespace(mode=1))
                self.weights = weights

            def init_device(self):
                free, total = torch.cuda.mem_get_info()
                snapshot = types.SimpleNamespace(free_memory=free, total_memory=total, device_=self.device)
                self.requested_memory = request_memory(snapshot, self.cache_config)

            def load_model(self, *, load_dummy_weights=False):
                self.model_runner = types.SimpleNamespace(get_model=lambda: torch.Model(self.weights))

            def get_kv_cache_spec(self):
                return {f"layer{i}": KVCacheSpec() for i in range(8)}

            def determine_available_memory(self):
                if self.cache_config.kv_cache_memory_bytes:
                    return self.cache_config.kv_cache_memory_bytes
                return self.requested_memory - self.weights

            def initialize_from_config(self, kv_cache_config):
                self.kv = kv_cache_config
                getattr(self, "allocate", int)()

            def compile_or_warm_up_model(self):
                return 1.5

            def wake_up(self, tags=None):
                return tags

            def execute_model(self, scheduler_output):
                return scheduler_output
        """,
    "vllm/device_allocator/sleep_mode_backend.py": """
        import importlib
        class SleepModeBackend:
            _state = "RUNNING"
        class SleepModeBackendFactory:
            _registry = {}
            @classmethod
            def register_backend(cls, name, module_path, class_name):
                cls._registry[name] = (module_path, class_name)
            @classmethod
            def create(cls, name):
                module_path, class_name = cls._registry[name]
                return getattr(importlib.import_module(module_path), class_name)()
        """,
    "torch.py": """
        import ctypes
        class _Cuda:
            def __init__(self):
                self.driver = ctypes.CDLL("libcuda.so.1")
                context = ctypes.c_void_p()
                assert not self.driver.cuInit(0) and not self.driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
                assert not self.driver.cuCtxSetCurrent(context)
            def mem_get_info(self):
                free, total = ctypes.c_size_t(), ctypes.c_size_t()
                assert not self.driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
                return free.value, total.value
            def is_initialized(self):
                return True
            def empty_cache(self):
                pass
            reset_peak_memory_stats = empty_cache
            def memory_reserved(self):
                return 0
            max_memory_reserved = memory_allocated = max_memory_allocated = memory_reserved
        cuda = _Cuda()
        class Model:
            def __init__(self, size):
                self.size = size
            def parameters(self):
                import types
                return [types.SimpleNamespace(numel=lambda: self.size, element_size=lambda: 1)]
        """,
}

START = """
    import logging, sys
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    from importlib.metadata import entry_points
    found = entry_points()
    for point in found.select(group="vllm.general_plugins") if hasattr(found, "select") else found["vllm.general_plugins"]:
        for _ in range(2):
            point.load()()
    assert "vllm.v1.worker.gpu_worker" not in sys.modules
    from vllm.v1.worker.gpu_worker import Worker
    def run(**named):
        worker = Worker(**named)
        worker.init_device()
        worker.load_model()
        size = worker.determine_available_memory()
        import types
        worker.initialize_from_config(types.SimpleNamespace(kv_cache_tensors=[types.SimpleNamespace(size=size)]))
        assert worker.compile_or_warm_up_model() == 1.5
        return size
    """


@pytest.fixture
def vllm(tmp_path):
    for name, text in VLLM.items():
        path = tmp_path / "vllm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return tmp_path / "vllm"


def run(python, vllm, program, *options, env=None):
    limits = ("--sim", SIM, "--hbm-limit", "256MiB", "--host-limit", "1GiB")
    control = vllm.parent / "control"
    control.mkdir(mode=0o700, exist_ok=True)
    own = {"PYTHONPATH": str(vllm), "GPUROOM_LEDGER": str(vllm / "ledger"), "GPUROOM_CONTROL_DIR": str(control)}
    return python(textwrap.dedent(START) + textwrap.dedent(program), command=(COMMAND, "run", *limits, *options, "--"),
                  env={**own, **(env or {})})  # fmt: skip


def passes(*arguments, **named):
    done = run(*arguments, **named)
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    return done.stdout


def test_under_gpuroom_run_the_kv_cache_fits_in_hbm(python, vllm):
    said = passes(python, vllm, "assert run() == int(0.9 * 256 * 2**20) - 64 * 2**20, run()")
    assert said.count("the KV cache is 0.16 GiB: what HBM has left beside weights and activations") >= 1


def test_one_request_is_served_also_where_weights_have_to_leave(python, vllm):
    passes(python, vllm, "assert run(weights=400 << 20, blocks=10) == (10 + 1) * 8 * 2**20")


def test_a_size_that_the_user_gave_stays(python, vllm):
    passes(python, vllm, "assert run(given=999) == 999")


@pytest.mark.parametrize("env", [{"GPUROOM_VLLM_KV": "all"}, {"VLLM_KV_CACHE_USE_MANAGED_MEMORY": "1"}])
def test_kv_cache_only_mode_takes_what_there_is(python, vllm, env):
    passes(python, vllm, "assert run() > 1000 * 2**20", env=env)


def test_it_is_left_out_where_nobody_wants_it(python, vllm):
    passes(python, vllm, "assert run() > 1000 * 2**20", env={"GPUROOM_VLLM": "0"})
    done = run(python, vllm, "", "--no-plugins")
    assert "KeyError" in done.stderr or done.returncode == 0
    assert passes(python, vllm, "import os; print(os.environ['PYTHONPATH'])").splitlines()[-1] == f"{vllm}:{PLUGINS}"


def test_a_bad_setting_ends_the_start_with_a_sentence(python, vllm):
    done = run(python, vllm, "run()", env={"GPUROOM_VLLM_KV": "some"})
    assert done.stderr.splitlines()[-1].endswith("GPUROOM_VLLM_KV is 'some'; write hbm (the KV cache is what HBM has left)"
                                                 " or all (also what the host has left)")  # fmt: skip


def test_preflight_takes_what_is_free(python, vllm):
    passes(python, vllm, """
        import torch, types
        whole = torch.cuda.mem_get_info
        torch.cuda.mem_get_info = lambda: (whole()[0] - (600 << 20), whole()[1])
        assert run() == int(0.9 * 256 * 2**20) - 64 * 2**20
        """)


SPEC = """
    class CPUOffloadingSpec:
        def create_worker(self, kv_caches): pass
    """


@pytest.mark.parametrize("spec,asked,given,expected", [
    (SPEC, "gpuroom", {}, "GpuroomOffloadingSpec"),
    (SPEC, "gpuroom", {"spec_name": "CPUOffloadingSpec"}, "GpuroomOffloadingSpec"),
    (SPEC, "gpuroom", {"spec_name": "TieringOffloadingSpec"}, "TieringOffloadingSpec"),
    (SPEC, "vllm", {}, None),
    (SPEC.replace("create_worker", "get_handlers"), "gpuroom", {}, None),
])  # fmt: skip
def test_kv_blocks_are_offloaded_to_gpurooms_memory_only_where_asked_for(python, vllm, spec, asked, given, expected):
    module = vllm / "vllm/v1/kv_offload/cpu/spec.py"
    module.parent.mkdir(parents=True)
    module.write_text(textwrap.dedent(spec))
    said = passes(python, vllm, f"""
        import types
        worker = Worker()
        extra = dict({given!r}, cpu_bytes_to_use=1 << 30)
        worker.vllm_config.kv_transfer_config = types.SimpleNamespace(kv_connector="OffloadingConnector", kv_connector_extra_config=extra)
        worker.init_device()
        assert extra.get("spec_name") == {expected!r} and extra["cpu_bytes_to_use"] == 1 << 30, extra
        assert ("spec_module_path" in extra) == ({expected!r} == "GpuroomOffloadingSpec")
        """, env={"GPUROOM_VLLM_KV_OFFLOAD": asked})
    assert ("no create_worker" in said) == ("get_handlers" in spec)


def test_what_leaves_hbm_lies_on_the_host_and_counts_there(python, vllm):
    (vllm / "vllm/v1/kv_offload/cpu").mkdir(parents=True)
    (vllm / "vllm/v1/kv_offload/cpu/spec.py").write_text("class CPUOffloadingSpec: pass\n")
    (vllm / "vllm/v1/kv_offload/cpu/gpu_worker.py").write_text("import torch\n")
    passes(python, vllm, """
        import ctypes, types, torch, gpuroom
        torch.uint8 = "uint8"
        def empty(count, dtype, device):
            pointer = ctypes.c_uint64()
            if torch.cuda.driver.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(count)):
                raise RuntimeError("CUDA out of memory")
            return types.SimpleNamespace(data_ptr=lambda: pointer.value, numel=lambda: count, element_size=lambda: 1,
                                         shape=(count,), stride=lambda: (1,))
        torch.empty = empty
        from gpuroom.vllm import _kv_offload
        before = gpuroom.stats(0)
        memory = _kv_offload.host_memory(96 << 20, 0)
        placed, after = gpuroom.describe(memory), gpuroom.stats(0)
        assert (placed.host_bytes, placed.device_bytes, placed.hint) == (96 << 20, 0, "cold"), placed
        assert after.host_used - before.host_used == 96 << 20 and after.device_used == before.device_used
        assert gpuroom.sleep_states()["kv_offload"].awake == 96 << 20
        try:
            _kv_offload.host_memory(4 << 30, 0)
            raise AssertionError
        except RuntimeError as error:
            assert "out of memory" in str(error)
        assert gpuroom.describe(empty(32 << 20, "uint8", 0)).hint == "none"  # what comes after is as ever
        """, env={"GPUROOM_LOG": "error"})  # the refusal is warned of


def test_what_stays_after_the_first_step_is_no_activation(python, vllm):
    passes(python, vllm, """
        import torch
        from gpuroom.vllm import _worker
        held, cached = [100], [0]
        torch.cuda.empty_cache = cached.clear
        torch.cuda.memory_reserved = lambda: sum(held + cached)
        torch.cuda.max_memory_reserved = lambda: 700
        torch.cuda.memory_allocated, torch.cuda.max_memory_allocated = lambda: 120, lambda: 600
        state = _worker.State()
        with _worker._peak_into(state):
            held.append(32)
            cached.append(568)
        assert (state.activations, state.tensors) == (700 - 132, 600 - 120), (state.activations, state.tensors)
        """)


def test_what_was_kept_for_small_allocations_goes_to_weights_in_the_end(python, vllm):
    passes(python, vllm, """
        import types, torch
        from gpuroom import stats
        from gpuroom.vllm import _worker
        worker, before = types.SimpleNamespace(device=0), stats(0).device_free
        for _ in range(2):
            _worker._lower_reserve(worker)
            assert stats(0).device_free == before + (32 << 20), (before, stats(0))
        """, "--reserve", "64MiB")


def test_sleep_mode_is_gpurooms_where_vllm_has_backends(python, vllm):
    passes(python, vllm, """
        import ctypes, gpuroom, torch
        from vllm.device_allocator.sleep_mode_backend import SleepModeBackendFactory
        sys.modules["torch"].cuda  # its context is current
        made = []
        def allocate(size):
            pointer = ctypes.c_uint64()
            assert not torch.cuda.driver.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(size))
            made.append(pointer.value)
        import vllm.v1.worker.gpu_worker as module
        from gpuroom.vllm import _worker
        with _worker.placed("none", _worker.WEIGHTS_TAG):
            allocate(32 << 20)
        with _worker.placed("hot", _worker.KV_TAG):
            allocate(48 << 20)
        worker = Worker(utilization=0.8)
        worker.init_device()
        config = worker.vllm_config.model_config
        assert (config.sleep_mode_backend, config.enable_cumem_allocator) == ("gpuroom", False)
        backend = SleepModeBackendFactory.create("gpuroom")
        backend.suspend(1)
        states = gpuroom.sleep_states()
        assert states["weights"].kept == 32 << 20 and states["kv_cache"].dropped == 48 << 20, states
        backend.resume(["weights"])
        assert gpuroom.sleep_states()["weights"].awake == 32 << 20 and gpuroom.sleep_states()["kv_cache"].awake == 0
        backend.resume()
        assert gpuroom.sleep_states()["kv_cache"].awake == 48 << 20
        backend.suspend(2)
        assert gpuroom.sleep_states()["weights"].dropped == 32 << 20
        backend.resume()
        """)


def test_a_kv_cache_larger_than_hbm_has_its_first_blocks_there_and_first_in_the_list(python, vllm):
    core = vllm / "vllm/v1/core/block_pool.py"
    core.parent.mkdir(parents=True)
    (core.parent / "kv_cache_utils.py").write_text("")
    core.write_text(textwrap.dedent("""
        class FreeKVCacheBlockQueue:
            def popleft(self): pass
            def popleft_n(self, n): pass
            def remove(self, block): pass
            def append(self, block): pass
            def append_n(self, blocks): pass
        whole = FreeKVCacheBlockQueue
        """))
    said = passes(python, vllm, """
        import ctypes, types, torch
        import gpuroom
        from vllm.v1.core import block_pool
        class Cache:
            def __init__(self, at, count):
                self.at, self.shape = at, (count, 2 << 20)
            def __getitem__(self, what):
                begin, end, _ = what.indices(self.shape[0])
                return Cache(self.at + begin * self.shape[1], end - begin)
            def data_ptr(self):
                return self.at
            def numel(self):
                return self.shape[0] * self.shape[1]
            def element_size(self):
                return 1
            def stride(self):
                return (self.shape[1], 1)
        def initialize(blocks):
            worker, at = Worker(), ctypes.c_uint64()
            worker.init_device()
            worker.load_model()
            def allocate():
                assert not torch.cuda.driver.cuMemAlloc_v2(ctypes.byref(at), ctypes.c_size_t(blocks * (2 << 20)))
                worker.model_runner.kv_caches = [Cache(at.value, blocks)]
            worker.allocate = allocate
            worker._gpuroom.activations = 30 << 20
            free = gpuroom.stats(worker.device).device_free
            worker.initialize_from_config(types.SimpleNamespace(
                kv_cache_tensors=[types.SimpleNamespace(size=blocks * (2 << 20))], num_blocks=blocks))
            return gpuroom.describe(at.value), free
        placed, free = initialize(20)
        assert placed.host_bytes == 0 and block_pool.FreeKVCacheBlockQueue is block_pool.whole
        placed, free = initialize(200)
        near = (free - (30 << 20) - (32 << 20)) // (2 << 20)
        assert placed.device_bytes >= near * (2 << 20) > 0 and placed.host_bytes > 0, (placed, near)
        assert block_pool.FreeKVCacheBlockQueue._gpuroom_of is block_pool.whole
        """)
    assert "of 200 blocks of the KV cache the first " in said


def test_experts_that_cannot_move_are_said_once_and_steps_go_on(python, vllm):
    said = passes(python, vllm, """
        import types
        from gpuroom.vllm import _worker
        worker, turns = Worker(), []
        def turn():
            turns.append(1)
            if len(turns) > 1:
                raise MemoryError("no room")
        def follow(worker, state):
            state.weights = types.SimpleNamespace(experts=types.SimpleNamespace(turn=turn, still=False))
        _worker._follow_weights = follow
        worker.init_device()
        worker.load_model()
        assert [worker.execute_model(step) for step in range(5)] == list(range(5)) and len(turns) == 2
        """)
    assert said.count("gpuroom: experts stay where they lie from now on: MemoryError: no room") == 1


def test_a_step_calls_nothing_of_gpurooms_where_all_lies_in_hbm(python, vllm):
    passes(python, vllm, """
        worker = Worker()
        worker.init_device()
        worker.load_model()
        called = []
        sys.setprofile(lambda frame, event, argument: event == "call" and called.append(frame.f_code.co_filename))
        worker.execute_model(1)
        sys.setprofile(None)
        assert [file for file in called if "gpuroom" in file] == [] and len(called) == 1, called
        """)


def test_vllm_of_another_kind_runs_as_it_is(python, vllm):
    worker = vllm / "vllm/v1/worker/gpu_worker.py"
    worker.write_text(worker.read_text().replace("def get_kv_cache_spec(self)", "def get_specs(self)"))
    said = passes(python, vllm, "assert run() > 1000 * 2**20")
    assert "this vLLM gives no seam for a KV cache that fits in HBM: vllm.v1.worker.gpu_worker.Worker.get_kv_cache_spec" in said


def test_what_fails_is_a_sentence_and_vllm_goes_on(python, vllm):
    specs = vllm / "vllm/v1/kv_cache_interface.py"
    specs.write_text(specs.read_text().replace("return self", "raise LookupError('no such cache') or self"))
    said = passes(python, vllm, "assert run() > 1000 * 2**20")
    assert "gpuroom: the KV cache is as large as vLLM makes it: LookupError: no such cache" in said


def test_a_package_that_pip_installed_goes_first(python, vllm, tmp_path):
    site = tmp_path / "site"
    shutil.copytree(PACKAGE / "gpuroom", site / "gpuroom", ignore=shutil.ignore_patterns("__pycache__"))
    said = passes(python, vllm, f"""
        import gpuroom
        assert gpuroom.__file__.startswith({str(site)!r}), gpuroom.__file__
        """, env={"PYTHONPATH": f"{vllm}:{site}"})
    assert said == ""


def test_without_gpuroom_run_the_processes_that_vllm_starts_get_it(python):
    program = """
        import os, sys
        import gpuroom.vllm
        gpuroom.vllm.register()
        import json
        print(json.dumps({name: os.environ.get(name, "") for name in
                          ("LD_PRELOAD", "GPUROOM_HOST_LIMIT", "VLLM_WORKER_MULTIPROCESSING_METHOD")}))
        """
    found = json.loads(python.passes(program, env={"GPUROOM_VLLM": "1", "PATH": f"{COMMAND.parent}:/usr/bin:/bin"}))
    assert found["LD_PRELOAD"].endswith("libgpuroom.so") and int(found["GPUROOM_HOST_LIMIT"]) > 0
    assert found["VLLM_WORKER_MULTIPROCESSING_METHOD"] == "spawn"
    assert json.loads(python.passes(program))["LD_PRELOAD"] == ""
