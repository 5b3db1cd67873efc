"""Doctor where the driver does not start: what it says to do is what helps, and not always a newer driver. The driver
that fails is the simulated one, found as a real one is."""
import os
import shutil

import pytest
from conftest import BUILD, FIXTURES

SIM = BUILD / "lib" / "gpuroom" / "sim"


@pytest.fixture
def with_driver(doctor):
    """The simulated driver by LD_LIBRARY_PATH, so that nothing tells that it is simulated."""

    def run(*arguments, folder=SIM, **environment):
        return doctor("--json", *arguments, LD_LIBRARY_PATH=str(folder), **environment)

    return run


@pytest.mark.parametrize("error, words", [
    ("SYSTEM_NOT_READY", ["nvidia-fabricmanager", "confidential"]),
    ("SYSTEM_DRIVER_MISMATCH", [f"{SIM}/libcuda.so.1", "LD_LIBRARY_PATH", "reboot"]),
    ("COMPAT_NOT_SUPPORTED_ON_DEVICE", [f"{SIM}/libcuda.so.1", "LD_LIBRARY_PATH", "compat"]),
    ("STUB_LIBRARY", [f"{SIM}/libcuda.so.1", "LD_LIBRARY_PATH", "stub"]),
    ("OPERATING_SYSTEM", ["/dev/nvidia", "container"]),
    ("OUT_OF_MEMORY", ["host memory", "ulimit -v"]),
    ("UNKNOWN", ["nvidia-uvm", "nvidia-modprobe"]),
    ("NO_DEVICE", ["nvidia-smi"]),
    ("DEVICE_UNAVAILABLE", ["compute mode", "process"]),
])
def test_what_to_do_is_what_helps(with_driver, error, words):
    run = with_driver(GPUROOM_SIM_FAIL=f"cuInit:1:CUDA_ERROR_{error}")
    assert run.status == 3
    fact = run["cuda"]
    assert fact["status"] == "fail" and f"CUDA_ERROR_{error}" in fact["meaning"]
    for word in words:
        assert word in fact["fix"], fact
    assert "580 or newer" not in fact["fix"]


def test_an_error_without_advice_of_its_own_says_where_to_look(with_driver):
    fact = with_driver(GPUROOM_SIM_FAIL="cuInit:1:CUDA_ERROR_NOT_SUPPORTED")["cuda"]
    assert "580 or newer" not in fact["fix"] and "dmesg" in fact["fix"]


@pytest.mark.parametrize("value", ["-1", "", "NoDevFiles"])
def test_a_variable_that_hides_every_gpu_is_named(with_driver, doctor, value):
    for run in (with_driver(CUDA_VISIBLE_DEVICES=value), doctor("--json", "--sim", "h200", CUDA_VISIBLE_DEVICES=value)):
        assert run.status == 3, run.err
        assert f"CUDA_VISIBLE_DEVICES is '{value}'" in run["cuda"]["fix"]


def test_a_container_without_its_gpus_is_told_by_its_variable(with_driver):
    run = with_driver(GPUROOM_SIM_FAIL="cuInit:1:CUDA_ERROR_NO_DEVICE", NVIDIA_VISIBLE_DEVICES="void")
    assert "NVIDIA_VISIBLE_DEVICES is 'void'" in run["cuda"]["fix"]


def test_the_library_that_was_loaded_is_told(with_driver):
    fact = with_driver()["library"]
    assert fact["value"] == f"{SIM}/libcuda.so.1" and "LD_LIBRARY_PATH" in fact["meaning"]


def test_a_gpu_that_cannot_be_used_names_its_compute_mode_or_the_other_process(with_driver):
    run = with_driver(GPUROOM_SIM_FAIL="cuDevicePrimaryCtxRetain:1+:CUDA_ERROR_DEVICE_UNAVAILABLE")
    assert run.status == 1
    fact = run["gpu0.context"]
    assert fact["status"] == "fail" and "CUDA_ERROR_DEVICE_UNAVAILABLE" in fact["value"]
    assert "compute mode" in fact["fix"] and "process" in fact["fix"]
    assert "update the driver" not in fact["fix"]


def test_a_library_that_cannot_be_loaded_says_why(doctor, tmp_path):
    (tmp_path / "libcuda.so.1").write_bytes(b"not a library")
    run = doctor("--json", LD_LIBRARY_PATH=str(tmp_path))
    if run.status != 3:
        pytest.skip("this machine's own driver was found behind the broken one")
    assert f"{tmp_path}/libcuda.so.1" in run["cuda"]["meaning"]


def test_a_library_that_is_no_driver_is_named(doctor, tmp_path):
    shutil.copy(SIM / "libnvidia-ml.so.1", tmp_path / "libcuda.so.1")
    run = doctor("--json", LD_LIBRARY_PATH=str(tmp_path))
    assert run.status == 3
    assert f"{tmp_path}/libcuda.so.1" in run["cuda"]["fix"] and "LD_LIBRARY_PATH" in run["cuda"]["fix"]


def test_a_driver_that_works_needs_no_folder_in_proc(with_driver):
    """As on WSL2 and under gVisor."""
    if os.path.exists("/proc/driver/nvidia/version"):
        pytest.skip("this machine has the folder")
    run = with_driver()
    assert run.status == 0
    assert run["kernel"]["status"] == "ok" and run["kernel"]["fix"] == ""


def machine_of(tree, version):
    shutil.copytree(FIXTURES / "container-cgroup2", tree)
    (tree / "proc/driver/nvidia/version").write_text(
        f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build\n")
    return tree


def test_an_older_kernel_driver_under_a_library_that_works_does_not_fail(doctor, tmp_path):
    """Forward compatibility: CUDA 13's libcuda.so.1 from the package cuda-compat on driver 570."""
    tree = machine_of(tmp_path / "tree", "570.86.15")
    run = doctor("--json", "--sim", "h200", "--sysroot", tree)
    assert run.status == 0, run.out
    assert run["kernel"]["status"] == "ok" and "compat" in run["kernel"]["meaning"]
    assert run["gpu0.mixed_range"]["status"] == "ok"
    alone = doctor("--json", "--sysroot", tree)
    assert alone.status == 1
    assert "580 or newer" in alone["kernel"]["fix"] and "cuda-compat" in alone["kernel"]["fix"]


def test_an_old_library_in_front_of_a_new_driver_is_what_is_told(doctor, tmp_path):
    tree = machine_of(tmp_path / "tree", "580.95.05")
    run = doctor("--json", "--sim", "1GiB,host=4GiB,driver=12080", "--sysroot", tree)
    assert run.status == 3
    fact = run["cuda"]
    assert "12.8" in fact["meaning"] and "580.95.05" in fact["fix"]
    assert f"{SIM}/libcuda.so.1" in fact["fix"] and "LD_LIBRARY_PATH" in fact["fix"]
    assert "install" not in fact["meaning"] + fact["fix"]
