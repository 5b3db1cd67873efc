// Every driver call and every system call of a sleep and of a wake fails in turn: all or nothing each
// time, contents right, nothing left behind, and the next try works.
#include <sys/mman.h>

#include <atomic>
#include <cerrno>

#include "sleep_fixture.h"

namespace gpuroom {
namespace {

constexpr Tier kD = Tier::kDevice;
constexpr Tier kP = Tier::kPeer;
constexpr Tier kH = Tier::kHost;

// The call of the system that fails, counted from 1; 0: none.
std::atomic<int> g_calls;
std::atomic<int> g_failing;
std::atomic<int> g_error;
SystemCalls g_real;

bool Fails() {
  if (++g_calls != g_failing) return false;
  errno = g_error;
  return true;
}

SystemCalls Counted() {
  SystemCalls calls;
  calls.map = [](void* address, size_t bytes, int protection, int flags, int fd, off_t offset) {
    return Fails() ? MAP_FAILED : g_real.map(address, bytes, protection, flags, fd, offset);
  };
  calls.unmap = [](void* address, size_t bytes) { return Fails() ? -1 : g_real.unmap(address, bytes); };
  calls.advise = [](void* address, size_t bytes, int advice) {
    return Fails() ? -1 : g_real.advise(address, bytes, advice);
  };
  calls.open = [](const char* path, int flags, mode_t mode) {
    return Fails() ? -1 : g_real.open(path, flags, mode);
  };
  calls.unlink = [](const char* path) { return Fails() ? -1 : g_real.unlink(path); };
  // Linux closes the descriptor whatever it answers.
  calls.close = [](int fd) {
    const int result = g_real.close(fd);
    return Fails() ? -1 : result;
  };
  calls.set_flags = [](int fd, int flags) { return Fails() ? -1 : g_real.set_flags(fd, flags); };
  calls.allocate = [](int fd, int mode, off_t offset, off_t bytes) {
    return Fails() ? -1 : g_real.allocate(fd, mode, offset, bytes);
  };
  calls.write = [](int fd, const void* data, size_t bytes, off_t offset) {
    return Fails() ? -1 : g_real.write(fd, data, bytes, offset);
  };
  calls.read = [](int fd, void* data, size_t bytes, off_t offset) {
    return Fails() ? -1 : g_real.read(fd, data, bytes, offset);
  };
  calls.start_thread = [](std::thread* thread, const std::function<void()>& body) {
    return !Fails() && g_real.start_thread(thread, body);
  };
  return calls;
}

struct Way {
  const char* name;
  SleepAction action;
  bool lazy;
  bool verify;
  std::vector<uint64_t> kept;  // host chunks, MiB
  bool shown = false;          // to the first device, before the sleep
  friend void PrintTo(const Way& way, std::ostream* out) { *out << way.name; }
};

class SleepSweepTest : public SleepTest, public testing::WithParamInterface<Way> {
 protected:
  void SetUp() override {
    SleepTest::SetUp();
    settings_.verify = GetParam().verify;
    Keep(GetParam().kept);
    MakeAll();
    before_ = Everyones();
  }
  void MakeAll() {
    Make(0, {{kD, 2}, {kH, 2}, {kD, 2}}, 2);
    Make(0, {{kP, 2}, {kD, 2}});
    Make(1, {{kD, 2}});
  }
  Status SleepNow() { return Sleep(GetParam().action); }
  Status WakeNow() { return Wake(GetParam().lazy); }
  bool Drops() const { return GetParam().action == SleepAction::kDrop; }

  std::string Everyones() const {
    std::string text;
    for (const auto& memory : memories_) text += Chunks(*memory) + "| ";
    return text;
  }
  // All budgets and driver objects, for the state to be compared with a later one.
  std::string Held() {
    ShowKeptTo(GetParam().shown ? 0 : -1);
    std::string text = std::to_string(gpuroom_sim_leaks(nullptr, 0)) + " " + std::to_string(HostClaimed()) +
                       " " + std::to_string(host_->in_use().used());
    for (const Device& device : devices_) {
      text += " " + std::to_string(device.tier->budget().used()) + " " +
              std::to_string(device.peer->in_use().used());
    }
    return text;
  }
  // Awake; dropped contents are made anew.
  void ExpectWhole() {
    RetryScrap();
    if (Drops()) {
      for (TestMemory* memory : Everything()) Fill(memory, memory->seed + 1);
    }
    ExpectAllRight();
    if (GetParam().lazy) return;
    EXPECT_EQ(Everyones(), before_);
  }
  // After a lazy wake: back as it was made.
  void MoveBack() {
    if (!GetParam().lazy) return;
    for (auto& memory : memories_) Free(memory.get());
    memories_.clear();
    MakeAll();
  }

