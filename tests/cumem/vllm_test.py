"""The module in vLLM's place, without a patch, against a stand-in for the files of vLLM that import it."""

import subprocess
import sys

import pytest

from conftest import BUILD, LIBRARIES, SOURCE

CUMEM = '''
try:
    from vllm.cumem_allocator import init_module, python_create_and_map, python_unmap_and_release
    cumem_available = True
except ModuleNotFoundError:
    cumem_available = False

def find_loaded_library(name):
    with open("/proc/self/maps") as maps:
        line = next((line for line in maps if name in line), None)
    if line is None:
        return None
    path = line[line.index("/"):].strip()
    assert path.split("/")[-1].rpartition(".so")[0].startswith(name), path
    return path

lib_name = find_loaded_library("cumem_allocator")
'''


@pytest.fixture
def vllm(tmp_path, cuda):
    folder = tmp_path / "vllm" / "device_allocator"
    folder.mkdir(parents=True)
    (tmp_path / "vllm" / "__init__.py").write_text("")
    (folder / "__init__.py").write_text("")
    (folder / "cumem.py").write_text(CUMEM)

    def run(text, **variables):
        # Not in Python's path: gpuroom.cumem finds it beside the library.
        return cuda(text, prelude="", PYTHONPATH=f"{tmp_path}:{SOURCE / 'python'}",
                    **{"GPUROOM_LIBRARY": str(LIBRARIES / "libgpuroom.so"), **variables})

    return run


USED = """
    from vllm.device_allocator import cumem
    assert cumem.cumem_available and cumem.lib_name == {path!r}, cumem.lib_name
    import ctypes
    calls = []
    cumem.init_module(calls.append, lambda pointer: calls[-1])
    library = ctypes.CDLL(cumem.lib_name)
    library.my_malloc.restype = ctypes.c_void_p
    p = library.my_malloc(ctypes.c_ssize_t(1 << 21), 0, None)
    assert calls[0][2] == p
    cumem.python_unmap_and_release(*calls[0])
    library.my_free(ctypes.c_void_p(p), ctypes.c_ssize_t(1 << 21), 0, None)
    print("used")
""".format(path=str(LIBRARIES / "python" / "cumem_allocator.abi3.so"))


def test_use_puts_it_in_place_and_may_be_called_again(vllm):
    done = vllm("    import gpuroom.cumem\n    assert gpuroom.cumem.use() is gpuroom.cumem.use()\n" + USED)
    assert (done.returncode, done.stdout, done.stderr) == (0, "used\n", "")


def test_the_plugin_does_it_where_it_is_asked_to(vllm):
    call = "    import gpuroom.cumem\n    gpuroom.cumem.register()\n    gpuroom.cumem.register()\n"
    done = vllm(call + USED, GPUROOM_CUMEM="1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "used\n", "")
    for value in "", "0":
        done = vllm(call + """
    from vllm.device_allocator import cumem
    assert not cumem.cumem_available and cumem.lib_name is None
    """, GPUROOM_CUMEM=value)
        assert done.returncode == 0, done.stderr
    assert "GPUROOM_CUMEM is 'yes'; write 1" in vllm(call, GPUROOM_CUMEM="yes").stderr


def test_the_wheel_registers_the_plugin():
    text = (SOURCE / "pyproject.toml").read_text()
    plugins = text[text.index('[project.entry-points."vllm.general_plugins"]\n'):].split("\n\n")[0].splitlines()
    assert plugins[1:] == ['gpuroom_vllm = "gpuroom.vllm:register"', 'gpuroom_cumem = "gpuroom.cumem:register"']


def test_too_late_is_told(vllm):
    done = vllm("""
    from vllm.device_allocator import cumem
    import gpuroom.cumem
    gpuroom.cumem.use()
    """)
    assert "vllm.device_allocator.cumem is imported already; call gpuroom.cumem.use() before" in done.stderr


def test_a_build_without_it_is_told(vllm, tmp_path):
    done = vllm("    import gpuroom.cumem\n    gpuroom.cumem.use()\n", GPUROOM_LIBRARY=str(tmp_path / "libgpuroom.so"))
    assert "cumem_allocator.abi3.so was not found; tried" in done.stderr and "python3-dev" in done.stderr


def test_a_link_by_that_name_serves_as_well(vllm, tmp_path):
    # Under vLLM's own name, in its folder: what people do with a copy.
    (tmp_path / "vllm" / "cumem_allocator.abi3.so").write_bytes(
        (LIBRARIES / "python" / "cumem_allocator.abi3.so").read_bytes())
    done = vllm("""
    from vllm.device_allocator import cumem
    assert cumem.cumem_available and cumem.lib_name.endswith("/vllm/cumem_allocator.abi3.so"), cumem.lib_name
    """)
    assert done.returncode == 0, done.stderr


def test_it_shows_three_names_and_needs_the_c_library_alone(tmp_path):
    (tmp_path / "exports.txt").write_text("PyInit_cumem_allocator\nmy_malloc\nmy_free\n")
    done = subprocess.run([sys.executable, SOURCE / "scripts/check_symbols.py", "--library",
                           BUILD / "lib/gpuroom/python/cumem_allocator.abi3.so", "--exports", tmp_path / "exports.txt"],
                          text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
