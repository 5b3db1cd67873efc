#include "runtime/ipc_client.h"

#include <algorithm>
#include <cstring>

#include "base/clock.h"

namespace gpuroom {
namespace {

Status Gone() { return Status(Code::kNotFound, "the exporter has freed the memory, or has ended"); }

uint64_t Deadline() { return NowNanoseconds() + kIpcPatience; }

Status ReceiveReply(const IpcSocket& socket, IpcArrival* arrival) {
  IpcReply reply;
  const Result<size_t> length = socket.Receive(&reply, sizeof reply, nullptr, Deadline());
  if (!length.ok()) return length.status();
  return *length == 0 ? Gone() : arrival->TakeReply(&reply, *length);
}

Status ImportOne(const Driver& driver, int fd, Chunk* chunk) {
  const CUresult result =
      driver.MemImportFromShareableHandle(&chunk->handle, reinterpret_cast<void*>(static_cast<intptr_t>(fd)),
                                          CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  return DriverStatus(result, "cuMemImportFromShareableHandle");
}

// One batch, its chunks imported and their descriptors closed again.
Status ReceiveBatch(const Driver& driver, const IpcSocket& socket, IpcArrival* arrival,
                    std::vector<Chunk>* out) {
  const IpcNext next = MakeNext(arrival->next());
  Status status = socket.Send(&next, sizeof next);
  if (!status.ok()) return Gone();
  IpcBatch batch;
  IpcDescriptors descriptors;
  const Result<size_t> length = socket.Receive(&batch, sizeof batch, &descriptors, Deadline());
  if (!length.ok()) return length.status();
  if (*length == 0) return Gone();
  std::vector<Chunk> chunks;
  status = arrival->TakeBatch(&batch, *length, descriptors.count, &chunks);
  for (size_t i = 0; i < chunks.size() && status.ok(); ++i) {
    status = ImportOne(driver, descriptors.fds[i], &chunks[i]);
    if (status.ok()) out->push_back(chunks[i]);
  }
  return status;
}

// The device of that UUID; the current one where this process does not see it.
CUdevice DeviceOf(const Driver& driver, const CUuuid& uuid) {
  CUdevice current = 0;
  driver.CtxGetDevice(&current);
  int count = 0;
  driver.DeviceGetCount(&count);
  for (CUdevice device = 0; device < count; ++device) {
    CUuuid here{};
    if (driver.DeviceGetUuid(&here, device) == CUDA_SUCCESS && std::memcmp(&here, &uuid, sizeof uuid) == 0) {
      return device;
    }
  }
  return current;
}

}  // namespace

Status FetchRange(const Driver& driver, const CUipcMemHandle& handle, const IpcTicket& ticket, Fetched* out) {
  auto& range = *(out->import.range = std::make_unique<Range>());
  if (driver.MemImportFromShareableHandle == nullptr) {
    return Status(Code::kUnsupported, "this driver imports no memory");
  }
  Result<IpcSocket> connection = IpcSocket::Connect(ticket.name, Deadline());
  if (!connection.ok()) return connection.status();
  out->import.socket = std::move(*connection);
  Status status = out->import.socket.Send(&handle, sizeof handle);
  IpcArrival arrival;
  if (status.ok()) status = ReceiveReply(out->import.socket, &arrival);
  while (status.ok() && !arrival.complete()) {
    status = ReceiveBatch(driver, out->import.socket, &arrival, &range.chunks);
  }
  if (!status.ok()) return status;
  range.bytes = arrival.reply().bytes;
  range.requested = arrival.reply().requested;
  range.offset = ticket.offset;
  if (range.requested > range.bytes - std::min(range.bytes, range.offset))
    return Status(Code::kInvalidArgument, "the exporter sent a range that the handle does not fit");
  range.pins = 1;
  out->device = arrival.reply().device;
  return Status();
}

Status MapFetched(Runtime& rt, Fetched* fetched) {
  Range& range = *fetched->import.range;
  CUdevice current = 0;
  CUresult result = rt.driver.CtxGetDevice(&current);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuCtxGetDevice");
  rt.driver.CtxGetCurrent(&range.context);
  range.device = DeviceOf(rt.driver, fetched->device);
  range.CountTiers();
  DeviceState* owner = rt.Device(range.device);
  if (owner == nullptr || rt.CurrentDevice() == nullptr) {
    return Status(Code::kUnsupported, "the device cannot be managed");
  }
  result = rt.driver.MemAddressReserve(&range.va, range.bytes, 0, 0, 0);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemAddressReserve");
  Status status = MapChunks(rt.driver, range.va, range.chunks, &range.mapped);
  if (!status.ok()) return status;
  const uint64_t accessors = owner->builder.Accessors() | uint64_t{1} << current;
  status = SetAccess(rt.driver, range.va, range.mapped, accessors);
  range.windows = {{range.va, accessors, 0}};
  return status;
}

}  // namespace gpuroom
