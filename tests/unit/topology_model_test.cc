// The NUMA model, EGM's estimate, cgroup limits and the host budget, on the
// fixtures of tests/fixtures and on trees written here.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/size.h"
#include "topology/host_budget.h"
#include "topology/host_model.h"

namespace gpuroom {
namespace {

std::string Fixture(const std::string& name) { return GPUROOM_FIXTURES + name; }

HostModel ModelOf(const std::string& fixture) { return ReadHostModel(Sysroot(Fixture(fixture))); }

HostBudget BudgetOf(const std::string& fixture, int node = -1) {
  return AutoHostBudget(HostBudgetRequest{Fixture(fixture), node});
}

// A sysroot of the test's own, removed at the end.
class Tree : public testing::Test {
 protected:
  void SetUp() override {
    std::string path = testing::TempDir() + "gpuroom-tree-XXXXXX";
    ASSERT_NE(mkdtemp(path.data()), nullptr);
    path_ = path;
  }
  void TearDown() override { std::filesystem::remove_all(path_); }

  void Write(const std::string& name, const std::string& text) {
    const std::filesystem::path file = std::filesystem::path(path_) / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << text;
    ASSERT_EQ(std::filesystem::file_size(file), text.size());
  }
  void WriteNode(int id, const std::string& cpus, uint64_t total_mib, uint64_t free_mib) {
    const std::string name = std::to_string(id);
    const std::string directory = "sys/devices/system/node/node" + name;
    Write(directory + "/cpulist", cpus + "\n");
    Write(directory + "/meminfo", "Node " + name + " MemTotal: " + std::to_string(total_mib * 1024) +
                                      " kB\nNode " + name + " MemFree: " + std::to_string(free_mib * 1024) +
                                      " kB\n");
  }
  HostModel Model(std::vector<GpuHint> gpus = {}) { return ReadHostModel(Sysroot(path_), std::move(gpus)); }
  HostBudget Budget(int node = -1) { return AutoHostBudget(HostBudgetRequest{path_, node}); }

