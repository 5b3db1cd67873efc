// The parsers of /proc, /sys and tool output, on what machines write and on
// what they must never be trusted to write.
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <utility>

#include "base/size.h"
#include "topology/dmi.h"
#include "topology/memory_files.h"
#include "topology/nvidia_files.h"
#include "topology/pci.h"
#include "topology/sysroot.h"

namespace gpuroom {
namespace {

// A loop over the lines of a temporary string would read it after its end: such calls do not compile.
template <typename Text>
concept HasLines = requires(Text text) {
  SplitLines(std::forward<Text>(text));
};
template <typename Text>
concept CanBeTrimmed = requires(Text text) {
  Trim(std::forward<Text>(text));
};
static_assert(HasLines<const std::string&> && HasLines<std::string_view> && HasLines<const char*>);
static_assert(!HasLines<std::string> && !HasLines<const std::string>);
static_assert(CanBeTrimmed<const std::string&> && CanBeTrimmed<std::string_view> &&
              CanBeTrimmed<const char*>);
static_assert(!CanBeTrimmed<std::string> && !CanBeTrimmed<const std::string>);

TEST(ParseNumber, TakesWholeNumbersOnly) {
  EXPECT_EQ(ParseNumber("18446744073709551615"), UINT64_MAX);
  EXPECT_EQ(ParseNumber("ff", 16), 255u);
  for (const char* bad : {"", " 1", "1 ", "-1", "+1", "1k", "0x10", "18446744073709551616"}) {
    EXPECT_FALSE(ParseNumber(bad)) << bad;
  }
}

TEST(ParseIdList, ReadsRangesAndRefusesNonsense) {
  EXPECT_EQ(ParseIdList("0,2-4\n"), (std::vector<int>{0, 2, 3, 4}));
  EXPECT_EQ(ParseIdList("0"), (std::vector<int>{0}));
  for (const char* bad : {"", "\n", "a", "1-", "-1", "3-1", "0,,1", "0-99999999999999999999", "0-4096", "1,1",
                          "2,1", "0-3,2", "0-4095,0-4095"}) {
    EXPECT_TRUE(ParseIdList(bad).empty()) << bad;
  }
}

TEST(Sysroot, MissingFilesAndDirectoriesAreNoValue) {
  const Sysroot root("/nonexistent-sysroot");
  EXPECT_FALSE(root.Read("/proc/meminfo"));
  EXPECT_FALSE(root.ReadLine("proc/meminfo"));
  EXPECT_TRUE(root.List("/sys").empty());
  EXPECT_FALSE(root.IsDirectory("/"));
  EXPECT_FALSE(root.IsMachine());
  EXPECT_TRUE(Sysroot("/").IsMachine());
  EXPECT_FALSE(Sysroot("/").Read("/proc"));  // a directory is no file
}

TEST(Sysroot, FilesInMemoryAreLikeThoseOfAFolder) {
  const Sysroot::Files files = {
      {"a/.hidden", ""}, {"a/c/x", " 1\n"}, {"a/c/y", ""}, {"a/d", "2"}, {"ab", "3"}};
  const Sysroot root(&files);
  EXPECT_EQ(root.List("/a"), (std::vector<std::string>{"c", "d"}));
  EXPECT_EQ(root.List("a/c/"), (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(root.ReadLine("/a/c/x"), "1");
  EXPECT_FALSE(root.Read("/a/c"));
  EXPECT_FALSE(root.Read("/b"));
  EXPECT_TRUE(root.IsDirectory("/a/c"));
  EXPECT_FALSE(root.IsDirectory("/a/d"));
  EXPECT_TRUE(root.List("/ab").empty());
  EXPECT_FALSE(root.IsMachine());
}

TEST(ParseMemInfo, ReadsBothForms) {
  const MemInfo machine = ParseMemInfo("MemTotal:  1024 kB\nHugePages_Total:       3\nMemFree:12 kB\n");
  EXPECT_EQ(machine.Get("MemTotal"), 1024 * kKiB);
  EXPECT_EQ(machine.Get("HugePages_Total"), 3u);
  EXPECT_EQ(machine.Get("MemFree"), 12 * kKiB);
  const MemInfo node = ParseMemInfo("Node 12 MemTotal:    7 kB\nNode 12 Active(file): 2 kB\n");
  EXPECT_EQ(node.Get("MemTotal"), 7 * kKiB);
  EXPECT_EQ(node.Get("Active(file)"), 2 * kKiB);
}

TEST(ParseMemInfo, LeavesOutMalformedLines) {
  EXPECT_TRUE(ParseMemInfo("").empty());
  EXPECT_TRUE(ParseMemInfo("MemTotal").empty());
  EXPECT_TRUE(ParseMemInfo("MemTotal: kB\nMemFree: -5 kB\n: 4 kB\nNode 3\n").empty());
  EXPECT_TRUE(ParseMemInfo(std::string("\0\xff\xfe\n\x01:\x02", 7)).empty());
  // More than 2^63 bytes, and more than 64 bits.
  EXPECT_TRUE(ParseMemInfo("MemTotal: 18446744073709551615 kB\nMemFree: 99999999999999999999 kB").empty());
  EXPECT_EQ(ParseMemInfo("MemTotal: garbage\nMemFree: 8 kB").Get("MemFree"), 8 * kKiB);
}

TEST(ParseMemInfo, TakesMoreThanAPebibyteForGarbage) {
  const MemInfo info = ParseMemInfo("MemTotal: 1099511627776 kB\nMemFree: 1099511627777 kB\n");
  EXPECT_EQ(info.Get("MemTotal"), kMostPlausibleBytes);
  EXPECT_FALSE(info.Get("MemFree"));
}

TEST(ParseNvidiaSmi, EndsAtMoreGpusThanAMachineHas) {
  std::string table;
  for (int i = 0; i < 1000; ++i) table += "| 0  NVIDIA H200  On | 00000009:01:00.0 Off |\n";
  EXPECT_EQ(ParseNvidiaSmi(table).size(), 256u);
}

TEST(ReclaimableBytes, CountsFilePagesAndNotSharedMemory) {
  EXPECT_EQ(ReclaimableBytes(ParseMemInfo("Active(file): 2 kB\nInactive(file): 3 kB\nFilePages: 99 kB")),
            5 * kKiB);
  EXPECT_EQ(ReclaimableBytes(ParseMemInfo("FilePages: 9 kB\nShmem: 4 kB")), 5 * kKiB);
  EXPECT_EQ(ReclaimableBytes(ParseMemInfo("FilePages: 1 kB\nShmem: 4 kB")), 0u);
}

TEST(ParseIoMem, SumsTopLevelEntriesByName) {
  const IoMem iomem = ParseIoMem(
      "00000000-00000fff : Reserved\n80000000-27fffffff : System RAM\n  81000000-82ffffff : Kernel code\n"
      "400000000000-4017bfffffff : System RAM (NVIDIA)\n");
  EXPECT_TRUE(iomem.readable);
  EXPECT_FALSE(iomem.addresses_hidden);
  EXPECT_TRUE(iomem.nvidia_named);
  EXPECT_EQ(iomem.RamBytes(), 8 * kGiB);
  EXPECT_EQ(iomem.NvidiaBytes(), 97280 * kMiB);
  EXPECT_EQ(iomem.nvidia[0].start, uint64_t{0x400000000000});
}

TEST(ParseIoMem, ZerosMeanHidden) {
  const IoMem iomem = ParseIoMem("00000000-00000000 : System RAM\n00000000-00000000 : System RAM (NVIDIA)\n");
  EXPECT_TRUE(iomem.readable);
  EXPECT_TRUE(iomem.addresses_hidden);
  EXPECT_TRUE(iomem.nvidia_named);
  EXPECT_EQ(iomem.RamBytes(), 0u);
  EXPECT_EQ(iomem.NvidiaBytes(), 0u);
}

TEST(ParseIoMem, SurvivesGarbage) {
  for (const char* bad :
       {"", "\n\n", "System RAM", "xyz-123 : System RAM", "10-5 : System RAM", "10 : System RAM",
        "0-ffffffffffffffff : System RAM", "0-fffffffffffffffff : System RAM"}) {
    const IoMem iomem = ParseIoMem(bad);
    EXPECT_FALSE(iomem.readable) << bad;
    EXPECT_EQ(iomem.RamBytes(), 0u) << bad;
  }
  // Two halves of the address space: the sum must not wrap.
  const IoMem huge =
      ParseIoMem("0-7ffffffffffffffd : System RAM\n8000000000000000-fffffffffffffffd : System RAM\n");
  EXPECT_GE(huge.RamBytes(), uint64_t{1} << 62);
}

TEST(ParseDmidecode, SumsSizes) {
  EXPECT_EQ(ParseDmidecode("\tSize: 480 GB\n"), 480 * kGiB);
  EXPECT_EQ(ParseDmidecode("\tSize: 32 GB\n\tSize: No Module Installed\n\tSize: 32768 MB\n"), 64 * kGiB);
  EXPECT_EQ(ParseDmidecode("\tVolatile Size: 32 GB\n\tCache Size: None\n\tRange Size: 1 TB\n"), 0u);
  EXPECT_EQ(ParseDmidecode(""), 0u);
  EXPECT_EQ(ParseDmidecode("Size:"), 0u);
  EXPECT_EQ(ParseDmidecode("Size: 99999999999999999999999 TB"), 0u);
  EXPECT_EQ(ParseDmidecode("Size: -4 GB"), 0u);
}

// A DMI structure of `length` bytes with the size word, no strings.
std::string Structure(uint8_t type, uint8_t length, uint16_t size, uint32_t extended = 0) {
  std::string text(length, '\0');
  text[0] = static_cast<char>(type);
  text[1] = static_cast<char>(length);
  if (length >= 0x0e) {
    text[0x0c] = static_cast<char>(size & 0xff);
    text[0x0d] = static_cast<char>(size >> 8);
  }
  for (int i = 0; i < 4 && length >= 0x20; ++i) text[0x1c + i] = static_cast<char>(extended >> (8 * i));
  return text + std::string(2, '\0');
}

TEST(ParseDmiTable, SumsMemoryDevices) {
  const std::string table = Structure(16, 0x17, 9) + Structure(17, 0x28, 16384) +
                            Structure(17, 0x28, 0x7fff, 491520) + Structure(17, 0x28, 0) +
                            Structure(17, 0x28, 0xffff) + Structure(17, 0x28, 0x8400) + Structure(127, 4, 0);
  EXPECT_EQ(ParseDmiTable(table), 16 * kGiB + 480 * kGiB + kMiB);
}

TEST(ParseDmiTable, SurvivesTruncationAnywhere) {
  const std::string table = Structure(17, 0x28, 0x7fff, 491520) + Structure(17, 0x15, 16384);
  for (size_t length = 0; length <= table.size(); ++length) {
    EXPECT_LE(ParseDmiTable(table.substr(0, length)), 496 * kGiB) << length;
  }
  EXPECT_EQ(ParseDmiTable(Structure(17, 2, 1)), 0u);     // shorter than its own head
  EXPECT_EQ(ParseDmiTable(Structure(17, 0x0c, 1)), 0u);  // too short for a size
}

TEST(Pci, ReadsGenerationsAndRates) {
  EXPECT_EQ(PcieGeneration("32.0 GT/s PCIe"), 5);
  EXPECT_EQ(PcieGeneration("2.5 GT/s PCIe"), 1);
  EXPECT_EQ(PcieGeneration("8 GT/s"), 3);
  EXPECT_EQ(PcieGeneration("Unknown"), 0);
  EXPECT_EQ(PcieGeneration(""), 0);
  const PciLink link{true, 5, 16};
  EXPECT_NEAR(link.GigabytesPerSecond(), 54.2, 0.1);
  EXPECT_EQ(PciLink{}.GigabytesPerSecond(), 0);
}

TEST(Pci, NormalizesAddresses) {
  EXPECT_EQ(NormalizePciAddress("00000000:17:00.0"), "0000:17:00.0");
  EXPECT_EQ(NormalizePciAddress("0000000F:01:00.0\n"), "000f:01:00.0");
  EXPECT_EQ(NormalizePciAddress("0000:3A:00.0"), "0000:3a:00.0");
  EXPECT_EQ(NormalizePciAddress("00010000:01:00.0"), "00010000:01:00.0");
  EXPECT_EQ(NormalizePciAddress("garbage"), "garbage");
  EXPECT_EQ(NormalizePciAddress(""), "");
}

TEST(NvidiaFiles, ReadsVersions) {
  EXPECT_EQ(
      ParseNvidiaVersion("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Wed Oct 1\nGCC 13.3.0"),
      "580.159.04");
  EXPECT_EQ(
      ParseNvidiaVersion("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  570.86.15  Release"),
      "570.86.15");
  EXPECT_EQ(ParseNvidiaVersion(""), "");
  EXPECT_EQ(ParseNvidiaVersion("no version here"), "");
}

TEST(NvidiaFiles, ReadsCoherentMode) {
  EXPECT_EQ(ParseCoherentMode("A: 1\nCoherentGPUMemoryMode: \"driver\"\n"), CoherentMode::kDriver);
  EXPECT_EQ(ParseCoherentMode("NVreg_CoherentGPUMemoryMode: numa"), CoherentMode::kNuma);
  EXPECT_EQ(ParseCoherentMode("CoherentGPUMemoryMode: \"\""), CoherentMode::kUnknown);
  EXPECT_EQ(ParseCoherentMode("CoherentGPUMemoryMode"), CoherentMode::kUnknown);
  EXPECT_EQ(ParseCoherentMode("\""), CoherentMode::kUnknown);
}

TEST(NvidiaFiles, ReadsNvidiaSmi) {
  const auto gpus = ParseNvidiaSmi(
      "| NVIDIA-SMI 580.65.06   Driver Version: 580.65.06   CUDA Version: 13.0 |\n"
      "|   0  NVIDIA GH200 480GB             On  |   00000009:01:00.0 Off |                  Off |\n"
      "| N/A   31C    P0             83W /  700W |   14920MiB /  97871MiB |      0%      Default |\n"
      "|   1  NVIDIA GB10                    On  |   0000000F:01:00.0 Off |                  N/A |\n"
      "| N/A   31C    P0             83W /  N/A  |    Not Supported       |      0%      Default |\n");
  ASSERT_EQ(gpus.size(), 2u);
  EXPECT_EQ(gpus[0].name, "NVIDIA GH200 480GB");
  EXPECT_EQ(gpus[0].bytes, 97871 * kMiB);
  EXPECT_EQ(gpus[0].pci_address, "00000009:01:00.0");
  EXPECT_EQ(gpus[1].name, "NVIDIA GB10");
  EXPECT_EQ(gpus[1].bytes, 0u);
  EXPECT_TRUE(gpus[1].integrated);
}

TEST(NvidiaFiles, NvidiaSmiGarbageIsNoGpu) {
  for (const char* bad : {"", "|", "||", "|  0  |", "|   0  x | 0 |",
                          "NVIDIA-SMI has failed because it couldn't", "| N/A | 1MiB / 2MiB |"}) {
    EXPECT_TRUE(ParseNvidiaSmi(bad).empty()) << bad;
  }
  const auto gpus =
      ParseNvidiaSmi("| 0 X  On | 00000009:01:00.0 Off |\n| 1MiB / 99999999999999999999MiB |\n");
  ASSERT_EQ(gpus.size(), 1u);
  EXPECT_EQ(gpus[0].bytes, 0u);
}

}  // namespace
}  // namespace gpuroom
