// torch_memory_saver's functions, called as its Python wrapper calls them.
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "library.h"

namespace gpuroom::shim_test {
namespace {

constexpr uint64_t kBytes = 4 * kMiB;

class RegionTest : public CapiTest {
 protected:
  void TearDown() override {
    Library().set_memory_margin(0);
    Configure("default", false, false, false);
    EXPECT_EQ(Library().tms_resume(nullptr), 0);
    CapiTest::TearDown();
  }
  static void Configure(const char* tag, bool interesting, bool cpu, bool disk) {
    Library().tms_set_current_tag(tag);
    Library().tms_set_interesting_region(interesting);
    Library().tms_set_enable_cpu_backup(cpu);
    Library().tms_set_enable_disk_backup(disk);
  }
  // Filled with `seed`, as the settings say.
  static CUdeviceptr Make(uint64_t seed, uint64_t bytes = kBytes) {
    void* made = Library().tms_torch_malloc(static_cast<ssize_t>(bytes), 0, nullptr);
    EXPECT_NE(made, nullptr);
    const auto p = reinterpret_cast<CUdeviceptr>(made);
    Fill(p, bytes, seed);
    return p;
  }
  static CUdeviceptr MakeIn(const char* tag, bool cpu, bool disk, uint64_t seed, uint64_t bytes = kBytes) {
    Configure(tag, true, cpu, disk);
    const CUdeviceptr p = Make(seed, bytes);
    Configure("default", false, false, false);
    return p;
  }
  static void Release(CUdeviceptr p) {
    Library().tms_torch_free(reinterpret_cast<void*>(p), 0, 0, nullptr);  // NOLINT
  }
  // Every byte of the copy is what Fill wrote with this seed.
  static void ExpectCopy(const uint8_t* copy, uint64_t bytes, uint64_t seed) {
    ASSERT_NE(copy, nullptr);
    std::vector<uint64_t> words(bytes / sizeof(uint64_t));
    const CUdeviceptr p = Make(seed, bytes);
    ASSERT_CU(Cu().MemcpyDtoH(words.data(), p, bytes));
    Release(p);
    EXPECT_EQ(std::memcmp(copy, words.data(), bytes), 0);
  }
};

class FolderTest : public RegionTest {
 protected:
  void SetUp() override {
    RegionTest::SetUp();
    folder_ = testing::TempDir() + "/gpuroom-regions-" + std::to_string(getpid());
    std::filesystem::create_directory(folder_);
    Library().tms_set_disk_backup_dir(folder_.c_str());
  }
  void TearDown() override {
    RegionTest::TearDown();
    EXPECT_TRUE(std::filesystem::is_empty(folder_));
    std::filesystem::remove_all(folder_);
    Library().tms_set_disk_backup_dir(nullptr);
  }

