// What may be called while a stream is being captured, and whether the capture
// survives it: every operation under every mode of capture.
#include <thread>

#include "kernels.h"
#include "probe.h"

namespace gpuroom::conformance {
namespace {

// Everything that an operation may need, made before the capture begins.
struct Case {
  Case(Session& session, unsigned stream_flags)
      : s(session), cu(session.cu()), scope(session), capturing(scope.Stream(stream_flags)) {
    mapped_handle = scope.Create(Place::kDevice);
    scope.Map(va, kChunk, mapped_handle);
    scope.Access(va, kChunk);
    Need(cu.EventRecord(event, other), "cuEventRecord");
    Need(cu.StreamSynchronize(other), "cuStreamSynchronize");
    s.Spin(1, other);  // loads the kernel, which a capture would refuse to do
    Need(cu.CtxSynchronize(), "cuCtxSynchronize");
  }

  Session& s;
  const Cuda& cu;
  Scope scope;
  CUstream capturing;
  CUstream other = scope.Stream();
  CUevent event = scope.Event();  // recorded and complete
  CUdeviceptr memory = scope.Alloc(kChunk);
  CUdeviceptr async_memory = scope.AllocAsync(kChunk, other);
  CUdeviceptr va = scope.Reserve(2 * kChunk);  // its first chunk is mapped, its second is not
  CUmemGenericAllocationHandle mapped_handle = 0;
  CUmemGenericAllocationHandle spare_handle = scope.Create(Place::kDevice);
  void* pinned = scope.Pinned(kChunk);
  std::vector<char> pageable = std::vector<char>(4096);
};

struct Operation {
  const char* name;
  std::function<CUresult(Case&)> call;
};

CUresult AllocAsync(Case& c, CUstream stream) {
  CUdeviceptr p = 0;
  const CUresult result = c.cu.MemAllocAsync(&p, kChunk, stream);
  if (result == CUDA_SUCCESS && stream != c.capturing) c.scope.AtEnd([&c, p] { c.cu.MemFree(p); });
  return result;
}

void AppendMemory(std::vector<Operation>& list) {
  list.push_back({"MemAlloc", [](Case& c) {
                    CUdeviceptr p = 0;
                    const CUresult result = c.cu.MemAlloc(&p, kChunk);
                    if (result == CUDA_SUCCESS) c.scope.AtEnd([&c, p] { c.cu.MemFree(p); });
                    return result;
                  }});
  list.push_back({"MemFree", [](Case& c) { return c.scope.Free(c.memory); }});
  list.push_back({"MemFree_of_async", [](Case& c) { return c.scope.Free(c.async_memory); }});
  list.push_back({"MemAllocAsync_capturing", [](Case& c) { return AllocAsync(c, c.capturing); }});
  list.push_back({"MemAllocAsync_other_stream", [](Case& c) { return AllocAsync(c, c.other); }});
  list.push_back({"MemAllocAsync_and_free_capturing", [](Case& c) {
                    CUdeviceptr p = 0;
                    const CUresult result = c.cu.MemAllocAsync(&p, kChunk, c.capturing);
                    return result == CUDA_SUCCESS ? c.cu.MemFreeAsync(p, c.capturing) : result;
                  }});
  list.push_back({"MemFreeAsync_capturing_not_of_capture",
                  [](Case& c) { return c.cu.MemFreeAsync(c.async_memory, c.capturing); }});
  list.push_back({"MemFreeAsync_capturing_of_cuMemAlloc",
                  [](Case& c) { return c.cu.MemFreeAsync(c.memory, c.capturing); }});
  list.push_back(
      {"MemFreeAsync_capturing_of_vmm", [](Case& c) { return c.cu.MemFreeAsync(c.va, c.capturing); }});
  list.push_back(
      {"MemFreeAsync_other_stream", [](Case& c) { return c.scope.FreeAsync(c.async_memory, c.other); }});
  list.push_back(
      {"MemFreeAsync_other_stream_of_vmm", [](Case& c) { return c.cu.MemFreeAsync(c.va, c.other); }});
  list.push_back({"MemAllocManaged", [](Case& c) {
                    CUdeviceptr p = 0;
                    const CUresult result = c.cu.MemAllocManaged(&p, kMiB, CU_MEM_ATTACH_GLOBAL);
                    if (result == CUDA_SUCCESS) c.scope.AtEnd([&c, p] { c.cu.MemFree(p); });
                    return result;
                  }});
  list.push_back({"MemAllocPitch", [](Case& c) {
                    CUdeviceptr p = 0;
                    size_t pitch = 0;
                    const CUresult result = c.cu.MemAllocPitch(&p, &pitch, 4096, 4, 4);
                    if (result == CUDA_SUCCESS) c.scope.AtEnd([&c, p] { c.cu.MemFree(p); });
                    return result;
                  }});
  list.push_back({"MemHostAlloc", [](Case& c) {
                    void* p = nullptr;
                    const CUresult result = c.cu.MemHostAlloc(&p, kMiB, 0);
                    if (result == CUDA_SUCCESS) c.scope.AtEnd([&c, p] { c.cu.MemFreeHost(p); });
                    return result;
                  }});
  list.push_back({"MemPoolTrimTo", [](Case& c) {
                    CUmemoryPool pool = nullptr;
                    const CUresult result = c.cu.DeviceGetDefaultMemPool(&pool, 0);
                    return result == CUDA_SUCCESS ? c.cu.MemPoolTrimTo(pool, 0) : result;
                  }});
}

void AppendVmm(std::vector<Operation>& list) {
  for (const auto& [name, place] :
       {std::pair{"MemCreate_device", Place::kDevice}, {"MemCreate_node", Place::kNode}}) {
    const Place where = place;
    list.push_back({name, [where](Case& c) {
                      const CUmemAllocationProp prop = c.s.Prop(where);
                      CUmemGenericAllocationHandle handle = 0;
                      const CUresult result = c.cu.MemCreate(&handle, kChunk, &prop, 0);
                      if (result == CUDA_SUCCESS) c.scope.AtEnd([&c, handle] { c.cu.MemRelease(handle); });
                      return result;
                    }});
  }
  list.push_back({"MemAddressReserve", [](Case& c) {
                    CUdeviceptr p = 0;
                    const CUresult result = c.cu.MemAddressReserve(&p, kChunk, 0, 0, 0);
                    if (result == CUDA_SUCCESS) c.scope.AtEnd([&c, p] { c.cu.MemAddressFree(p, kChunk); });
                    return result;
                  }});
  list.push_back({"MemAddressFree", [](Case& c) {
                    // Nothing of it may be mapped; taken apart first, inside the capture.
                    const CUresult result = c.scope.Unmap(c.va, kChunk);
                    return result == CUDA_SUCCESS ? c.scope.AddressFree(c.va, 2 * kChunk) : result;
                  }});
  list.push_back({"MemMap", [](Case& c) {
                    const CUresult result = c.cu.MemMap(c.va + kChunk, kChunk, 0, c.spare_handle, 0);
                    if (result == CUDA_SUCCESS) c.scope.AtEnd([&c] { c.cu.MemUnmap(c.va + kChunk, kChunk); });
                    return result;
                  }});
  list.push_back(
      {"MemSetAccess", [](Case& c) {
         const CUmemAccessDesc access = {c.s.Location(Place::kDevice), CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
         return c.cu.MemSetAccess(c.va, kChunk, &access, 1);
       }});
  list.push_back({"MemUnmap", [](Case& c) { return c.scope.Unmap(c.va, kChunk); }});
  list.push_back({"MemRelease", [](Case& c) { return c.scope.Release(c.spare_handle); }});
  list.push_back({"MemRelease_mapped", [](Case& c) { return c.scope.Release(c.mapped_handle); }});
  list.push_back({"MemRetainAllocationHandle", [](Case& c) {
                    CUmemGenericAllocationHandle handle = 0;
                    const CUresult result =
                        c.cu.MemRetainAllocationHandle(&handle, reinterpret_cast<void*>(c.va));
                    if (result == CUDA_SUCCESS) c.cu.MemRelease(handle);
                    return result;
                  }});
}

void AppendQueries(std::vector<Operation>& list) {
  list.push_back({"MemGetInfo", [](Case& c) {
                    size_t free_bytes = 0;
                    size_t total = 0;
                    return c.cu.MemGetInfo(&free_bytes, &total);
                  }});
  list.push_back({"PointerGetAttribute", [](Case& c) {
                    int type = 0;
                    return c.cu.PointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, c.memory);
                  }});
  list.push_back({"MemGetAddressRange", [](Case& c) {
                    CUdeviceptr base = 0;
                    size_t bytes = 0;
                    return c.cu.MemGetAddressRange(&base, &bytes, c.memory);
                  }});
  list.push_back({"IpcGetMemHandle", [](Case& c) {
                    CUipcMemHandle handle = {};
                    return c.cu.IpcGetMemHandle(&handle, c.memory);
                  }});
  list.push_back({"StreamIsCapturing_capturing", [](Case& c) {
                    CUstreamCaptureStatus status;
                    return c.cu.StreamIsCapturing(c.capturing, &status);
                  }});
  list.push_back({"StreamIsCapturing_other_stream", [](Case& c) {
                    CUstreamCaptureStatus status;
                    return c.cu.StreamIsCapturing(c.other, &status);
                  }});
  list.push_back({"StreamIsCapturing_legacy", [](Case& c) {
                    CUstreamCaptureStatus status;
                    return c.cu.StreamIsCapturing(nullptr, &status);
                  }});
  list.push_back({"StreamGetCtx_capturing", [](Case& c) {
                    CUcontext context = nullptr;
                    return c.cu.StreamGetCtx(c.capturing, &context);
                  }});
  list.push_back({"CtxGetCurrent", [](Case& c) {
                    CUcontext context = nullptr;
                    return c.cu.CtxGetCurrent(&context);
                  }});
  list.push_back({"DeviceTotalMem", [](Case& c) {
                    size_t total = 0;
                    return c.cu.DeviceTotalMem(&total, 0);
                  }});
}

void AppendStreams(std::vector<Operation>& list) {
  list.push_back({"CtxSynchronize", [](Case& c) { return c.cu.CtxSynchronize(); }});
  list.push_back(
      {"StreamSynchronize_capturing", [](Case& c) { return c.cu.StreamSynchronize(c.capturing); }});
  list.push_back({"StreamSynchronize_other_stream", [](Case& c) { return c.cu.StreamSynchronize(c.other); }});
  list.push_back({"StreamSynchronize_legacy", [](Case& c) { return c.cu.StreamSynchronize(nullptr); }});
  list.push_back({"StreamQuery_capturing", [](Case& c) { return c.cu.StreamQuery(c.capturing); }});
  list.push_back({"StreamQuery_other_stream", [](Case& c) { return c.cu.StreamQuery(c.other); }});
  list.push_back({"StreamQuery_legacy", [](Case& c) { return c.cu.StreamQuery(nullptr); }});
  list.push_back({"EventCreate", [](Case& c) {
                    CUevent event = nullptr;
                    const CUresult result = c.cu.EventCreate(&event, CU_EVENT_DISABLE_TIMING);
                    if (result == CUDA_SUCCESS) c.scope.AtEnd([&c, event] { c.cu.EventDestroy(event); });
                    return result;
                  }});
  list.push_back({"EventDestroy", [](Case& c) {
                    CUevent event = nullptr;
                    const CUresult result = c.cu.EventCreate(&event, CU_EVENT_DISABLE_TIMING);
                    return result == CUDA_SUCCESS ? c.cu.EventDestroy(event) : result;
                  }});
  list.push_back({"EventQuery", [](Case& c) { return c.cu.EventQuery(c.event); }});
  list.push_back({"EventSynchronize", [](Case& c) { return c.cu.EventSynchronize(c.event); }});
  list.push_back({"EventRecord_other_stream", [](Case& c) { return c.cu.EventRecord(c.event, c.other); }});
  list.push_back({"EventRecord_capturing", [](Case& c) { return c.cu.EventRecord(c.event, c.capturing); }});
  list.push_back({"EventRecord_legacy", [](Case& c) { return c.cu.EventRecord(c.event, nullptr); }});
  list.push_back({"EventRecord_capturing_then_query", [](Case& c) {
                    const CUresult result = c.cu.EventRecord(c.event, c.capturing);
                    return result == CUDA_SUCCESS ? c.cu.EventQuery(c.event) : result;
                  }});
  list.push_back(
      {"StreamWaitEvent_of_before", [](Case& c) { return c.cu.StreamWaitEvent(c.capturing, c.event, 0); }});
  list.push_back({"StreamCreate", [](Case& c) {
                    CUstream stream = nullptr;
                    const CUresult result = c.cu.StreamCreate(&stream, CU_STREAM_NON_BLOCKING);
                    if (result == CUDA_SUCCESS) c.scope.AtEnd([&c, stream] { c.cu.StreamDestroy(stream); });
                    return result;
                  }});
  list.push_back({"LaunchHostFunc_other_stream", [](Case& c) {
                    return c.cu.LaunchHostFunc(
                        c.other, [](void*) {}, nullptr);
                  }});
}

void AppendWork(std::vector<Operation>& list) {
  list.push_back({"MemcpyHtoD", [](Case& c) { return c.cu.MemcpyHtoD(c.memory, c.pageable.data(), 4096); }});
  list.push_back({"MemcpyDtoH", [](Case& c) { return c.cu.MemcpyDtoH(c.pageable.data(), c.memory, 4096); }});
  list.push_back({"MemcpyDtoD", [](Case& c) { return c.cu.MemcpyDtoD(c.memory, c.va, 4096); }});
  list.push_back({"MemsetD8", [](Case& c) { return c.cu.MemsetD8(c.memory, 0, 4096); }});
  list.push_back(
      {"MemsetD8Async_legacy", [](Case& c) { return c.cu.MemsetD8Async(c.memory, 0, 4096, nullptr); }});
  list.push_back(
      {"MemsetD8Async_other_stream", [](Case& c) { return c.cu.MemsetD8Async(c.memory, 0, 4096, c.other); }});
  list.push_back({"MemsetD8Async_capturing",
                  [](Case& c) { return c.cu.MemsetD8Async(c.memory, 0, 4096, c.capturing); }});
  list.push_back({"MemcpyHtoDAsync_capturing_pinned",
                  [](Case& c) { return c.cu.MemcpyHtoDAsync(c.memory, c.pinned, 4096, c.capturing); }});
  list.push_back({"MemcpyHtoDAsync_capturing_pageable", [](Case& c) {
                    return c.cu.MemcpyHtoDAsync(c.memory, c.pageable.data(), 4096, c.capturing);
                  }});
  list.push_back({"MemcpyHtoDAsync_other_stream",
                  [](Case& c) { return c.cu.MemcpyHtoDAsync(c.memory, c.pinned, 4096, c.other); }});
  list.push_back({"ModuleLoadData", [](Case& c) {
                    CUmodule module = nullptr;
                    const CUresult result = c.cu.ModuleLoadData(&module, samples::KernelsPtx());
                    if (result == CUDA_SUCCESS) c.scope.AtEnd([&c, module] { c.cu.ModuleUnload(module); });
                    return result;
                  }});
}

std::vector<Operation> Operations() {
  std::vector<Operation> list;
  AppendMemory(list);
  AppendVmm(list);
  AppendQueries(list);
  AppendStreams(list);
  AppendWork(list);
  return list;
}

enum class Caller { kSameThread, kOtherThread };
enum class Exchange { kNo, kRelaxed };

struct Mode {
  const char* name;
  CUstreamCaptureMode mode;
  Caller caller = Caller::kSameThread;
  Exchange exchange = Exchange::kNo;
  unsigned stream_flags = CU_STREAM_NON_BLOCKING;
};

constexpr Mode kModes[] = {
    {"global", CU_STREAM_CAPTURE_MODE_GLOBAL},
    {"thread_local", CU_STREAM_CAPTURE_MODE_THREAD_LOCAL},
    {"relaxed", CU_STREAM_CAPTURE_MODE_RELAXED},
    {"global_exchanged", CU_STREAM_CAPTURE_MODE_GLOBAL, Caller::kSameThread, Exchange::kRelaxed},
    {"global_from_another_thread", CU_STREAM_CAPTURE_MODE_GLOBAL, Caller::kOtherThread},
    {"global_exchanged_from_another_thread", CU_STREAM_CAPTURE_MODE_GLOBAL, Caller::kOtherThread,
     Exchange::kRelaxed},
    {"thread_local_from_another_thread", CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, Caller::kOtherThread},
    {"global_blocking_stream", CU_STREAM_CAPTURE_MODE_GLOBAL, Caller::kSameThread, Exchange::kNo,
     CU_STREAM_DEFAULT},
};

CUresult CallAs(const Mode& mode, const Operation& operation, Case& c) {
  if (mode.exchange == Exchange::kNo) return operation.call(c);
  CUstreamCaptureMode exchanged = CU_STREAM_CAPTURE_MODE_RELAXED;
  Need(c.cu.ThreadExchangeStreamCaptureMode(&exchanged), "cuThreadExchangeStreamCaptureMode");
  const CUresult result = operation.call(c);
  Need(c.cu.ThreadExchangeStreamCaptureMode(&exchanged), "cuThreadExchangeStreamCaptureMode back");
  return result;
}

std::string EndCapture(Case& c) {
  CUgraph graph = nullptr;
  const CUresult result = c.cu.StreamEndCapture(c.capturing, &graph);
  if (result != CUDA_SUCCESS) return "capture ends with " + Name(result);
  size_t nodes = 0;
  Need(c.cu.GraphGetNodes(graph, nullptr, &nodes), "cuGraphGetNodes");
  Need(c.cu.GraphDestroy(graph), "cuGraphDestroy");
  return "capture survives with " + std::to_string(nodes) + (nodes == 1 ? " node" : " nodes");
}

std::string Run(Session& s, const Mode& mode, const Operation& operation) {
  Case c(s, mode.stream_flags);
  Need(c.cu.StreamBeginCapture(c.capturing, mode.mode), "cuStreamBeginCapture");
  CUresult result = CUDA_SUCCESS;
  if (mode.caller == Caller::kSameThread) {
    result = CallAs(mode, operation, c);
  } else {
    std::thread caller([&] {
      result = c.cu.CtxSetCurrent(s.context());
      if (result == CUDA_SUCCESS) result = CallAs(mode, operation, c);
    });
    caller.join();
  }
  return Name(result) + ", " + EndCapture(c);
}

void AddExtras(ProbeList& list) {
  const auto add = [&](const char* name, std::function<std::string(Case&)> body) {
    list.push_back({std::string("capture.") + name, [body](Session& s) {
                      Case c(s, CU_STREAM_NON_BLOCKING);
                      return body(c);
                    }});
  };
  const auto begin = [](Case& c) {
    Need(c.cu.StreamBeginCapture(c.capturing, CU_STREAM_CAPTURE_MODE_GLOBAL), "cuStreamBeginCapture");
  };
  add("status_of_streams", [begin](Case& c) {
    begin(c);
    CUstreamCaptureStatus capturing = CU_STREAM_CAPTURE_STATUS_NONE;
    CUstreamCaptureStatus other = CU_STREAM_CAPTURE_STATUS_NONE;
    Need(c.cu.StreamIsCapturing(c.capturing, &capturing), "cuStreamIsCapturing");
    Need(c.cu.StreamIsCapturing(c.other, &other), "cuStreamIsCapturing");
    EndCapture(c);
    return "capturing " + std::to_string(capturing) + ", other " + std::to_string(other);
  });
  add("status_after_refusal", [begin](Case& c) {
    begin(c);
    c.cu.StreamSynchronize(c.capturing);
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    const CUresult result = c.cu.StreamIsCapturing(c.capturing, &status);
    const std::string text = Name(result) + " " + std::to_string(status);
    EndCapture(c);
    return text;
  });
  add("begin_twice", [begin](Case& c) {
    begin(c);
    const CUresult result = c.cu.StreamBeginCapture(c.capturing, CU_STREAM_CAPTURE_MODE_GLOBAL);
    return Name(result) + ", " + EndCapture(c);
  });
  add("begin_on_legacy",
      [](Case& c) { return Name(c.cu.StreamBeginCapture(nullptr, CU_STREAM_CAPTURE_MODE_GLOBAL)); });
  add("end_without_begin", [](Case& c) {
    CUgraph graph = nullptr;
    return Name(c.cu.StreamEndCapture(c.capturing, &graph));
  });
  add("end_on_another_thread", [begin](Case& c) {
    begin(c);
    CUresult result = CUDA_SUCCESS;
    std::thread ender([&] {
      CUgraph graph = nullptr;
      c.cu.CtxSetCurrent(c.s.context());
      result = c.cu.StreamEndCapture(c.capturing, &graph);
    });
    ender.join();
    return Name(result) + ", then " + EndCapture(c);
  });
  add("fork_and_join_through_events", [begin](Case& c) {
    begin(c);
    const CUevent join = c.scope.Event();
    Need(c.cu.EventRecord(c.event, c.capturing), "cuEventRecord");
    Need(c.cu.StreamWaitEvent(c.other, c.event, 0), "cuStreamWaitEvent");
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    Need(c.cu.StreamIsCapturing(c.other, &status), "cuStreamIsCapturing");
    Need(c.cu.MemsetD8Async(c.memory, 0, 4096, c.other), "cuMemsetD8Async");
    Need(c.cu.EventRecord(join, c.other), "cuEventRecord");
    Need(c.cu.StreamWaitEvent(c.capturing, join, 0), "cuStreamWaitEvent");
    return "other stream's status " + std::to_string(status) + ", " + EndCapture(c);
  });
}

}  // namespace

void AddCaptureProbes(ProbeList& list) {
  const std::vector<Operation> operations = Operations();
  for (const Mode& mode : kModes) {
    for (const Operation& operation : operations) {
      list.push_back({std::string("capture.") + mode.name + "." + operation.name,
                      [mode, operation](Session& s) { return Run(s, mode, operation); }});
    }
  }
  AddExtras(list);
}

}  // namespace gpuroom::conformance