  std::string path_;
};

TEST(HostModel, Gh200EgmTellsHbmFromRam) {
  const HostModel model = ModelOf("gh200-egm");
  EXPECT_EQ(model.NodesOf(NodeKind::kRam), std::vector<int>{0});
  EXPECT_EQ(model.NodesOf(NodeKind::kHbm), std::vector<int>{2});
  EXPECT_EQ(model.NodesOf(NodeKind::kEmpty), (std::vector<int>{1, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(model.FindNode(2)->gpu, 0);
  EXPECT_EQ(model.real_ram, 8080 * kMiB);
  EXPECT_EQ(model.hbm_as_ram, 97280 * kMiB);
  ASSERT_TRUE(model.egm.present);
  EXPECT_EQ(model.egm.installed, 480 * kGiB);
  EXPECT_EQ(model.egm.os_share, 8 * kGiB);
  EXPECT_EQ(model.egm.bytes, 472 * kGiB);
}

TEST_F(Tree, TheNearestNodesAreThoseWithMemoryByDistance) {
  Write("sys/devices/system/node/online", "0-3\n");
  for (const int id : {0, 2, 3}) WriteNode(id, std::to_string(id), 1024, 512);
  WriteNode(1, "1", 0, 0);
  Write("sys/devices/system/node/node0/distance", "10 12 32 21\n");
  EXPECT_EQ(NearestNodes(Model(), 0), (std::vector<int>{3, 2}));
  EXPECT_EQ(NearestNodes(Model(), 2), (std::vector<int>{0, 3}));  // its distances are not known
  EXPECT_EQ(NearestNodes(Model(), 7), (std::vector<int>{0, 2, 3}));
}

TEST(HostModel, HiddenIomemStillTellsAndTheNameGivesTheSize) {
  const HostModel model = ModelOf("gh200-egm-restricted");
  EXPECT_TRUE(model.iomem.addresses_hidden);
  EXPECT_EQ(model.NodesOf(NodeKind::kHbm), std::vector<int>{2});
  ASSERT_TRUE(model.egm.present);
  EXPECT_EQ(model.egm.installed_source, "the product name");
  EXPECT_EQ(model.egm.bytes, 480 * kGiB - 8080 * kMiB);
}

// A machine has no nvidia-smi.txt, and its DMI tables are root's: the names come from the driver's own files.
TEST_F(Tree, WithoutNvidiaSmiAndDmiTheDriversFilesNameTheProduct) {
  std::filesystem::copy(Fixture("gh200-egm"), path_, std::filesystem::copy_options::recursive);
  std::filesystem::remove(path_ + "/nvidia-smi.txt");
  std::filesystem::remove(path_ + "/dmidecode-t-memory.txt");
  Write("proc/driver/nvidia/gpus/0009:01:00.0/information",
        "Model: \t\t NVIDIA GH200 480GB\nIRQ:   \t\t 16\nBus Location: \t 0009:01:00.0\n");
  const HostModel model = Model();
  ASSERT_EQ(model.gpus.size(), 1u);
  EXPECT_EQ(model.gpus[0].name, "NVIDIA GH200 480GB");
  EXPECT_EQ(model.gpus[0].pci_address, "0009:01:00.0");
  EXPECT_EQ(Budget().bytes, 470 * kGiB);
}

TEST(HostModel, Gh200WithoutEgmHasItsLpddr) {
  const HostModel model = ModelOf("gh200");
  EXPECT_EQ(model.NodesOf(NodeKind::kHbm), std::vector<int>{1});
  EXPECT_EQ(model.real_ram, 490000 * kMiB);
  EXPECT_TRUE(model.grace);
  EXPECT_FALSE(model.egm.present);
  EXPECT_EQ(model.FindNode(0)->distances.size(), 9u);
}

TEST(HostModel, CdmmAndUnifiedMachinesHaveNoHbmNode) {
  const HostModel cdmm = ModelOf("gh200-cdmm");
  EXPECT_TRUE(cdmm.NodesOf(NodeKind::kHbm).empty());
  EXPECT_TRUE(cdmm.grace);
  EXPECT_FALSE(cdmm.egm.present);
  EXPECT_EQ(cdmm.nvidia.coherent, CoherentMode::kDriver);
  const HostModel gb10 = ModelOf("gb10");
  EXPECT_FALSE(gb10.grace);
  ASSERT_EQ(gb10.gpus.size(), 1u);
  EXPECT_TRUE(gb10.gpus[0].integrated);
  EXPECT_EQ(gb10.real_ram, 122570 * kMiB);
}

TEST(HostModel, ServerListsItsGpusOnTheBus) {
  const HostModel model = ModelOf("server-8gpu");
  ASSERT_EQ(model.pci_gpus.size(), 8u);  // not the NVSwitch, not the network card
  EXPECT_EQ(model.pci_gpus[2].current.width, 8);
  EXPECT_EQ(model.pci_gpus[2].maximum.width, 16);
  EXPECT_EQ(model.pci_gpus[7].numa_node, 1);
  EXPECT_EQ(model.gpus.size(), 8u);
}

TEST(HostModel, LpddrFromName) {
  EXPECT_EQ(LpddrFromName("NVIDIA GH200 480GB"), 480 * kGiB);
  EXPECT_EQ(LpddrFromName("NVIDIA GH200 144G HBM3e"), 0u);
  EXPECT_EQ(LpddrFromName("NVIDIA GH200 96GB"), 0u);
  EXPECT_EQ(LpddrFromName("NVIDIA GH200 99999999999999999999GB"), 0u);
  EXPECT_EQ(LpddrFromName("NVIDIA GH200 GB"), 0u);
  EXPECT_EQ(LpddrFromName("NVIDIA H100 80GB"), 0u);
}

TEST_F(Tree, MemoryOnlyNodeWithoutNvidiaInIomemIsNotHbm) {
  WriteNode(0, "0-7", 64000, 60000);
  WriteNode(1, "", 97280, 97000);
  Write("proc/iomem", "100000000-ffffffffff : System RAM\n");
  Write("nvidia-smi.txt", "| 0  NVIDIA GH200 480GB  On | 00000009:01:00.0 Off |\n| 1MiB / 97871MiB |\n");
  EXPECT_EQ(Model().NodesOf(NodeKind::kMemoryOnly), std::vector<int>{1});
}

TEST_F(Tree, SizeDecidesWhereIomemIsMissing) {
  WriteNode(0, "0-7", 64000, 60000);
  WriteNode(1, "", 97280, 97000);
  WriteNode(2, "", 131072, 131000);  // CXL: fits no GPU
  Write("nvidia-smi.txt", "| 0  NVIDIA GH200 480GB  On | 00000009:01:00.0 Off |\n| 1MiB / 97871MiB |\n");
  const HostModel model = Model();
  EXPECT_EQ(model.NodesOf(NodeKind::kHbm), std::vector<int>{1});
  EXPECT_EQ(model.NodesOf(NodeKind::kMemoryOnly), std::vector<int>{2});
}

TEST_F(Tree, ADiscreteGpuOfThatSizeDoesNotMakeCxlMemoryHbm) {
  WriteNode(0, "0-7", 64000, 60000);
  WriteNode(1, "", 97280, 97000);
  GpuHint discrete;
  discrete.bytes = 97871 * kMiB;
  discrete.coherence_known = true;
  EXPECT_EQ(Model({discrete}).NodesOf(NodeKind::kMemoryOnly), std::vector<int>{1});
}

TEST_F(Tree, TheDriversWordDecidesWithoutAnySize) {
  WriteNode(0, "0-7", 64000, 60000);
  WriteNode(4, "", 50000, 50000);
  GpuHint gpu;
  gpu.hbm_node = 4;
  gpu.coherence_known = true;
  gpu.coherent = true;
  EXPECT_EQ(Model({gpu}).NodesOf(NodeKind::kHbm), std::vector<int>{4});
}

TEST_F(Tree, EachHbmNodeGetsAGpuOfItsOwn) {
  WriteNode(0, "0-71", 480000, 470000);
  WriteNode(1, "72-143", 480000, 470000);
  WriteNode(2, "", 188416, 188000);
  WriteNode(10, "", 188416, 188000);
  Write("proc/iomem",
        "80000000-7fffffffff : System RAM\n400000000000-402dffffffff : System RAM (NVIDIA)\n"
        "500000000000-502dffffffff : System RAM (NVIDIA)\n");
  GpuHint gpu;
  gpu.name = "NVIDIA GB200";
  gpu.bytes = 189471 * kMiB;
  const HostModel model = Model({gpu, gpu});
  EXPECT_EQ(model.NodesOf(NodeKind::kHbm), (std::vector<int>{2, 10}));
  EXPECT_EQ(model.FindNode(2)->gpu, 0);
  EXPECT_EQ(model.FindNode(10)->gpu, 1);
}

TEST_F(Tree, ASmallVirtualMachineOnGraceIsNotTakenForEgm) {
  WriteNode(0, "0-15", 131072, 100000);  // a quarter of the 480 GB in the product's name
  Write("nvidia-smi.txt", "| 0  NVIDIA GH200 480GB  On | 00000009:01:00.0 Off |\n| 1MiB / 97871MiB |\n");
  const HostModel model = Model();
  EXPECT_TRUE(model.grace);
  EXPECT_FALSE(model.egm.present);
}

// Neither the name nor a DMI table says how much LPDDR a GB200 has, and to an ordinary user nothing else
// does.
TEST_F(Tree, EgmOfUnknownSizeBoundsNoExplicitLimit) {
  WriteNode(0, "0-71", 8080, 7000);
  WriteNode(1, "", 188416, 188000);
  Write("proc/meminfo", "MemTotal: 201211904 kB\nMemAvailable: 199680000 kB\n");
  Write("proc/iomem", "0-0 : System RAM\n0-0 : System RAM (NVIDIA)\n");
  Write("proc/self/cgroup", "0::/\n");
  Write("sys/fs/cgroup/memory.max", "4294967296\n");
  GpuHint gpu;
  gpu.name = "NVIDIA GB200";
  gpu.bytes = 189471 * kMiB;
  const HostModel model = Model({gpu});
  EXPECT_FALSE(model.egm.present);
  EXPECT_TRUE(model.egm_suspected);
  const HostBudget budget = AutoHostBudget(model, {});
  EXPECT_LE(budget.available, 4 * kGiB);  // of itself, no more than what can be seen
  EXPECT_EQ(CheckHostLimit(400 * kGiB, budget), "");
  EXPECT_NE(WarnOfHostLimit(400 * kGiB, budget), "");
}

TEST(HostModel, EgmIsNotSuspectedWhereItsSizeOrTheOssMemorySays) {
  for (const char* fixture : {"gh200", "gh200-egm", "gh200-egm-restricted", "gh200-cdmm", "gb10", "no-gpu"}) {
    EXPECT_FALSE(ModelOf(fixture).egm_suspected) << fixture;
  }
}

TEST_F(Tree, AnEmptyMachineHasNoMemoryAndDoesNotCrash) {
  const HostModel model = Model();
  EXPECT_EQ(model.real_ram, 0u);
  const HostBudget budget = Budget();
  EXPECT_EQ(budget.bytes, 0u);
  EXPECT_NE(budget.limited_by.find("cannot be read"), std::string::npos);
}

TEST_F(Tree, GarbageEverywhereIsNoMemory) {
  for (const std::string& text : {std::string(), std::string("garbage"), std::string("\0\xff\n:\n-\n", 8),
                                  std::string("99999999999999999999999"), std::string(100000, '\n')}) {
    for (const char* name :
         {"proc/meminfo", "proc/iomem", "proc/self/cgroup", "proc/driver/nvidia/version",
          "proc/driver/nvidia/params", "sys/devices/system/node/online",
          "sys/devices/system/node/node0/meminfo", "sys/devices/system/node/node0/cpulist",
          "sys/devices/system/node/node0/distance", "nvidia-smi.txt", "dmidecode-t-memory.txt",
          "sys/firmware/dmi/tables/DMI", "sys/bus/pci/devices/0000:01:00.0/vendor"}) {
      Write(name, text);
    }
    EXPECT_EQ(Budget().bytes, 0u);
    EXPECT_EQ(Model().real_ram, 0u);
  }
}

TEST_F(Tree, AbsurdNodesDoNotAddUpToASmallMachine) {
  const std::string absurd =
      "MemTotal: 9007199254740991 kB\n";  // of which two are more than 64 bits of bytes
  Write("sys/devices/system/node/node0/meminfo", absurd);
  Write("sys/devices/system/node/node1/meminfo", absurd);
  WriteNode(2, "0-7", 64, 64);
  EXPECT_EQ(Model().real_ram, 64 * kMiB);
}

TEST_F(Tree, ACgroupPathLongerThanAnyIsTheRoot) {
  std::string path;
  while (path.size() < 300000) path += "/a";  // each level would be looked at
  Write("proc/self/cgroup", "0::" + path + "\n");
  Write("sys/fs/cgroup/memory.max", "1073741824\n");
  EXPECT_EQ(Model().cgroup.limit, kGiB);
}

TEST_F(Tree, FreeBeyondTotalIsCutToTotal) {
  WriteNode(0, "0", 100, 99999999);
  EXPECT_EQ(Model().FindNode(0)->free, 100 * kMiB);
}

TEST(HostBudget, EveryFixtureIsBoundByWhatIsTightest) {
  const HostBudget box = BudgetOf("no-gpu");
  EXPECT_EQ(box.limited_by, "MemAvailable");
  EXPECT_EQ(box.available, 240000 * kMiB);
  EXPECT_EQ(box.reserve, 257000 * kMiB / 10);
  const HostBudget gh200 = BudgetOf("gh200");
  EXPECT_EQ(gh200.limited_by, "free memory of NUMA node 0");
  EXPECT_EQ(gh200.available, 479000 * kMiB);
  const HostBudget second_version = BudgetOf("container-cgroup2");
  EXPECT_EQ(second_version.available, 28 * kGiB);
  EXPECT_NE(second_version.limited_by.find("pod7/memory.max"), std::string::npos);
  const HostBudget first_version = BudgetOf("container-cgroup1");
  EXPECT_EQ(first_version.available, 12 * kGiB);
  EXPECT_NE(first_version.limited_by.find("memory.limit_in_bytes"), std::string::npos);
}

TEST(HostBudget, ServesEveryGpuFromTheNodeWithLeastFree) {
  const HostBudget budget = BudgetOf("server-8gpu");
  EXPECT_EQ(budget.node, 1);
  EXPECT_EQ(budget.available, 970000 * kMiB);
  EXPECT_EQ(BudgetOf("server-8gpu", 0).available, 1020000 * kMiB);
}

TEST(HostBudget, OnEgmTheHostTierIsEgm) {
  const HostBudget budget = BudgetOf("gh200-egm");
  EXPECT_TRUE(budget.egm);
  EXPECT_TRUE(budget.estimated);
  EXPECT_EQ(budget.node, 0);
  EXPECT_EQ(budget.available, 472 * kGiB);
  EXPECT_EQ(budget.bytes, 470 * kGiB);
}

TEST(HostBudget, HbmIsNeverHostMemory) {
  const HostBudget asked = BudgetOf("gh200", 1);
  EXPECT_EQ(asked.bytes, 0u);
  EXPECT_NE(asked.limited_by.find("HBM"), std::string::npos);
  EXPECT_EQ(BudgetOf("gh200", 5).bytes, 0u);   // an empty node
  EXPECT_EQ(BudgetOf("gh200", 77).bytes, 0u);  // no such node
}

TEST_F(Tree, HbmNodesAreTakenOutOfMemAvailable) {
  Write("proc/meminfo", "MemTotal: 173015040 kB\nMemAvailable: 157286400 kB\n");  // 165, 150 GiB
  WriteNode(0, "0-71", 65536, 65536);
  WriteNode(1, "", 97280, 97280);
  Write("proc/iomem", "0-fffffffff : System RAM\n400000000000-4017bfffffff : System RAM (NVIDIA)\n");
  const HostBudget budget = Budget();
  EXPECT_EQ(budget.available, 150 * kGiB - 97280 * kMiB);
  EXPECT_EQ(budget.limited_by, "MemAvailable without the HBM nodes");
}

TEST_F(Tree, TheReserveIsAtMostHalfAndBytesAreGranular) {
  Write("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 1000001 kB\n");
  const HostBudget budget = Budget();
  EXPECT_EQ(budget.reserve, budget.available / 2);
  EXPECT_GT(budget.bytes, 0u);
  EXPECT_EQ(budget.bytes % (2 * kMiB), 0u);
  EXPECT_LE(budget.bytes + budget.reserve, budget.available);
}

TEST_F(Tree, CgroupLimitsOfEveryLevelCount) {
  Write("proc/meminfo", "MemTotal: 104857600 kB\nMemAvailable: 94371840 kB\n");
  Write("proc/self/cgroup", "0::/a/b/c\n");
  Write("sys/fs/cgroup/a/b/c/memory.max", "42949672960\n");
  Write("sys/fs/cgroup/a/b/memory.max", "max\n");
  Write("sys/fs/cgroup/a/memory.max", "21474836480\n");
  Write("sys/fs/cgroup/a/memory.current", "10737418240\n");
  Write("sys/fs/cgroup/memory.high", "garbage\n");
  EXPECT_EQ(Model().cgroup.remaining, 10 * kGiB);
  EXPECT_EQ(Model().cgroup.file, "/sys/fs/cgroup/a/memory.max");
  Write("sys/fs/cgroup/a/b/memory.high", "1073741824\n");  // past it the kernel throttles
  EXPECT_EQ(Model().cgroup.remaining, kGiB);
}

TEST_F(Tree, PageCacheOfACgroupIsObtainableWhetherActiveOrNot) {
  Write("proc/meminfo", "MemTotal: 104857600 kB\nMemAvailable: 94371840 kB\n");
  Write("proc/self/cgroup", "0::/a\n");
  Write("sys/fs/cgroup/a/memory.max", "21474836480\n");
  Write("sys/fs/cgroup/a/memory.current", "20401094656\n");  // 19 of 20 GiB, 16 of them files
  Write("sys/fs/cgroup/a/memory.stat",
        "anon 3221225472\nfile 17179869184\ninactive_file 4294967296\nactive_file 12884901888\n");
  EXPECT_EQ(Budget().available, 17 * kGiB);
  EXPECT_EQ(Budget().ceiling, 17 * kGiB);
  Write("proc/self/cgroup", "4:memory:/b\n");
  Write("sys/fs/cgroup/memory/b/memory.limit_in_bytes", "21474836480\n");
  Write("sys/fs/cgroup/memory/b/memory.usage_in_bytes", "20401094656\n");
  Write("sys/fs/cgroup/memory/b/memory.stat",
        "active_file 1\ninactive_file 1\ntotal_inactive_file 4294967296\ntotal_active_file 12884901888\n");
  EXPECT_EQ(Budget().available, 17 * kGiB);
  Write("sys/fs/cgroup/memory/b/memory.stat",
        "total_inactive_file 9223372036854775807\ntotal_active_file 18446744073709551615\n");
  EXPECT_EQ(Budget().available, 20 * kGiB);
}

TEST_F(Tree, AFullCgroupLeavesNothing) {
  Write("proc/meminfo", "MemTotal: 104857600 kB\nMemAvailable: 94371840 kB\n");
  Write("proc/self/cgroup", "0::/\n");
  Write("sys/fs/cgroup/memory.max", "1073741824\n");
  Write("sys/fs/cgroup/memory.current", "2147483648\n");
  EXPECT_EQ(Budget().bytes, 0u);
}

TEST_F(Tree, UnlimitedAndStrangeCgroupsAreNoLimit) {
  Write("proc/self/cgroup",
        "0::/../../escape\n4:memory:/x\nnonsense\n5\n:::::\n0::relative\n7:cpu,memory,pids:/y\n");
  Write("sys/fs/cgroup/memory.max", "max\n");
  Write("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "9223372036854771712\n");
  Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "99999999999999999999999\n");
  EXPECT_FALSE(Model().cgroup.limited);
  Write("sys/fs/cgroup/memory/y/memory.limit_in_bytes", "4096\n");  // among other controllers
  EXPECT_TRUE(Model().cgroup.limited);
  EXPECT_EQ(Model().cgroup.version, 1);
}

TEST(CheckHostLimit, SaysWhatIsThereAndWhatToDo) {
  const HostBudget budget = BudgetOf("container-cgroup2");
  EXPECT_EQ(CheckHostLimit(28 * kGiB, budget), "");
  EXPECT_EQ(CheckHostLimit(0, budget), "");
  const std::string text = CheckHostLimit(29 * kGiB, budget);
  for (const char* part : {"29.0 GiB", "28.0 GiB", "memory.max", "--host-limit auto"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
  }
  EXPECT_NE(CheckHostLimit(1, HostBudget{}).find("free memory"), std::string::npos);
}

TEST(CheckHostLimit, WarnsOfWhatIsNotFreeNowAndRefusesWhatCannotBe) {
  HostBudget budget;
  budget.available = 6 * kGiB;
  budget.bytes = 4 * kGiB;
  budget.ceiling = 250 * kGiB;
  budget.limited_by = "free memory of NUMA node 0";
  EXPECT_EQ(WarnOfHostLimit(6 * kGiB, budget), "");
  EXPECT_EQ(CheckHostLimit(8 * kGiB, budget), "");
  EXPECT_NE(WarnOfHostLimit(8 * kGiB, budget).find("6.0 GiB is free now"), std::string::npos);
  EXPECT_NE(CheckHostLimit(251 * kGiB, budget).find("250 GiB"), std::string::npos);
}

TEST(CheckHostLimit, TheCeilingIsRealRamWithinTheCgroup) {
  EXPECT_EQ(BudgetOf("container-cgroup2").ceiling, 28 * kGiB);
  const HostBudget server = BudgetOf("server-8gpu");
  EXPECT_EQ(server.ceiling, server.real_ram);
  const std::string text = CheckHostLimit(server.ceiling + kGiB, server);
  EXPECT_NE(text.find("all the real RAM of this machine"), std::string::npos) << text;
}

}  // namespace
}  // namespace gpuroom
