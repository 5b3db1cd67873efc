// What cannot be had, read or found: everything stays as it was, and works later.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "sleep/backup_file.h"
#include "sleep_fixture.h"

namespace gpuroom {
namespace {

constexpr Tier kD = Tier::kDevice;
constexpr Tier kH = Tier::kHost;

class SleepFailureTest : public SleepTest {
 protected:
  void MakeTwo() {
    Make(0, {{kD, 4}, {kH, 2}, {kD, 2}});
    Make(1, {{kD, 6}});
  }
  // It failed so, and all is awake and as before.
  void ExpectRefused(const Status& status, Code code, const char* words) {
    EXPECT_EQ(status.code(), code) << status.what();
    EXPECT_NE(std::strstr(status.what(), words), nullptr) << status.what();
    EXPECT_EQ(Chunks(*memories_[0]), "d4 h2 d2 ");
    EXPECT_EQ(host_->in_use().used(), 2 * kMiB);
    EXPECT_EQ(HostClaimed(), 2 * kMiB + host_->kept_bytes());
    ExpectAllRight();
  }
  void ExpectSleepAndWake(SleepAction action) {
    ASSERT_TRUE(Sleep(action).ok());
    ASSERT_TRUE(Wake().ok());
    ExpectAllRight();
  }
};

TEST_F(SleepFailureTest, HostLimitTooSmall) {
  MakeTwo();
  Keep({2});
  const Result<Chunk> taken = host_->Create(kHostLimit - 8 * kMiB);
  ASSERT_TRUE(taken.ok());
  const Status status = Sleep(SleepAction::kKeep);
  ASSERT_TRUE(host_->Release(*taken).ok());
  ExpectRefused(status, Code::kOutOfMemory, "host limit");
  host_->Trim();
  ExpectSleepAndWake(SleepAction::kKeep);
}

TEST_F(SleepFailureTest, NoOrdinaryMemory) {
  MakeTwo();
  System().map = [](void*, size_t, int, int, int, off_t) {
    errno = ENOMEM;
    return MAP_FAILED;
  };
  ExpectRefused(Sleep(SleepAction::kKeep), Code::kOutOfMemory, "free some");
  System() = system_before_;
  ExpectSleepAndWake(SleepAction::kKeep);
}

TEST_F(SleepFailureTest, NoThreads) {
  MakeTwo();
  System().start_thread = [](std::thread*, const std::function<void()>&) { return false; };
  settings_.verify = true;
  ExpectSleepAndWake(SleepAction::kKeep);
  ExpectSleepAndWake(SleepAction::kDisk);
}

TEST_F(SleepFailureTest, NoDirectory) {
  MakeTwo();
  settings_.directory = nullptr;
  ExpectRefused(Sleep(SleepAction::kDisk), Code::kInvalidArgument, "name one");
  const std::string absent = directory_ + "/absent";
  settings_.directory = absent.c_str();
  ExpectRefused(Sleep(SleepAction::kDisk), Code::kInvalidArgument, "existing one");
  settings_.directory = "/dev/null";
  ExpectRefused(Sleep(SleepAction::kDisk), Code::kInvalidArgument, "existing one");
  settings_.directory = directory_.c_str();
  ExpectSleepAndWake(SleepAction::kDisk);
}

TEST_F(SleepFailureTest, DiskFullAtOnce) {
  MakeTwo();
  System().allocate = [](int, int, off_t, off_t) {
    errno = ENOSPC;
    return -1;
  };
  ExpectRefused(Sleep(SleepAction::kDisk), Code::kOutOfMemory, "disk has no room");
}

TEST_F(SleepFailureTest, DiskFullMeanwhile) {
  MakeTwo();
  System().allocate = [](int, int, off_t, off_t) {
    errno = EOPNOTSUPP;
    return -1;
  };
  ExpectSleepAndWake(SleepAction::kDisk);
  static std::atomic<int> left;
  left = 1;
  System().write = [](int fd, const void* data, size_t bytes, off_t offset) {
    if (left-- > 0) return pwrite(fd, data, bytes / 2, offset);
    errno = ENOSPC;
    return ssize_t{-1};
  };
  ExpectRefused(Sleep(SleepAction::kDisk), Code::kOutOfMemory, "disk has no room");
}

TEST_F(SleepFailureTest, ShortReadsAndWritesAndInterruptions) {
  MakeTwo();
  static std::atomic<unsigned> calls;
  System().write = [](int fd, const void* data, size_t bytes, off_t offset) {
    errno = EINTR;
    return ++calls % 3 == 0 ? ssize_t{-1}
                            : pwrite(fd, data, bytes > 8192 ? bytes / 8192 * 4096 : bytes, offset);
  };
  System().read = [](int fd, void* data, size_t bytes, off_t offset) {
    errno = EINTR;
    return ++calls % 3 == 0 ? ssize_t{-1}
                            : pread(fd, data, bytes > 8192 ? bytes / 8192 * 4096 : bytes, offset);
  };
  ExpectSleepAndWake(SleepAction::kDisk);
  EXPECT_GT(calls, 10U);
}

TEST_F(SleepFailureTest, FileSystemsThatCanDoLess) {
  MakeTwo();
  // No files without names, no direct access.
  static std::atomic<int> named;
  named = 0;
  System().open = [](const char* path, int flags, mode_t mode) {
    errno = EOPNOTSUPP;
    if ((flags & O_TMPFILE) == O_TMPFILE) return -1;
    EXPECT_EQ(mode, 0600U);
    ++named;
    return open(path, flags, mode);
  };
  System().set_flags = [](int, int) {
    errno = EINVAL;
    return -1;
  };
  ASSERT_TRUE(Sleep(SleepAction::kDisk).ok());
  EXPECT_EQ(named, 2);                                 // one a device
  EXPECT_TRUE(std::filesystem::is_empty(directory_));  // nothing that a killed process would leave
  ASSERT_TRUE(Wake().ok());
  ExpectAllRight();
}

size_t FilesIn(const std::string& directory) {
  const std::filesystem::directory_iterator files(directory);
  return static_cast<size_t>(std::distance(begin(files), end(files)));
}

TEST_F(SleepFailureTest, FilesThatAreVisibleGoWithTheWake) {
  MakeTwo();
  settings_.visible_files = true;
  // What a process of the same number left is neither used nor removed.
  static std::atomic<int> opened;
  opened = 0;
  System().open = [](const char* path, int flags, mode_t mode) {
    EXPECT_EQ(flags & O_EXCL, O_EXCL);
    EXPECT_EQ(mode, 0600U);
    errno = EEXIST;
    return ++opened % 3 == 1 ? -1 : open(path, flags, mode);
  };
  ASSERT_TRUE(Sleep(SleepAction::kDisk).ok());
  EXPECT_EQ(FilesIn(directory_), 2U);  // one a device
  ASSERT_TRUE(Wake().ok());
  EXPECT_EQ(FilesIn(directory_), 0U);
  ExpectAllRight();
  // A sleep that fails leaves none.
  System().write = [](int, const void*, size_t, off_t) {
    errno = ENOSPC;
    return ssize_t{-1};
  };
  EXPECT_EQ(Sleep(SleepAction::kDisk).code(), Code::kOutOfMemory);
  EXPECT_EQ(FilesIn(directory_), 0U);
  ExpectAllRight();
}

TEST_F(SleepFailureTest, AChildLeavesTheFilesOfItsParent) {
  auto file = BackupFile::Create(directory_.c_str(), 4096, FileName::kVisible);
  ASSERT_TRUE(file.ok());
  const pid_t child = fork();
  if (child == 0) {
    file->reset();
    _exit(0);
  }
  int ended = -1;
  ASSERT_EQ(waitpid(child, &ended, 0), child);
  EXPECT_EQ(ended, 0);
  EXPECT_EQ(FilesIn(directory_), 1U);
  file->reset();
  EXPECT_EQ(FilesIn(directory_), 0U);
}

TEST_F(SleepFailureTest, DirectAccessThatRefusesTheMemory) {
  MakeTwo();
  static std::atomic<bool> direct;
  direct = true;
  System().set_flags = [](int, int flags) {
    direct = flags == O_DIRECT;
    return 0;
  };
  System().write = [](int fd, const void* data, size_t bytes, off_t offset) {
    errno = EINVAL;
    return direct ? ssize_t{-1} : pwrite(fd, data, bytes, offset);
  };
  ExpectSleepAndWake(SleepAction::kDisk);
}

TEST_F(SleepFailureTest, UnreadableFile) {
  MakeTwo();
  ASSERT_TRUE(Sleep(SleepAction::kDisk).ok());
  System().read = [](int, void*, size_t, off_t) {
    errno = EIO;
    return ssize_t{-1};
  };
  Status status = Wake();
  EXPECT_EQ(status.code(), Code::kSystem);
  EXPECT_EQ(status.native(), EIO);
  ExpectAwake(false);
  // A file that somebody cut ends too soon.
  System().read = [](int, void*, size_t, off_t) { return ssize_t{0}; };
  status = Wake();
  EXPECT_EQ(status.code(), Code::kSystem);
  EXPECT_EQ(devices_[0].tier->budget().used() + devices_[1].tier->budget().used(), 0U);
  System() = system_before_;
  ASSERT_TRUE(Wake().ok());
  ExpectAllRight();
}

TEST_F(SleepFailureTest, CorruptedFile) {
  MakeTwo();
  ASSERT_TRUE(Sleep(SleepAction::kDisk).ok());
  System().read = [](int fd, void* data, size_t bytes, off_t offset) {
    const ssize_t got = pread(fd, data, bytes, offset);
    static_cast<char*>(data)[bytes / 3] ^= 1;
    return got;
  };
  const Status status = Wake();
  EXPECT_EQ(status.code(), Code::kSystem);
  EXPECT_NE(std::strstr(status.what(), "checksum"), nullptr);
  ExpectAwake(false);
  System() = system_before_;
  ASSERT_TRUE(Wake().ok());
  ExpectAllRight();
}

TEST_F(SleepFailureTest, HbmFullAtWake) {
  MakeTwo();
  Keep({4});
  for (const SleepAction action : {SleepAction::kKeep, SleepAction::kDisk, SleepAction::kDrop}) {
    for (TestMemory* memory : Everything()) Fill(memory, memory->seed);
    ASSERT_TRUE(Sleep(action).ok());
    // The second device has no room when the first is already filled.
    const Result<Chunk> taken = devices_[1].tier->Create(kDeviceLimit - 4 * kMiB);
    ASSERT_TRUE(taken.ok());
    EXPECT_EQ(Wake().code(), Code::kOutOfMemory);
    ExpectAwake(false);
    EXPECT_EQ(devices_[0].tier->budget().used(), 0U);
    // What fits wakes.
    ASSERT_TRUE(Wake(false, {memories_[0].get()}).ok());
    EXPECT_EQ(Wrong(*memories_[0]) == 0, action != SleepAction::kDrop);
    EXPECT_FALSE(memories_[1]->placed.awake());
    ASSERT_TRUE(devices_[1].tier->Release(*taken).ok());
    ASSERT_TRUE(Wake(false, {memories_[1].get()}).ok());
    if (action != SleepAction::kDrop) ExpectAllRight();
  }
}

TEST_F(SleepFailureTest, AccessThatChangesMeanwhileHoldsAfterTheWake) {
  TestMemory* memory = Make(0, {{kD, 4}});
  memory->placed.windows.front() = {memory->placed.windows.front().va, 1, 0};
  ASSERT_TRUE(Sleep(SleepAction::kKeep).ok());
  memory->placed.windows.front().writers = 3;
  ASSERT_TRUE(Wake().ok());
  ExpectAllRight();
}

TEST_F(SleepFailureTest, UnmappedOrClosedMeanwhile) {
  TestMemory* memory = Make(0, {{kD, 4}, {kH, 2}, {kD, 4}}, 2);
  Keep({2});
  const std::vector<Window> windows = memory->placed.windows;
  for (const bool lazy : {false, true}) {
    // Closed to its own device, and then nowhere.
    for (const std::vector<Window>& now :
         {std::vector<Window>{{windows[0].va, 2, 0}}, std::vector<Window>{}}) {
      memory->placed.windows = windows;
      ASSERT_TRUE(Sleep(SleepAction::kKeep).ok());
      memory->placed.windows = now;
      ASSERT_TRUE(Wake(lazy).ok());
      for (const Window& window : now) ASSERT_EQ(cuMemUnmap(window.va, memory->bytes), CUDA_SUCCESS);
      memory->placed.windows = windows;
      for (const Window& window : windows) {
        uint64_t mapped = 0;
        ASSERT_TRUE(MapChunks(driver_, window.va, memory->placed.chunks, &mapped).ok());
        ASSERT_TRUE(SetAccess(driver_, window.va, mapped, window.writers, window.readers).ok());
      }
      ExpectAllRight();
    }
  }
}

// What the driver does not take back is kept, and given back when it does.
TEST_F(SleepFailureTest, DriverThatGivesNothingBack) {
  MakeTwo();
  Keep({2, 4});
  ASSERT_TRUE(Sleep(SleepAction::kKeep).ok());
  // As another process may hold it: it goes back to the driver.
  Asleep(*memories_[0]).originals[1].chunk.exported = true;
  gpuroom_sim_fail("seed:1:100");
  memories_[0]->placed.asleep.reset();
  EXPECT_GT(ScrapCount(), 0U);
  gpuroom_sim_fail(nullptr);
  memories_[0]->placed.asleep =
      std::make_shared<SleepingMemory>(SleepAction::kDrop, *devices_[0].source, *host_);
  Free(memories_[0].get());
  memories_.erase(memories_.begin());
  ASSERT_TRUE(Wake().ok());  // tries again
  EXPECT_EQ(ScrapCount(), 0U);
  ExpectAllRight();
}

int OpenFiles() {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
    count += entry.exists() ? 1 : 1;
  return count;
}

int Mappings() {
  int lines = 0;
  FILE* maps = std::fopen("/proc/self/maps", "r");
  for (int c = std::fgetc(maps); c != EOF; c = std::fgetc(maps)) lines += c == '\n' ? 1 : 0;
  std::fclose(maps);
  return lines;
}

TEST_F(SleepFailureTest, AThousandTimesLeakNothing) {
  Make(0, {{kD, 2}, {kH, 2}, {kD, 2}});
  Make(1, {{kD, 2}});
  Keep({2});
  int files = 0;
  int mappings = 0;
  int objects = 0;
  for (int round = 0; round < 1000; ++round) {
    settings_.verify = round % 2 == 0;
    const SleepAction action = round % 10 == 0 ? SleepAction::kDisk : SleepAction::kKeep;
    ASSERT_TRUE(Sleep(action).ok());
    ASSERT_TRUE(Wake().ok());
    if (round == 20) {
      files = OpenFiles();
      mappings = Mappings();
      objects = gpuroom_sim_leaks(nullptr, 0);
    }
  }
  EXPECT_EQ(OpenFiles(), files);
  // Threads' stacks and the allocator's arenas come and go; a leak would have a thousand.
  EXPECT_LT(Mappings(), mappings + 100);
  EXPECT_EQ(gpuroom_sim_leaks(nullptr, 0), objects);
  EXPECT_EQ(host_->in_use().used(), 2 * kMiB);
  EXPECT_EQ(host_->kept_bytes(), 2 * kMiB);
  EXPECT_EQ(HostClaimed(), 4 * kMiB);
  ExpectAllRight();
}

}  // namespace
}  // namespace gpuroom
