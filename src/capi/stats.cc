// What gpuroom holds, what it keeps free for small allocations, and giving back what it only caches.
#include <cstdio>
#include <exception>
#include <memory>

#include "capi/answer.h"
#include "capi/pools.h"
#include "capi/sized.h"
#include "runtime/report.h"
#include "runtime/runtime.h"

namespace gpuroom {
namespace {

constexpr char kNoDevice[] = "the driver has no such device; has CUDA started?";

void AddTiers(const DeviceState& device, gpuroom_stats* out) {
  out->device_limit = device.tier.budget().limit();
  out->device_used = device.tier.budget().used();
  out->peer_limit = device.source.PeerLimit();
  out->peer_used = device.source.PeerUsed();
  out->host_limit = device.host_limit;
  out->host_used = device.host.in_use().used();
  out->host_kept = device.host.kept_bytes();
  out->managed_limit = device.managed.cap().bytes;
  out->managed_used = device.managed.budget().used();
  out->allocations = device.counts.allocations.load();
  out->spilled = device.counts.spilled.load();
  out->displaced_bytes = device.counts.displaced.load();
  out->device_total = device.hbm;
  out->device_free = device.source.DeviceFree();
}

void AddPool(const Pool& pool, gpuroom_stats* out) {
  const PoolStats stats = pool.Stats();
  out->pool_allocated = stats.allocated;
  out->pool_reserved = stats.reserved;
  out->pool_peak_allocated = stats.peak_used;
  out->pool_peak_reserved = stats.peak_reserved;
  out->pool_allocations = stats.allocations;
  out->pool_frees = stats.frees;
  out->pool_segments_created = stats.segment_creates;
  out->pool_segments_destroyed = stats.segment_destroys;
  out->pool_out_of_memory = stats.out_of_memory;
}

}  // namespace
}  // namespace gpuroom

using namespace gpuroom;

extern "C" {
#pragma GCC visibility push(default)

int gpuroom_get_stats(int device, gpuroom_stats* out, size_t bytes) try {
  const Entry rt(true);
  ClearError();
  if (out == nullptr) return Answer(Status(Code::kInvalidArgument, "the place for the figures is null"));
  if (!rt) return Answer(Status(Code::kUnsupported, kNotHere));
  const DeviceState* state = rt->Device(device);
  if (state == nullptr) return Answer(Status(Code::kNotFound, kNoDevice));
  gpuroom_stats stats{};
  AddTiers(*state, &stats);
  stats.asleep_bytes = rt->memory.IndexOf(device).asleep_bytes();
  if (const Pool* pool = ExistingPool(device)) AddPool(*pool, &stats);
  Fill(out, bytes, stats);
  return GPUROOM_OK;
} catch (const std::exception& error) {
  return AnswerException(error);
}

size_t gpuroom_report(char* out, size_t bytes) try {
  const Entry rt(true);
  if (!rt) return 0;
  const auto place = std::make_unique<char[]>(kReportBytes);
  FixedText text(place.get(), kReportBytes);
  AddReport(*rt, &text);
  if (out != nullptr && bytes > 0) std::snprintf(out, bytes, "%s", place.get());
  return text.view().size();
} catch (const std::exception& error) {
  AnswerException(error);
  return 0;
}

int gpuroom_set_reserve(int device, uint64_t bytes) try {
  const Entry rt(true);
  ClearError();
  if (!rt) return Answer(Status(Code::kUnsupported, kNotHere));
  DeviceState* state = rt->Device(device);
  if (state == nullptr) return Answer(Status(Code::kNotFound, kNoDevice));
  state->tier.SetReserveLeft(bytes);
  return GPUROOM_OK;
} catch (const std::exception& error) {
  return AnswerException(error);
}

int gpuroom_trim(int device) try {
  ClearError();
  if (Pool* pool = ExistingPool(device)) pool->Trim();  // which enters by itself
  const Entry rt(true);
  if (!rt) return Answer(Status(Code::kUnsupported, kNotHere));
  DeviceState* state = rt->Device(device);
  if (state == nullptr) return Answer(Status(Code::kNotFound, kNoDevice));
  if (const Captures::Quiet quiet(rt->captures); quiet) rt->small_blocks.Trim();
  state->host.Trim();
  return GPUROOM_OK;
} catch (const std::exception& error) {
  return AnswerException(error);
}

#pragma GCC visibility pop
}  // extern "C"
