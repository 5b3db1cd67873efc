#include "measure/managed.h"

#include <algorithm>

namespace gpuroom::measure {
namespace {

constexpr uint64_t kMost = 2 * kGiB;
constexpr uint64_t kLeast = 32 * kMiB;
constexpr uint64_t kPage = 4096;

CUmemLocation At(CUmemLocationType type, int id) {
  CUmemLocation location{};
  location.type = type;
  location.id = id;
  return location;
}

// One allocation, and where its pieces are to lie.
class Managed {
 public:
  Managed(Session& session, uint64_t bytes, uint64_t slow_bytes)
      : session_(session),
        device_(At(CU_MEM_LOCATION_TYPE_DEVICE, session.device())),
        host_(At(CU_MEM_LOCATION_TYPE_HOST, 0)),
        plan_(InterleavedPlan(bytes, slow_bytes, session.device(), {Tier::kHost, 0})) {}
  ~Managed() {
    if (va_ != 0) session_.driver().MemFree(va_);
  }
  Managed(const Managed&) = delete;
  Managed& operator=(const Managed&) = delete;

  Status Allocate(uint64_t bytes) {
    return DriverStatus(session_.driver().MemAllocManaged(&va_, bytes, CU_MEM_ATTACH_GLOBAL),
                        "cuMemAllocManaged");
  }

  // Has every piece stay where it is to lie; the device reads the host's from afar.
  Status Pin() {
    return ForEachPiece([&](CUdeviceptr va, uint64_t bytes, const CUmemLocation& where) {
      const Driver& driver = session_.driver();
      CUresult result = driver.MemAdvise(va, bytes, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, where);
      if (result == CUDA_SUCCESS) {
        result = driver.MemAdvise(va, bytes, CU_MEM_ADVISE_SET_ACCESSED_BY, device_);
      }
      return DriverStatus(result, "cuMemAdvise");
    });
  }

  // Brings every piece there.
  Status Place() {
    const Status status = ForEachPiece([&](CUdeviceptr va, uint64_t bytes, const CUmemLocation& where) {
      return DriverStatus(session_.driver().MemPrefetchAsync(va, bytes, where, 0, session_.stream()),
                          "cuMemPrefetchAsync");
    });
    if (!status.ok()) return status;
    return DriverStatus(session_.driver().StreamSynchronize(session_.stream()), "cuMemPrefetchAsync");
  }

  // Has the CPU write what lies on the host, as it does with data that a program
  // loads: bringing that in costs more than what was only ever prefetched there.
  Status Write() {
    return ForEachPiece([&](CUdeviceptr va, uint64_t bytes, const CUmemLocation& where) {
      if (where.type != host_.type) return Status();
      auto* words = reinterpret_cast<volatile char*>(va);
      for (uint64_t at = 0; at < bytes; at += kPage) words[at] = words[at];
      return Status();
    });
  }

  CUdeviceptr va() const { return va_; }

 private:
  template <typename Use>
  Status ForEachPiece(Use use) {
    CUdeviceptr va = va_;
    for (const Piece& piece : plan_.pieces) {
      const Status status = use(va, piece.bytes, piece.tier == Tier::kHost ? host_ : device_);
      if (!status.ok()) return status;
      va += piece.bytes;
    }
    return Status();
  }

  Session& session_;
  const CUmemLocation device_;
  const CUmemLocation host_;
  const Plan plan_;
  CUdeviceptr va_ = 0;
};

}  // namespace

uint64_t ManagedBytes(Machine& machine, uint64_t bytes) {
  const Gpu& gpu = machine.gpu();
  // Without concurrent access the host may not touch it while a kernel runs, and nothing is migrated.
  const Driver& driver = machine.session().driver();
  const bool able =
      driver.MemAllocManaged != nullptr && driver.MemAdvise != nullptr && driver.MemPrefetchAsync != nullptr;
  if (!able || !gpu.concurrent_managed || gpu.integrated) return 0;
  const uint64_t free = std::min(machine.DeviceFree(), machine.HostFree());
  const uint64_t most = RoundDown(std::min({bytes, kMost, free / 4}), kGranularity);
  return most >= kLeast ? most : 0;
}

Result<Speeds> MeasureManaged(Session& session, ManagedMode mode, uint64_t bytes, uint64_t slow_bytes,
                              int rounds) {
  Managed managed(session, bytes, slow_bytes);
  Status status = managed.Allocate(bytes);
  if (status.ok() && mode == ManagedMode::kDirect) status = managed.Pin();
  if (status.ok()) status = managed.Place();
  if (!status.ok()) return status;
  Target target{managed.va(), bytes, nullptr};
  const auto put_back = [&managed] {
    const Status placed = managed.Place();
    return placed.ok() ? managed.Write() : placed;
  };
  if (mode == ManagedMode::kFault) target.before_each = put_back;
  return session.Measure(target, rounds);
}

}  // namespace gpuroom::measure