  // One round where `arm` has something fail during the sleep, or the wake. Returns whether
  // it made a difference.
  template <typename Arm, typename Disarm>
  void Round(bool sleeping, Arm arm, Disarm disarm) {
    const std::string awake = Held();
    if (sleeping) arm();
    Status status = SleepNow();
    if (sleeping) disarm();
    if (!status.ok()) {
      ++refused_;
      EXPECT_NE(*status.what(), 0);
      RetryScrap();
      ExpectAwake(true);
      EXPECT_EQ(Held(), awake);
      ExpectWhole();
      status = SleepNow();
    }
    ASSERT_TRUE(status.ok()) << status.what();
    ExpectAwake(false);
    if (!sleeping) arm();
    status = WakeNow();
    if (!sleeping) disarm();
    if (!status.ok()) {
      ++refused_;
      RetryScrap();
      ExpectAwake(false);
      for (const Device& device : devices_) EXPECT_EQ(device.tier->budget().used(), 0U);
      status = WakeNow();
    }
    ASSERT_TRUE(status.ok()) << status.what();
    ExpectWhole();
    MoveBack();
    EXPECT_EQ(Held(), awake);
  }
  // How often `count` goes up during a sleep, or a wake.
  template <typename Count>
  uint64_t CallsOf(bool sleeping, Count count) {
    const uint64_t start = count();
    EXPECT_TRUE(SleepNow().ok());
    const uint64_t middle = count();
    EXPECT_TRUE(WakeNow().ok());
    const uint64_t calls = sleeping ? middle - start : count() - middle;
    ExpectWhole();
    MoveBack();
    return calls;
  }
  template <typename Count, typename Sweep>
  void EachCall(Count count, Sweep sweep) {
    for (const bool sleeping : {true, false}) {
      const uint64_t calls = CallsOf(sleeping, count);
      ASSERT_GT(calls, 0U);
      for (uint64_t call = 1; call <= calls && !HasFailure(); ++call) {
        SCOPED_TRACE((sleeping ? "sleep, call " : "wake, call ") + std::to_string(call));
        sweep(sleeping, call);
      }
    }
  }

  std::string before_;
  int refused_ = 0;
};

// One error or the other for each call, in turns (tests/CMakeLists.txt).
TEST_P(SleepSweepTest, DriverCalls) {
  const char* const errors[] = {"CUDA_ERROR_OUT_OF_MEMORY", "CUDA_ERROR_UNKNOWN"};
  EachCall([] { return gpuroom_sim_call_count("*"); },
           [&](bool sleeping, uint64_t call) {
             const std::string rule =
                 "*:" + std::to_string(call) + ":" + errors[(call + GPUROOM_SWEEP_TURN) % 2];
             Round(
                 sleeping, [&] { gpuroom_sim_fail(rule.c_str()); }, [] { gpuroom_sim_fail(nullptr); });
           });
  EXPECT_GT(refused_, 9);  // most calls of a sleep, or of a wake, cannot do without
}

TEST_P(SleepSweepTest, DriverCallsAtRandom) {
  for (int seed = 1; seed <= 40 && !HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    const std::string rule = "seed:" + std::to_string(seed) + ":4";
    Round(
        seed % 2 == 0, [&] { gpuroom_sim_fail(rule.c_str()); }, [] { gpuroom_sim_fail(nullptr); });
  }
  EXPECT_GT(refused_, 5);
}

// Those that pass through ordinary memory or a file.
class SystemSweepTest : public SleepSweepTest {};

TEST_P(SystemSweepTest, SystemCalls) {
  g_real = System();
  System() = Counted();
  const int errors[] = {ENOMEM, EIO, ENOSPC, EINVAL, EINTR};
  for (size_t i = 0; i < std::size(errors); ++i) {
    g_error = errors[i];
    g_failing = 0;
    EachCall([] { return static_cast<uint64_t>(g_calls.load()); },
             [&](bool sleeping, uint64_t call) {
               if ((call + i) % 2 != GPUROOM_SWEEP_TURN) return;
               Round(
                   sleeping, [&] { g_failing = g_calls + static_cast<int>(call); }, [] { g_failing = 0; });
             });
  }
}

constexpr SleepAction kKeep = SleepAction::kKeep;
const Way kOrdinary{"OrdinaryMemory", kKeep, false, false, {}};
const Way kVerified{"BothVerified", kKeep, false, true, {4}};
const Way kLazy{"Lazy", kKeep, true, false, {2, 4}};
const Way kDisk{"Disk", SleepAction::kDisk, false, false, {}};

std::string NameOf(const testing::TestParamInfo<Way>& test) { return test.param.name; }

INSTANTIATE_TEST_SUITE_P(Ways, SleepSweepTest,
                         testing::Values(Way{"KeptChunks", kKeep, false, false, {2, 8, 2, 8}},
                                         Way{"ShownChunks", kKeep, false, false, {2, 8, 2, 8}, true},
                                         kOrdinary, kVerified, kLazy, kDisk,
                                         Way{"Drop", SleepAction::kDrop, false, false, {}}),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(Ways, SystemSweepTest, testing::Values(kOrdinary, kVerified, kLazy, kDisk), NameOf);

}  // namespace
}  // namespace gpuroom
