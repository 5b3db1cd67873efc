// What doctor has to say: facts in groups, and the same as one JSON object (docs/doctor.md
// documents names and fields; tests hold them stable). doctor_text.h prints them for people.
// One thread. Knows nothing of machines.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace gpuroom {

enum class FactStatus { kOk, kWarn, kFail };

const char* StatusName(FactStatus status);  // "ok", "warn", "fail"

struct Fact {
  std::string group;  // "driver", "gpu", "memory", "features", "pool", "container"
  std::string name;   // "gpu0.memory": stable
  FactStatus status = FactStatus::kOk;
  std::string value;              // short: "8.0 GiB"
  std::string meaning;            // whole sentences; may be empty
  std::string fix;                // what to do; empty when there is nothing to do
  std::optional<uint64_t> bytes;  // the value as a number, where it is a size
  std::string
      shared_value{};  // of one GPU's fact: the value without what tells it from others like it; may be empty
};

struct GpuPool {
  int ordinal = 0;
  std::string name;
  uint64_t device_bytes = 0;
  uint64_t host_bytes = 0;
};

// What `gpuroom run` would offer.
struct OfferedPool {
  uint64_t host_bytes = 0;
  uint64_t host_available = 0;
  uint64_t host_reserve = 0;
  std::string limited_by;
  bool egm = false;
  bool estimated = false;
  std::vector<GpuPool> gpus;
};

class DoctorReport {
 public:
  void Add(Fact fact) { facts_.push_back(std::move(fact)); }
  void SetPool(OfferedPool pool) { pool_ = std::move(pool); }
  int Count(FactStatus status) const;
  const std::vector<Fact>& facts() const { return facts_; }
  const OfferedPool& pool() const { return pool_; }

  std::string Summary() const;  // "9 ok, 1 warnings, 0 failures"
  std::string Json() const;

 private:
  std::vector<Fact> facts_;
  OfferedPool pool_;
};

}  // namespace gpuroom
