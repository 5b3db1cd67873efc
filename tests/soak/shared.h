// What the storm's threads share: settings, the injected failures, the tally and the place where they
// hand blocks to each other. Thread-safe but for the settings, which are only read.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "gpuroom/gpuroom.h"
#include "model.h"

namespace gpuroom::soak {

struct Settings {
  uint64_t seed = 1;
  uint64_t operations = 0;  // of all threads together; 0: until the time is up
  double seconds = 0;       // 0: until the operations are done
  uint64_t threads = 1;
  uint64_t devices = 1;   // thread i works on device i % devices
  uint64_t progress = 0;  // print a line every so many operations; 0: never
  bool failures = true;
  bool trace = false;  // say on stderr what becomes of blocks
};

enum class Outcome { kDone, kNoMemory, kBusy, kUnsupported, kFailed, kIdle };
inline constexpr size_t kOutcomes = 6;

// The library's functions by dlsym, as programs find them; null where they are absent.
struct Library {
  decltype(&gpuroom_describe) describe = nullptr;
  decltype(&gpuroom_migrate_batch) migrate_batch = nullptr;
  decltype(&gpuroom_range_migrate) range_migrate = nullptr;
  decltype(&gpuroom_set_hint) set_hint = nullptr;
  decltype(&gpuroom_set_thread_hint) set_thread_hint = nullptr;
  decltype(&gpuroom_last_error) last_error = nullptr;
};
Library FindLibrary();

// Failures of driver calls, for all threads at once. Odd epochs are those with failures.
class Weather {
 public:
  void Begin(const std::string& rules);
  void End();
  uint64_t epoch() const { return epoch_.load(); }
  // Whether a call that began in `epoch` may have met a failure.
  bool MayFail(uint64_t epoch) const { return epoch % 2 == 1 || epoch != epoch_.load(); }

 private:
  std::atomic<uint64_t> epoch_{0};
};

// Blocks on their way from one thread to another, with no work pending on them.
class Mailbox {
 public:
  void Put(std::unique_ptr<Block> block, uint64_t device);
  std::unique_ptr<Block> Take(uint64_t device);  // null: none for this device

 private:
  struct Letter {
    std::unique_ptr<Block> block;
    uint64_t device = 0;
  };
  std::mutex mutex_;
  std::vector<Letter> letters_;
};

class Shared {
 public:
  Shared(const Settings& chosen, size_t operation_kinds);

  // Takes one operation to do; false when it is over.
  bool Next();
  uint64_t done() const { return done_.load(); }
  void Count(size_t operation, Outcome outcome);
  uint64_t Counted(size_t operation, Outcome outcome) const;
  uint64_t Counted(Outcome outcome) const;

  const Settings settings;
  const Library library;
  Weather weather;
  Mailbox mailbox;
  std::atomic<uint64_t> migrated{0};         // bytes, by request
  std::atomic<uint64_t> moved_by_itself{0};  // blocks that were seen elsewhere without a request
  std::atomic<uint64_t> verified{0};         // cells

 private:
  using Counters = std::array<std::atomic<uint64_t>, kOutcomes>;
  std::atomic<uint64_t> begun_{0};
  std::atomic<uint64_t> done_{0};
  const double end_;
  std::vector<Counters> counters_;
};

double Now();  // seconds

}  // namespace gpuroom::soak
