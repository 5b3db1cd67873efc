// Legacy IPC: handles of cuMemAlloc memory that another process opens. The
// handle names the exporter's memory file through /proc, so the exporter has to
// live and belong to the same user; events have no handles.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <map>

#include "alloc.h"
#include "entry.h"
#include "physical.h"
#include "report.h"

namespace gpuroom::sim {
namespace {

constexpr char kMagic[8] = "hrsimip";

struct Ticket {
  char magic[8];
  int32_t process;
  int32_t fd;
  uint64_t offset;
  uint64_t bytes;
  int32_t place;
  int32_t reserved;
};
static_assert(sizeof(Ticket) <= CU_IPC_HANDLE_SIZE);

// What is open in this process: a handle opened again in its context gives the same
// address, and as many closes are due.
struct Opened {
  Ticket ticket;
  CUcontext context;
  int references;
};
std::map<CUdeviceptr, Opened>& OpenedHandles() {
  static auto* opened = new std::map<CUdeviceptr, Opened>;
  return *opened;
}

bool OpenAgain(const Ticket& ticket, CUcontext context, CUdeviceptr* out) {
  for (auto& [address, opened] : OpenedHandles()) {
    if (opened.context != context || std::memcmp(&opened.ticket, &ticket, sizeof ticket) != 0) continue;
    ++opened.references;
    *out = address;
    return true;
  }
  return false;
}

ChunkPtr OpenTicket(const Ticket& ticket) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%d/fd/%d", ticket.process, ticket.fd);
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return nullptr;
  return AdoptPiece(fd, ticket.place, ticket.offset, ticket.bytes);
}

CUresult Open(Guard& guard, CUdeviceptr* out, const CUipcMemHandle& handle) {
  Ticket ticket;
  std::memcpy(&ticket, &handle, sizeof ticket);
  if (out == nullptr || std::memcmp(ticket.magic, kMagic, sizeof kMagic) != 0)
    return CUDA_ERROR_INVALID_VALUE;
  if (ticket.process == getpid()) return CUDA_ERROR_INVALID_CONTEXT;  // not in the exporter itself
  if (OpenAgain(ticket, &guard.context(), out)) return CUDA_SUCCESS;
  Region region;
  region.chunk = OpenTicket(ticket);
  if (region.chunk == nullptr) return CUDA_ERROR_INVALID_VALUE;
  region.start = VaTable::ReserveSpan(ImportedSpan(ticket.bytes), kGranularity, 0);
  if (region.start == 0) return CUDA_ERROR_MAP_FAILED;
  region.bytes = ticket.bytes;
  region.requested = ticket.bytes;
  region.kind = RegionKind::kImported;
  region.data = region.chunk->alias;
  region.device = guard.context().device;
  region.context = &guard.context();
  region.access = DeviceAccess(region.device);
  region.id = guard.state().NextId();
  *out = region.start;
  OpenedHandles()[region.start] = {ticket, &guard.context(), 1};
  guard.state().va.Add(std::move(region));
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace gpuroom::sim

namespace sim = gpuroom::sim;

SIM_API cuIpcGetMemHandle(CUipcMemHandle* handle, CUdeviceptr address) {
  SIM_ENTER(cuIpcGetMemHandle, kContext);
  const auto* region = guard.state().va.Find(address);
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (region == nullptr || region->kind != sim::RegionKind::kAlloc) return sim::behaviour::kIpcRefused;
  sim::Ticket ticket{};
  std::memcpy(ticket.magic, sim::kMagic, sizeof ticket.magic);
  ticket.process = getpid();
  ticket.fd = region->chunk->fd;
  ticket.offset = region->chunk->offset + region->chunk_offset;
  ticket.bytes = region->bytes;
  ticket.place = guard.state().SharedName(region->chunk->place);
  std::memset(handle, 0, sizeof *handle);
  std::memcpy(handle, &ticket, sizeof ticket);
  return CUDA_SUCCESS;
}

SIM_API cuIpcOpenMemHandle(CUdeviceptr* out, CUipcMemHandle handle, unsigned int flags) {
  SIM_ENTER(cuIpcOpenMemHandle, kContext);
  if (flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS) return CUDA_ERROR_INVALID_VALUE;
  return sim::Open(guard, out, handle);
}

SIM_API cuIpcOpenMemHandle_v2(CUdeviceptr* out, CUipcMemHandle handle, unsigned int flags) {
  SIM_ENTER(cuIpcOpenMemHandle, kContext);
  if (flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS) return CUDA_ERROR_INVALID_VALUE;
  return sim::Open(guard, out, handle);
}

SIM_API cuIpcCloseMemHandle(CUdeviceptr address) {
  SIM_ENTER(cuIpcCloseMemHandle, kContext);
  auto& va = guard.state().va;
  const auto* region = va.Find(address);
  if (region == nullptr || region->start != address || region->kind != sim::RegionKind::kImported ||
      region->pool != nullptr) {
    sim::NoteMisuse("cuIpcCloseMemHandle of memory that no handle gave");
    return CUDA_ERROR_INVALID_VALUE;
  }
  const auto opened = sim::OpenedHandles().find(address);
  if (--opened->second.references > 0) return CUDA_SUCCESS;
  sim::OpenedHandles().erase(opened);
  const uint64_t reserved = sim::ImportedSpan(region->bytes);
  va.Remove(address);
  sim::VaTable::FreeSpan(address, reserved);
  return CUDA_SUCCESS;
}

SIM_API cuIpcGetEventHandle(CUipcEventHandle*, CUevent) {
  SIM_ENTER(cuIpcGetEventHandle, kContext);
  return CUDA_ERROR_NOT_SUPPORTED;
}

SIM_API cuIpcOpenEventHandle(CUevent*, CUipcEventHandle) {
  SIM_ENTER(cuIpcOpenEventHandle, kContext);
  return CUDA_ERROR_NOT_SUPPORTED;
}
