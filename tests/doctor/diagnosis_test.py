"""Machines of which doctor once said what is not so, each written from the figures of a public report."""
import pytest

GIB = 1 << 30
MIB = 1 << 20
RAM = "00100000-3fffffffff : System RAM"
A100 = ("NVIDIA A100-PCIE-40GB", "1MiB /  40960MiB")


@pytest.fixture
def told(doctor):
    def read(machine):
        run = doctor("--json", "--sysroot", machine.tree)
        assert run.status == 0, run.out + run.err
        for fact in run.json["facts"]:
            assert fact["status"] == "ok" or fact["fix"], fact
        return run

    return read


# HBM in NUMA mode that nobody brought online ---------------------------------------------------------------------

EMPTY = ("", 0, 0)
GH200 = ("NVIDIA GH200 480GB", "1MiB /  97871MiB", "00000009:01:00.0")


def grace(machine, params, version="580.95.05"):
    machine.nodes({0: ("0-71", 490000, 470000), **{node: EMPTY for node in range(1, 9)}})
    return machine.driver(version, params).gpu(*GH200).write("proc/iomem", "80000000-787fffffff : System RAM")


def test_hbm_that_is_not_online_is_no_cdmm(told, machine):
    grace(machine, "CoherentGPUMemoryMode: \"numa\"").write("sys/devices/system/memory/auto_online_blocks", "offline")
    fact = told(machine)["cdmm"]
    assert fact["status"] == "warn" and "on (" not in fact["value"] and "not online" in fact["value"]
    assert "auto_online_blocks" in fact["meaning"] and "offline" in fact["meaning"]
    assert "online_movable" in fact["fix"]


def test_iomem_shows_hbm_that_is_not_online_whatever_the_parameters_say(told, machine):
    grace(machine, "").write("proc/iomem", "00000000-00000000 : System RAM\n00000000-00000000 : System RAM (NVIDIA)")
    fact = told(machine)["cdmm"]
    assert fact["status"] == "warn" and "online_movable" in fact["fix"]


@pytest.mark.parametrize("params, version", [("CoherentGPUMemoryMode: \"driver\"", "580.95.05"), ("", "615.10")])
def test_cdmm_stays_cdmm(told, machine, params, version):
    assert told(grace(machine, params, version))["cdmm"]["value"].startswith("on ")


# The automatic host budget ---------------------------------------------------------------------------------------


def test_gpus_without_a_node_are_served_from_one(told, machine):
    """A cloud machine whose PCI devices have no node: numa_node is -1."""
    machine.nodes({0: ("0-63", 515000, 500000), 1: ("64-127", 515000, 500000)}).driver().write("proc/iomem", RAM)
    run = told(machine.gpu("NVIDIA H100 80GB HBM3", "1MiB /  81559MiB", node=-1))
    assert run.json["pool"]["host_available_bytes"] == 500000 * MIB
    assert 430 <= run.json["pool"]["host_bytes"] / GIB <= 460
    assert "NUMA node 0" in run.json["pool"]["host_limited_by"]


def test_a_gpus_node_without_memory_is_warned_of(told, machine):
    """Threadripper or EPYC with empty memory channels."""
    machine.nodes({0: ("0-5,24-29", 0, 0), 1: ("6-11,30-35", 64307, 19214), 2: ("12-17,36-41", 64472, 27945),
                   3: ("18-23,42-47", 0, 0)}).driver().write("proc/iomem", RAM)
    run = told(machine.gpu("NVIDIA GeForce RTX 4090", "1MiB /  24564MiB"))
    fact = run["empty_nodes"]
    assert fact["status"] == "warn" and "Grace" not in fact["meaning"]
    assert "GPU" in fact["meaning"] and "node 0" in fact["meaning"]
    assert run.json["pool"]["host_available_bytes"] == 19214 * MIB


def test_the_reserve_is_in_proportion_to_the_node(told, machine):
    """Four GH200: each node has a quarter of the machine."""
    nodes = {node: (f"{72 * node}-{72 * node + 71}", 120000, 115000) for node in range(4)}
    machine.nodes({**nodes, **{node: EMPTY for node in range(4, 9)}}).driver(params="CoherentGPUMemoryMode: \"driver\"")
    machine.write("proc/iomem", RAM)
    for node in range(4):
        machine.gpu("NVIDIA GH200 120GB", "1MiB /  97871MiB", f"0000000{node}:01:00.0", node)
    pool = told(machine).json["pool"]
    assert pool["host_available_bytes"] == 115000 * MIB  # 112 GiB
    assert pool["host_reserve_bytes"] == 12000 * MIB
    assert pool["host_bytes"] // GIB == 100


def test_the_reserve_is_in_proportion_to_the_cgroup(told, machine):
    machine.nodes({0: ("0-31", 257000, 200000)}).driver().gpu(*A100).write("proc/iomem", RAM)
    for file, text in {"max": f"{32 * GIB}", "current": f"{2 * GIB}", "stat": f"active_file {GIB // 2}"}.items():
        machine.write(f"sys/fs/cgroup/memory.{file}", text)
    pool = told(machine).json["pool"]
    assert pool["host_available_bytes"] == 30.5 * GIB
    assert 27 <= pool["host_bytes"] / GIB < 28


