// Legacy IPC handles. The driver gives none for ranges, so between processes that
// both run under gpuroom the handle is ours and the chunks travel as descriptors
// (ipc_wire.h). Handles of the driver's own memory pass through.
#include "base/log.h"
#include "driver/scrap.h"
#include "runtime/ipc_client.h"
#include "runtime/ipc_server.h"
#include "shim/asleep.h"
#include "shim/hooks.h"
#include "shim/real.h"

namespace gpuroom {
namespace {

// The runtime for what must not hold an Entry, since it may wait for another process
// which waits for this one; null where calls pass through.
Runtime* RuntimeWithoutEntry() {
  const Entry entry;
  return entry ? &*entry : nullptr;
}

Result<CUipcMemHandle> Export(Runtime& rt, const RangeInfo& range) {
  if (rt.driver.MemExportToShareableHandle == nullptr ||
      ExportableHandleType(rt.driver, range.device) == CU_MEM_HANDLE_TYPE_NONE) {
    return Status(Code::kUnsupported, "this driver exports no memory");
  }
  return IpcServer::Get(rt).Export(range.va);
}

CUresult GetHandle(Runtime& rt, const RangeInfo& range, CUipcMemHandle* handle) {
  CUcontext context = nullptr;
  rt.driver.CtxGetCurrent(&context);
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const Result<CUipcMemHandle> made = Export(rt, range);
  if (made.ok()) {
    *handle = *made;
    return CUDA_SUCCESS;
  }
  Log(LogLevel::kWarn,
      "cuIpcGetMemHandle on an allocation of %llu MiB fails in %s (%d); those below GPUROOM_RANGE_THRESHOLD "
      "(%llu MiB) have the driver's own handles",
      static_cast<unsigned long long>(range.requested / kMiB), made.status().what(), made.status().native(),
      static_cast<unsigned long long>(rt.options.range_threshold / kMiB));
  return Real().cuIpcGetMemHandle(handle, range.va);
}

// As the driver answers a handle whose memory or process is no more.
CUresult ResultOf(const Status& status) {
  switch (status.code()) {
    case Code::kNotFound:
    case Code::kBusy:
    case Code::kInvalidArgument: return CUDA_ERROR_INVALID_VALUE;
    default: return ToCuResult(status);
  }
}

Status OpenNew(Runtime& rt, const CUipcMemHandle& handle, const IpcTicket& ticket, CUcontext context,
               CUdeviceptr* out) {
  Fetched fetched;
  Status status = FetchRange(rt.driver, handle, ticket, &fetched);
  const Entry entry;
  if (status.ok()) status = MapFetched(rt, &fetched);
  if (!status.ok()) {
    rt.imports.GiveUp(handle, context);
    rt.imports.Discard(std::move(fetched.import));
    return status;
  }
  DeviceState& owner = *rt.ExistingDevice(fetched.import.range->device);
  *out = fetched.import.range->address();
  rt.imports.Publish(handle, context, std::move(fetched.import));
  rt.imports.ranges().With(*out, [&](Range& range) {
    const Status later = owner.builder.CatchUp(range);
    if (!later.ok()) Log(LogLevel::kWarn, "another GPU cannot reach shared memory: %s", later.what());
  });
  return Status();
}

CUresult Open(Runtime& rt, const CUipcMemHandle& handle, const IpcTicket& ticket, CUdeviceptr* out) {
  CUcontext context = nullptr;
  rt.driver.CtxGetCurrent(&context);
  if (context == nullptr || IpcServer::Get(rt).IsOwn(ticket)) return CUDA_ERROR_INVALID_CONTEXT;
  *out = rt.imports.Join(handle, context);
  if (*out != 0) return CUDA_SUCCESS;
  const Status status = OpenNew(rt, handle, ticket, context, out);
  if (status.ok()) return CUDA_SUCCESS;
  Log(LogLevel::kWarn, "memory of process %u cannot be opened: %s (%d)", ticket.pid, status.what(),
      status.native());
  return ResultOf(status);
}

template <typename Native>
CUresult OpenOr(Native native, CUdeviceptr* out, const CUipcMemHandle& handle, unsigned flags) {
  const Result<IpcTicket> ticket = DecodeTicket(handle);
  if (ticket.status().code() == Code::kNotFound) return native(out, handle, flags);
  Runtime* rt = RuntimeWithoutEntry();
  if (rt == nullptr) return native(out, handle, flags);
  if (!ticket.ok()) {
    Log(LogLevel::kWarn, "%s; run both processes under the same one", ticket.status().what());
    return native(out, handle, flags);
  }
  if (out == nullptr || flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS) return CUDA_ERROR_INVALID_VALUE;
  return Open(*rt, handle, *ticket, out);
}

// The last opening of it is closed. Waits for the GPU, as freeing does.
CUresult Close(Runtime& rt, Import import) {
  const Entry entry;
  const CUdeviceptr va = import.range->address();
  const bool capturing = rt.captures.Any();
  if (!capturing) {
    const Status status = rt.imports.Unmap(import);
    if (!status.ok()) {
      rt.imports.Restore(std::move(import));
      return ToCuResult(status);
    }
  }
  rt.imports.Finish(va);
  RetryScrap();
  rt.imports.Discard(std::move(import));
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace gpuroom

namespace gpuroom::hooks {

CUresult cuIpcGetMemHandle(CUipcMemHandle* handle, CUdeviceptr address) {
  Entry rt;
  RangeInfo range;
  bool imported = false;
  const bool ours = rt && rt->FindRange(address, &range, &imported) && !imported;
  if (!ours) return Real().cuIpcGetMemHandle(handle, address);
  if (range.asleep) return RefuseAsleep("cuIpcGetMemHandle");
  RetryScrap();
  return GetHandle(*rt, range, handle);
}

CUresult cuIpcOpenMemHandle(CUdeviceptr* out, CUipcMemHandle handle, unsigned flags) {
  return OpenOr(Real().cuIpcOpenMemHandle, out, handle, flags);
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr* out, CUipcMemHandle handle, unsigned flags) {
  return OpenOr(Real().cuIpcOpenMemHandle_v2, out, handle, flags);
}

CUresult cuIpcCloseMemHandle(CUdeviceptr address) {
  Runtime* rt = RuntimeWithoutEntry();
  Import import;
  if (rt == nullptr || rt->imports.Leave(address, &import).code() == Code::kNotFound) {
    return Real().cuIpcCloseMemHandle(address);
  }
  return import.range == nullptr ? CUDA_SUCCESS : Close(*rt, std::move(import));
}

}  // namespace gpuroom::hooks
