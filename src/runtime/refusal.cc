#include "runtime/refusal.h"

#include <array>

#include "base/clock.h"
#include "base/fixed_text.h"
#include "base/log.h"
#include "base/trace.h"

namespace gpuroom {
namespace {

constexpr uint64_t kBetweenLines = 1'000'000'000;  // nanoseconds

enum class LimitKind { kAllTogether, kNoHost, kNoneGiven, kHostLimit, kMachine, kHbm, kMargin, kFailure };
constexpr size_t kLimits = static_cast<size_t>(LimitKind::kFailure) + 1;

// Of this process: a child by fork that goes on with a runtime of its own has a parent that was refused
// nothing.
constinit std::array<std::atomic<bool>, kLimits> g_told{};
constinit std::atomic<uint64_t> g_last_line{0};  // of NowNanoseconds()

uint64_t HbmLimit(const DeviceState& device) {
  return device.tier.budget().limited() ? device.tier.budget().limit() : device.hbm;
}

LimitKind LimitOf(const DeviceState& device, RefusedBy by, const Status& why, uint64_t bytes) {
  if (why.code() != Code::kOutOfMemory) return LimitKind::kFailure;
  if (by == RefusedBy::kMargin) return LimitKind::kMargin;
  if (by == RefusedBy::kHbm) return LimitKind::kHbm;
  const uint64_t free = device.source.DeviceFree() + device.source.PeerFree() + device.host.Free();
  if (bytes <= free) return LimitKind::kMachine;
  if (device.host.limit() == 0) return LimitKind::kNoHost;
  if (device.host_limit == 0) return LimitKind::kNoneGiven;
  const bool ever = bytes <= HbmLimit(device) + device.source.PeerLimit() + device.host_limit;
  return ever ? LimitKind::kHostLimit : LimitKind::kAllTogether;
}

// Which limit that is, and what to change.
const char* Sentence(LimitKind limit) {
  switch (limit) {
    case LimitKind::kAllTogether: return "that is more than all of it; raise --host-limit, or ask for less";
    case LimitKind::kNoHost: return "no host memory may be used; raise --host-limit";
    case LimitKind::kNoneGiven: return "the driver gives no host memory here; 'gpuroom doctor' looks into it";
    case LimitKind::kHostLimit:
      return "the node's processes may use no more host memory; raise --host-limit, or end another of them";
    case LimitKind::kMachine:
      return "the limits have room and the machine has not; free host memory, or lower --host-limit to what "
             "there is";
    case LimitKind::kHbm: return "this kind of memory has to lie in HBM; keep more of it free with --reserve";
    case LimitKind::kMargin: return "the program itself wants more left free (set_memory_margin_bytes)";
    case LimitKind::kFailure: break;
  }
  return "a call failed; 'gpuroom doctor' checks this machine";
}

// One thread gets the turn of each limit, if a second has passed since the last line.
bool MayTell(LimitKind limit) {
  std::atomic<bool>& told = g_told[static_cast<size_t>(limit)];
  if (told.load(std::memory_order_relaxed)) return false;
  const uint64_t now = NowNanoseconds();
  uint64_t last = g_last_line.load();
  if (last != 0 && now - last < kBetweenLines) return false;
  return g_last_line.compare_exchange_strong(last, now) && !told.exchange(true);
}

void AddTier(FixedText* text, const char* name, uint64_t free, uint64_t limit) {
  text->Append("%s %s free of %s", name, FormatSize(free).c_str(), FormatSize(limit).c_str());
}

void Tell(const DeviceState& device, LimitKind limit, const Status& why, uint64_t bytes) {
  char place[200];
  FixedText tiers(place, sizeof place);
  AddTier(&tiers, "HBM has", device.source.DeviceFree(), HbmLimit(device));
  if (device.source.PeerLimit() > 0)
    AddTier(&tiers, ", other GPUs", device.source.PeerFree(), device.source.PeerLimit());
  AddTier(&tiers, ", the host", device.host.Free(), device.host_limit);
  Log(LogLevel::kWarn, "GPU %d: %s refused (%s): %s: %s", device.tier.device(), FormatSize(bytes).c_str(),
      why.what(), place, Sentence(limit));
}

}  // namespace

void NoteRefusal(Runtime& rt, const DeviceState& device, RefusedBy by, const Status& why, uint64_t bytes) {
  rt.activity.refusals.Note(why, device.tier.device(), bytes);
  Trace::Add(TraceKind::kRefusal, device.tier.device(), 0, {bytes});
  if (by == RefusedBy::kManagedCap || !LogEnabled(LogLevel::kWarn)) return;
  const LimitKind limit = LimitOf(device, by, why, bytes);
  if (MayTell(limit)) Tell(device, limit, why, bytes);
}

}  // namespace gpuroom