def test_a_host_that_is_short_keeps_its_own_reserve(told, machine):
    """The container would allow 31 GiB, but the machine has hardly more left."""
    machine.nodes({0: ("0-31", 257000, 33000)}).driver().gpu(*A100).write("proc/iomem", RAM)
    machine.write("sys/fs/cgroup/memory.max", f"{31 * GIB}")
    pool = told(machine).json["pool"]
    assert "cgroup" not in pool["host_limited_by"] and pool["host_bytes"] <= 33000 * MIB / 2


def test_cpuset_mems_bounds_the_nodes(told, machine):
    machine.nodes({0: ("0-31", 257000, 200000), 1: ("32-63", 257000, 100000)}).driver().write("proc/iomem", RAM)
    machine.gpu(*A100, node=0).write("proc/self/status", "Name:\tcat\nMems_allowed:\t00000002\nMems_allowed_list:\t1")
    run = told(machine)
    assert run["cpuset"]["status"] == "warn"
    assert "node 1" in run["cpuset"]["value"] and "node 0" in run["cpuset"]["meaning"]
    assert run.json["pool"]["host_available_bytes"] == 100000 * MIB
    machine.write("proc/self/status", "Mems_allowed_list:\t0-1")
    run = told(machine)
    assert run["cpuset"]["status"] == "ok"
    assert run.json["pool"]["host_available_bytes"] == 200000 * MIB


def test_cpuset_mems_bounds_a_machine_without_a_gpu(doctor, machine):
    nodes = {node: (f"{node}", 100000, 90000) for node in range(4)}
    machine.nodes(nodes).write("proc/self/status", "Mems_allowed_list:\t2-3")
    assert doctor("--json", "--sysroot", machine.tree).json["pool"]["host_available_bytes"] == 2 * 90000 * MIB


# What a GPU or a node is -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["NVIDIA Thor", "Orin (nvgpu)", "NVIDIA Something New"])
def test_a_gpu_without_memory_of_its_own_is_integrated_whatever_its_name(told, machine, name):
    machine.nodes({0: ("0-13", 125000, 110000)}).driver()
    run = told(machine.gpu(name, "Not Supported", "00000000:01:00.0", node=None))
    assert "share one memory" in run["gpu0.link"]["value"]
    (gpu,) = run.json["pool"]["gpus"]
    assert gpu["host_bytes"] == 0 and gpu["device_bytes"] == 125000 * MIB


def test_a_tegra_machine_has_an_integrated_gpu(told, machine):
    """No nvidia-smi, and a name that nobody knows: the device tree says what the chip is."""
    machine.nodes({0: ("0-13", 125000, 110000)}).driver()
    machine.write("proc/device-tree/compatible", "nvidia,p3971-0089\0nvidia,tegra264\0")
    machine.write("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA New Chip")
    assert told(machine).json["pool"]["gpus"][0]["host_bytes"] == 0


@pytest.mark.parametrize("name", ["NVIDIA GB100", "NVIDIA GB102", "NVIDIA H100 PCIe"])
def test_a_name_that_begins_alike_is_not_integrated(told, machine, name):
    machine.nodes({0: ("0-13", 125000, 110000)}).driver().gpu(name, "1MiB /  81559MiB")
    assert told(machine).json["pool"]["gpus"][0]["host_bytes"] > 0


def test_cxl_memory_of_a_gpus_size_is_no_hbm(told, machine):
    machine.nodes({0: ("0-31", 257000, 200000), 1: ("", 40960, 40000)}).driver().gpu(*A100)
    run = told(machine)
    assert run["node1"]["status"] == "ok" and run["node1"]["value"].startswith("memory without CPUs")
    assert run["cdmm"]["value"] == run["egm"]["value"] == "not applicable"


def test_cxl_memory_beside_hbm_is_no_hbm(told, machine):
    """An ordinary user: /proc/iomem names HBM and hides the sizes."""
    machine.nodes({0: ("0-71", 490000, 470000), 1: ("", 97280, 97000), 2: ("", 262144, 262000)}).driver().gpu(*GH200)
    machine.write("proc/iomem", "00000000-00000000 : System RAM\n00000000-00000000 : System RAM (NVIDIA)")
    run = told(machine)
    assert run["node1"]["value"].startswith("HBM") and run["node2"]["value"].startswith("memory without CPUs")


def test_huge_pages_of_every_size_are_seen(told, machine):
    machine.nodes({0: ("0-31", 257000, 200000)}, "HugePages_Total: 0\nHugepagesize: 2048 kB").driver().gpu(*A100)
    for size, count in ((2048, 512), (1048576, 16)):
        machine.write(f"sys/kernel/mm/hugepages/hugepages-{size}kB/nr_hugepages", str(count))
    fact = told(machine)["hugepages"]
    assert fact["status"] == "warn" and fact["bytes"] == 17 * GIB
    assert "16 of 1.0 GiB" in fact["value"] and "512 of 2.0 MiB" in fact["value"]
    assert "nr_hugepages" in fact["fix"]


def test_the_wrong_output_of_nvidia_smi_is_told(doctor, machine):
    """`nvidia-smi -q` in the table's place."""
    machine.nodes({0: ("0-31", 257000, 200000)})
    machine.write("nvidia-smi.txt", "==============NVSMI LOG==============\nAttached GPUs : 1\nGPU 00000000:17:00.0\n"
                  "    Product Name : NVIDIA H100 PCIe\n    FB Memory Usage\n        Total : 81559 MiB")
    run = doctor("--json", "--sysroot", machine.tree)
    assert run.status == 3
    assert run["nvidia_smi"]["status"] == "warn" and "plain 'nvidia-smi'" in run["nvidia_smi"]["fix"]