  std::string folder_;
};
using DiskRegionTest = FolderTest;

TEST_F(RegionTest, SettingsAreTheThreadsOwn) {
  EXPECT_STREQ(Library().tms_get_current_tag(), "default");
  EXPECT_FALSE(Library().tms_get_interesting_region());
  Configure("weights", true, true, false);
  Library().tms_set_cpu_backup_backend("mmap");
  std::thread([] {
    EXPECT_STREQ(Library().tms_get_current_tag(), "default");
    EXPECT_FALSE(Library().tms_get_interesting_region());
    EXPECT_FALSE(Library().tms_get_enable_cpu_backup());
    EXPECT_STREQ(Library().tms_get_cpu_backup_backend(), "pinned");
  }).join();
  EXPECT_STREQ(Library().tms_get_current_tag(), "weights");
  EXPECT_TRUE(Library().tms_get_interesting_region());
  EXPECT_TRUE(Library().tms_get_enable_cpu_backup());
  EXPECT_FALSE(Library().tms_get_enable_disk_backup());
  EXPECT_STREQ(Library().tms_get_cpu_backup_backend(), "mmap");
  Library().tms_set_cpu_backup_backend("pinned");
  Library().tms_set_retain_cpu_backup(true);
  EXPECT_TRUE(Library().tms_get_retain_cpu_backup());
  Library().tms_set_retain_cpu_backup(false);
  Library().tms_set_current_tag("a,b;c");
  EXPECT_STREQ(Library().tms_get_current_tag(), "a_b_c");
  EXPECT_STREQ(Library().gpuroom_region_tag(), "a_b_c");
  Library().tms_set_enable_disk_backup(true);
  EXPECT_STREQ(Library().gpuroom_region_tag(), "a_b_c (disk)");
  Library().tms_set_interesting_region(false);
  EXPECT_STREQ(Library().gpuroom_region_tag(), "");
}

TEST_F(RegionTest, APauseGivesTheMemoryBackAndAResumeTheContents) {
  const CUdeviceptr kept = MakeIn("weights", true, false, 1);
  const CUdeviceptr lost = MakeIn("kv", false, false, 2);
  const CUdeviceptr outside = Make(3);
  const uint64_t used = Stats().device_used;
  ASSERT_EQ(Library().tms_pause(nullptr), 0);
  EXPECT_EQ(Stats().device_used, used - 2 * kBytes);
  EXPECT_EQ(CountBad(outside, kBytes, 3), 0u);
  ASSERT_EQ(Library().tms_resume(nullptr), 0);
  EXPECT_EQ(Stats().device_used, used);
  EXPECT_EQ(CountBad(kept, kBytes, 1), 0u);
  Fill(lost, kBytes, 4);
  EXPECT_EQ(CountBad(lost, kBytes, 4), 0u);
  for (const CUdeviceptr p : {kept, lost, outside}) Release(p);
}

TEST_F(RegionTest, OneTagAtATimeTwiceAndUnknownOnes) {
  const CUdeviceptr a = MakeIn("a", true, false, 1);
  const CUdeviceptr b = MakeIn("b", true, false, 2);
  const uint64_t used = Stats().device_used;
  EXPECT_EQ(Library().tms_pause("nobody"), 0);
  EXPECT_EQ(Library().tms_resume("nobody"), 0);
  EXPECT_EQ(Library().tms_resume("a"), 0);
  ASSERT_EQ(Library().tms_pause("a"), 0);
  ASSERT_EQ(Library().tms_pause("a"), 0);
  EXPECT_EQ(Stats().device_used, used - kBytes);
  EXPECT_EQ(CountBad(b, kBytes, 2), 0u);
  ASSERT_EQ(Library().tms_resume("a"), 0);
  EXPECT_EQ(CountBad(a, kBytes, 1), 0u);
  Release(a);
  Release(b);
}

TEST_F(RegionTest, MemoryIsFreedWhilePaused) {
  const CUdeviceptr p = MakeIn("a", true, false, 1);
  ASSERT_EQ(Library().tms_pause("a"), 0);
  Release(p);
  EXPECT_EQ(Stats().asleep_bytes, 0u);
  EXPECT_EQ(Library().tms_resume("a"), 0);
}

TEST_F(RegionTest, DevicesThatHaveARegionsMemory) {
  const CUdeviceptr p = MakeIn("a", true, false, 1);
  std::array<int, 2> devices = {-1, -1};
  EXPECT_EQ(Library().tms_affected_devices("a", devices.data(), 2), 1u);
  EXPECT_EQ(devices[0], 0);
  EXPECT_EQ(Library().tms_affected_devices(nullptr, nullptr, 0), 1u);
  EXPECT_EQ(Library().tms_affected_devices("nobody", devices.data(), 2), 0u);
  Release(p);
  EXPECT_EQ(Library().tms_affected_devices("a", devices.data(), 2), 0u);
}

TEST_F(RegionTest, ABackupCanBeReadWhileItsMemoryIsPaused) {
  const CUdeviceptr first = MakeIn("a", true, false, 1);  // leaves a host chunk for the rest to use
  ASSERT_EQ(Library().range_migrate(first, 0, GPUROOM_TIER_HOST), GPUROOM_OK) << Library().last_error();
  const CUdeviceptr second = MakeIn("a", true, false, 2, 10 * kMiB);
  const CUdeviceptr lost = MakeIn("a", false, false, 3);
  const auto pointer = [](CUdeviceptr p) { return reinterpret_cast<const uint8_t*>(p); };  // NOLINT
  EXPECT_EQ(Library().tms_get_cpu_backup_pointer(pointer(first), kBytes), nullptr);
  ASSERT_EQ(Library().tms_pause("a"), 0);
  ExpectCopy(Library().tms_get_cpu_backup_pointer(pointer(first), kBytes), kBytes, 1);
  ExpectCopy(Library().tms_get_cpu_backup_pointer(pointer(second), 10 * kMiB), 10 * kMiB, 2);
  const uint8_t* part = Library().tms_get_cpu_backup_pointer(pointer(second + 8 * kMiB - 8), 16);
  ASSERT_NE(part, nullptr);
  EXPECT_EQ(Library().tms_get_cpu_backup_pointer(pointer(second), 12 * kMiB), nullptr);
  EXPECT_EQ(Library().tms_get_cpu_backup_pointer(pointer(lost), kBytes), nullptr);
  ASSERT_EQ(Library().tms_resume("a"), 0);
  EXPECT_EQ(CountBad(first, kBytes, 1), 0u);
  EXPECT_EQ(CountBad(second, 10 * kMiB, 2), 0u);
  for (const CUdeviceptr p : {first, second, lost}) Release(p);
}

TEST_F(RegionTest, ReadingABackupBreaksNoCapture) {
  const CUdeviceptr kept = MakeIn("a", true, false, 1);
  ASSERT_EQ(Library().range_migrate(kept, 0, GPUROOM_TIER_HOST), GPUROOM_OK);  // leaves a host chunk to use
  ASSERT_EQ(Library().range_migrate(kept, 0, GPUROOM_TIER_DEVICE), GPUROOM_OK);
  ASSERT_EQ(Library().tms_pause("a"), 0);
  const CUdeviceptr other = Make(2);
  CUstream stream = nullptr;
  CUgraph graph = nullptr;
  const uint8_t* copy = nullptr;
  ASSERT_CU(Cu().StreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  ASSERT_CU(Cu().StreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  Fill(other, kBytes, 3, stream);
  const auto read = [&] {
    UseDevice(0);
    copy = Library().tms_get_cpu_backup_pointer(reinterpret_cast<const uint8_t*>(kept), kBytes);  // NOLINT
    EXPECT_NE(copy, nullptr);
  };
  std::thread(read).join();
  read();
  EXPECT_CU(Cu().StreamEndCapture(stream, &graph));
  ExpectCopy(copy, kBytes, 1);
  EXPECT_CU(Cu().GraphDestroy(graph));
  EXPECT_CU(Cu().StreamDestroy(stream));
  ASSERT_EQ(Library().tms_resume("a"), 0);
  for (const CUdeviceptr p : {kept, other}) Release(p);
}

TEST_F(RegionTest, ACopyOfABackupStaysUntilItsMemoryIsResumed) {
  const auto copy = [](CUdeviceptr p, uint64_t bytes) {
    return Library().tms_get_cpu_backup_pointer(reinterpret_cast<const uint8_t*>(p), bytes);  // NOLINT
  };
  const CUdeviceptr p = MakeIn("a", true, false, 1);
  const CUdeviceptr other = MakeIn("a", true, false, 7);
  ASSERT_EQ(Library().tms_pause("a"), 0);
  const uint8_t* whole = copy(p, kBytes);
  EXPECT_NE(copy(p, 16), nullptr);
  ExpectCopy(copy(other, kBytes), kBytes, 7);  // not where the first one is
  ExpectCopy(whole, kBytes, 1);
  EXPECT_EQ(copy(p, kBytes), whole);  // the same, and not one more each time

  const char* tag = "a";
  ASSERT_EQ(Library().wake(&tag, 1, 0, nullptr, 0), GPUROOM_OK);  // not by tms_resume
  Fill(p, kBytes, 2);
  ASSERT_EQ(Library().tms_pause("a"), 0);
  ExpectCopy(copy(p, kBytes), kBytes, 2);
  ASSERT_EQ(Library().tms_resume("a"), 0);
  Release(p);
  Release(other);
}

TEST_F(RegionTest, HostChunksOfEarlierUseCarryBackups) {
  const CUdeviceptr big = MakeIn("a", true, false, 5, 24 * kMiB);
  ASSERT_EQ(Library().range_migrate(big, 0, GPUROOM_TIER_HOST), GPUROOM_OK);
  ASSERT_EQ(Library().range_migrate(big, 0, GPUROOM_TIER_DEVICE), GPUROOM_OK);
  for (int turn = 0; turn < 3; ++turn) {
    const uint64_t kept = Stats().host_kept;  // 0 in runs that keep none
    ASSERT_EQ(Library().tms_pause("a"), 0);
    EXPECT_EQ(Stats().host_kept, kept == 0 ? 0 : kept - 24 * kMiB);
    const auto* pointer = reinterpret_cast<const uint8_t*>(big);  // NOLINT
    ExpectCopy(Library().tms_get_cpu_backup_pointer(pointer, 24 * kMiB), 24 * kMiB, 5);
    ASSERT_EQ(Library().tms_resume("a"), 0);
    EXPECT_EQ(CountBad(big, 24 * kMiB, 5), 0u);
  }
  Release(big);
}

TEST_F(RegionTest, AMarginIsLeftFreeOfRegions) {
  Configure("a", true, true, false);
  Library().set_memory_margin(uint64_t{1} << 40);
  EXPECT_EQ(Library().tms_torch_malloc(kBytes, 0, nullptr), nullptr);
  Configure("a", false, false, false);
  Release(Make(1));  // outside a region it does not count
  Library().set_memory_margin(8 * kMiB);
  Release(MakeIn("a", true, false, 1));
}

TEST_F(DiskRegionTest, ARegionsBackupGoesToDisk) {
  const CUdeviceptr on_disk = MakeIn("a", false, true, 1, 10 * kMiB);
  const CUdeviceptr kept = MakeIn("a", true, false, 2);
  ASSERT_EQ(Library().tms_pause("a"), 0);
  const auto* pointer = reinterpret_cast<const uint8_t*>(on_disk);  // NOLINT
  ExpectCopy(Library().tms_get_cpu_backup_pointer(pointer, 10 * kMiB), 10 * kMiB, 1);
  ASSERT_EQ(Library().tms_resume("a"), 0);
  EXPECT_EQ(CountBad(on_disk, 10 * kMiB, 1), 0u);
  EXPECT_EQ(CountBad(kept, kBytes, 2), 0u);
  Release(on_disk);
  Release(kept);
}

TEST_F(DiskRegionTest, TheFilesAreVisibleWhileMemoryIsPaused) {
  const CUdeviceptr p = MakeIn("a", false, true, 1, 10 * kMiB);
  const CUdeviceptr freed = MakeIn("b", false, true, 2);
  ASSERT_EQ(Library().tms_pause("a"), 0);
  ASSERT_EQ(Library().tms_pause("b"), 0);
  uint64_t bytes = 0;
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    EXPECT_TRUE(entry.is_regular_file()) << entry.path();
    EXPECT_EQ(entry.status().permissions() & std::filesystem::perms::all,
              std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    bytes += entry.file_size();
    ++files;
  }
  EXPECT_EQ(files, 2U);
  EXPECT_GE(bytes, 10 * kMiB + kBytes);
  Release(freed);  // its backup goes with it
  ASSERT_EQ(Library().tms_resume("a"), 0);
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
  EXPECT_EQ(CountBad(p, 10 * kMiB, 1), 0u);
  Release(p);
}

TEST_F(DiskRegionTest, AFolderThatIsNotThereIsAnErrorAndNothingSleeps) {
  const CUdeviceptr p = MakeIn("a", false, true, 1);
  Library().tms_set_disk_backup_dir("/no/such/folder");
  testing::internal::CaptureStderr();
  EXPECT_EQ(Library().tms_pause("a"), -1);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("name an existing one"), std::string::npos) << log;
  EXPECT_EQ(CountBad(p, kBytes, 1), 0u);
  Release(p);
}

// With TMS_INIT_ENABLE, threads that call none of this are in a region.
class RegionAtFirstTest : public RegionTest {};

TEST_F(RegionAtFirstTest, MemoryOfAThreadThatSaysNothingIsPaused) {
  CUdeviceptr p = 0;
  std::thread([&] {
    UseDevice(0);
    p = Make(1);
  }).join();
  ASSERT_EQ(Library().tms_pause("default"), 0);
  EXPECT_EQ(Stats().asleep_bytes, kBytes);
  ASSERT_EQ(Library().tms_resume("default"), 0);
  EXPECT_EQ(CountBad(p, kBytes, 1), 0u);
  Release(p);
}

}  // namespace
}  // namespace gpuroom::shim_test
