#include "measure/copies.h"

#include <algorithm>

#include "base/clock.h"

namespace gpuroom::measure {
namespace {

constexpr uint64_t kMostCopied = 256 * kMiB;  // each way, in one copy
constexpr int kCopies = 8;                    // in one timing

double SecondsSince(uint64_t start) { return static_cast<double>(NowNanoseconds() - start) / 1e9; }

// A pinned buffer, a device buffer and a stream: one direction of a link.
class Lane {
 public:
  explicit Lane(Session& session) : session_(session), calls_(session.calls()) {}
  ~Lane() {
    if (stream_ != nullptr) session_.driver().StreamDestroy(stream_);
    if (device_ != 0) session_.driver().MemFree(device_);
    if (host_ != nullptr) calls_.MemFreeHost(host_);
  }
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  Status Open(uint64_t bytes) {
    bytes_ = bytes;
    CUresult result = calls_.MemHostAlloc(&host_, bytes, 0);
    if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemHostAlloc");
    result = session_.driver().MemAlloc(&device_, bytes);
    if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemAlloc");
    return DriverStatus(session_.driver().StreamCreate(&stream_, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  }

  Status ToDevice() {
    return DriverStatus(calls_.MemcpyHtoDAsync(device_, host_, bytes_, stream_), "cuMemcpyHtoDAsync");
  }
  Status ToHost() {
    return DriverStatus(calls_.MemcpyDtoHAsync(host_, device_, bytes_, stream_), "cuMemcpyDtoHAsync");
  }
  Status Wait() {
    return DriverStatus(session_.driver().StreamSynchronize(stream_), "a copy of pinned memory");
  }

 private:
  Session& session_;
  const Calls& calls_;
  uint64_t bytes_ = 0;
  void* host_ = nullptr;
  CUdeviceptr device_ = 0;
  CUstream stream_ = nullptr;
};

// Seconds of kCopies copies in each direction asked for.
Result<double> TimeCopies(Lane* to_device, Lane* to_host) {
  Status status;
  const uint64_t start = NowNanoseconds();
  for (int i = 0; i < kCopies && status.ok(); ++i) {
    if (to_device != nullptr) status = to_device->ToDevice();
    if (to_host != nullptr && status.ok()) status = to_host->ToHost();
  }
  if (to_device != nullptr && status.ok()) status = to_device->Wait();
  if (to_host != nullptr && status.ok()) status = to_host->Wait();
  if (!status.ok()) return status;
  return SecondsSince(start);
}

// Raises *speed to the best of `rounds`, after one to warm up.
Status BestCopies(Lane* to_device, Lane* to_host, uint64_t bytes, int rounds, double* speed) {
  for (int i = 0; i <= rounds; ++i) {
    const Result<double> seconds = TimeCopies(to_device, to_host);
    if (!seconds.ok()) return seconds.status();
    if (i > 0) *speed = std::max(*speed, kCopies * static_cast<double>(bytes) / *seconds);
  }
  return Status();
}

}  // namespace

Result<CopySpeeds> MeasureCopies(Session& session, uint64_t most, int rounds) {
  const uint64_t bytes = std::clamp(RoundDown(most / 2, kGranularity), kGranularity, kMostCopied);
  Lane down(session);
  Lane up(session);
  CopySpeeds speeds;
  Status status = down.Open(bytes);
  if (status.ok()) status = up.Open(bytes);
  if (status.ok()) status = BestCopies(&down, nullptr, bytes, rounds, &speeds.host_to_device);
  if (status.ok()) status = BestCopies(nullptr, &up, bytes, rounds, &speeds.device_to_host);
  if (status.ok()) status = BestCopies(&down, &up, 2 * bytes, rounds, &speeds.both);
  if (!status.ok()) return status;
  return speeds;
}

Result<double> MeasureHostCreation(HostTier& host, uint64_t bytes, uint64_t chunk_bytes) {
  std::vector<Chunk> chunks;
  chunks.reserve(bytes / chunk_bytes);
  Status status;
  const uint64_t start = NowNanoseconds();
  while (status.ok() && chunks.size() < bytes / chunk_bytes) {
    const Result<Chunk> chunk = host.Create(chunk_bytes);
    status = chunk.status();
    if (chunk.ok()) chunks.push_back(*chunk);
  }
  const double seconds = SecondsSince(start);
  const double created = static_cast<double>(chunks.size() * chunk_bytes);
  for (const Chunk& chunk : chunks) {
    const Status released = host.Release(chunk);
    if (status.ok()) status = released;
  }
  host.Trim();
  if (!status.ok()) return status;
  return created / seconds;
}

}  // namespace gpuroom::measure
