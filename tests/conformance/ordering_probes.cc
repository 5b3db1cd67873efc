// Order between streams, events, host functions and the host; and which calls
// wait for running kernels. Where a check needs a kernel that is still running,
// gpuroom_spin keeps the GPU busy for longer than any call takes that does not wait.
#include <cstring>

#include "contents.h"
#include "kernels.h"
#include "probe.h"

namespace gpuroom::conformance {
namespace {

constexpr uint64_t kSpin = 200'000'000;  // nanoseconds
constexpr uint64_t kShortSpin = 5'000'000;
constexpr uint64_t kWords = kWordsPerChunk;

using Body = std::function<std::string(Session&, Scope&)>;

void Add(ProbeList& list, const std::string& name, Body body) {
  list.push_back({name, [body](Session& s) {
                    Scope scope(s);
                    s.Spin(1, nullptr);  // loads the kernel now rather than in what is observed
                    Need(s.cu().CtxSynchronize(), "cuCtxSynchronize");
                    return body(s, scope);
                  }});
}

void AddOrder(ProbeList& list) {
  Add(list, "ordering.within_a_stream", [](Session& s, Scope& scope) {
    const CUstream stream = scope.Stream();
    const CUdeviceptr p = scope.Alloc(kChunk);
    s.Spin(kShortSpin, stream);
    Need(s.cu().MemsetD8Async(p, 0, kChunk, stream), "cuMemsetD8Async");
    s.Fill(p, kWords, 1, stream);
    Need(s.cu().StreamSynchronize(stream), "cuStreamSynchronize");
    return CheckByKernel(s, p, kWords, 1);
  });
  Add(list, "ordering.event_wait", [](Session& s, Scope& scope) {
    const CUstream first = scope.Stream();
    const CUstream second = scope.Stream();
    const CUevent event = scope.Event();
    const CUdeviceptr p = scope.Alloc(kChunk);
    const CUdeviceptr q = scope.Alloc(kChunk);
    s.Spin(kShortSpin, first);
    s.Fill(p, kWords, 2, first);
    Need(s.cu().EventRecord(event, first), "cuEventRecord");
    Need(s.cu().StreamWaitEvent(second, event, 0), "cuStreamWaitEvent");
    Need(s.cu().MemcpyDtoDAsync(q, p, kChunk, second), "cuMemcpyDtoDAsync");
    Need(s.cu().StreamSynchronize(second), "cuStreamSynchronize");
    return CheckByKernel(s, q, kWords, 2);
  });
  Add(list, "ordering.legacy_waits_for_blocking_stream", [](Session& s, Scope& scope) {
    const CUstream stream = scope.Stream(CU_STREAM_DEFAULT);
    const CUdeviceptr p = scope.Alloc(kChunk);
    const CUdeviceptr q = scope.Alloc(kChunk);
    s.Spin(kShortSpin, stream);
    s.Fill(p, kWords, 3, stream);
    Need(s.cu().MemcpyDtoDAsync(q, p, kChunk, nullptr), "cuMemcpyDtoDAsync");
    Need(s.cu().StreamSynchronize(nullptr), "cuStreamSynchronize");
    return CheckByKernel(s, q, kWords, 3);
  });
  Add(list, "ordering.blocking_stream_waits_for_legacy", [](Session& s, Scope& scope) {
    const CUstream stream = scope.Stream(CU_STREAM_DEFAULT);
    const CUdeviceptr p = scope.Alloc(kChunk);
    const CUdeviceptr q = scope.Alloc(kChunk);
    s.Spin(kShortSpin, nullptr);
    s.Fill(p, kWords, 4, nullptr);
    Need(s.cu().MemcpyDtoDAsync(q, p, kChunk, stream), "cuMemcpyDtoDAsync");
    Need(s.cu().StreamSynchronize(stream), "cuStreamSynchronize");
    return CheckByKernel(s, q, kWords, 4);
  });
  Add(list, "ordering.legacy_does_not_wait_for_non_blocking_stream", [](Session& s, Scope& scope) {
    const CUstream stream = scope.Stream(CU_STREAM_NON_BLOCKING);
    const CUevent event = scope.Event();
    const CUdeviceptr p = scope.Alloc(kChunk);
    s.Spin(kSpin, stream);
    Need(s.cu().EventRecord(event, stream), "cuEventRecord");
    Need(s.cu().MemsetD8Async(p, 0, kChunk, nullptr), "cuMemsetD8Async");
    Need(s.cu().StreamSynchronize(nullptr), "cuStreamSynchronize");
    return Name(s.cu().EventQuery(event));
  });
  Add(list, "ordering.copy_waits_for_same_stream_only", [](Session& s, Scope& scope) {
    const CUstream stream = scope.Stream(CU_STREAM_NON_BLOCKING);
    const CUevent event = scope.Event();
    const CUdeviceptr p = scope.Alloc(kChunk);
    s.Spin(kSpin, stream);
    Need(s.cu().EventRecord(event, stream), "cuEventRecord");
    uint64_t word = 0;
    Need(s.cu().MemcpyDtoH(&word, p, 8), "cuMemcpyDtoH");
    return Name(s.cu().EventQuery(event));
  });
}

void AddEvents(ProbeList& list) {
  Add(list, "event.query_before_record",
      [](Session& s, Scope& scope) { return Name(s.cu().EventQuery(scope.Event())); });
  Add(list, "event.synchronize_before_record",
      [](Session& s, Scope& scope) { return Name(s.cu().EventSynchronize(scope.Event())); });
  Add(list, "event.query_while_kernel_runs", [](Session& s, Scope& scope) {
    const CUstream stream = scope.Stream();
    const CUevent event = scope.Event();
    s.Spin(kSpin, stream);
    Need(s.cu().EventRecord(event, stream), "cuEventRecord");
    return Name(s.cu().EventQuery(event));
  });
  Add(list, "event.stream_query_while_kernel_runs", [](Session& s, Scope& scope) {
    const CUstream stream = scope.Stream();
    s.Spin(kSpin, stream);
    return Name(s.cu().StreamQuery(stream));
  });
  Add(list, "event.query_null", [](Session& s, Scope&) { return Name(s.cu().EventQuery(nullptr)); });
  Add(list, "event.destroy_before_completion_then_stream_completes", [](Session& s, Scope& scope) {
    const CUstream stream = scope.Stream();
    CUevent event = nullptr;
    Need(s.cu().EventCreate(&event, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
    s.Spin(kShortSpin, stream);
    Need(s.cu().EventRecord(event, stream), "cuEventRecord");
    const CUresult destroyed = s.cu().EventDestroy(event);
    return Name(destroyed) + ", " + Name(s.cu().StreamSynchronize(stream));
  });
}

struct HostWork {
  uint64_t* words;
  std::string seen;
};

void AddHost(ProbeList& list) {
  Add(list, "ordering.host_function_sees_earlier_work", [](Session& s, Scope& scope) {
    const CUstream stream = scope.Stream();
    const CUdeviceptr p = scope.Alloc(kChunk);
    HostWork work{static_cast<uint64_t*>(scope.Pinned(kChunk)), ""};
    s.Spin(kShortSpin, stream);
    s.Fill(p, kWords, 5, stream);
    Need(s.cu().MemcpyDtoHAsync(work.words, p, kChunk, stream), "cuMemcpyDtoHAsync");
    Need(s.cu().LaunchHostFunc(
             stream,
             [](void* data) {
               auto* w = static_cast<HostWork*>(data);
               w->seen = CheckHere(w->words, kWords, 5);
             },
             &work),
         "cuLaunchHostFunc");
    Need(s.cu().StreamSynchronize(stream), "cuStreamSynchronize");
    return work.seen;
  });
  Add(list, "ordering.later_work_sees_host_function", [](Session& s, Scope& scope) {
    const CUstream stream = scope.Stream();
    const CUdeviceptr p = scope.Alloc(kChunk);
    auto* words = static_cast<uint64_t*>(scope.Pinned(kChunk));
    std::memset(words, 0, kChunk);
    Need(s.cu().LaunchHostFunc(
             stream,
             [](void* data) {
               const std::vector<uint64_t> pattern = Pattern(kWords, 6);
               std::memcpy(data, pattern.data(), kChunk);
             },
             words),
         "cuLaunchHostFunc");
    Need(s.cu().MemcpyHtoDAsync(p, words, kChunk, stream), "cuMemcpyHtoDAsync");
    Need(s.cu().StreamSynchronize(stream), "cuStreamSynchronize");
    return CheckByKernel(s, p, kWords, 6);
  });
  Add(list, "ordering.host_function_may_not_call_the_driver", [](Session& s, Scope& scope) {
    struct Data {
      Session* s;
      CUresult result;
    } data{&s, CUDA_SUCCESS};
    const CUstream stream = scope.Stream();
    Need(s.cu().LaunchHostFunc(
             stream,
             [](void* p) {
               auto* d = static_cast<Data*>(p);
               size_t free_bytes = 0;
               size_t total = 0;
               d->result = d->s->cu().MemGetInfo(&free_bytes, &total);
             },
             &data),
         "cuLaunchHostFunc");
    Need(s.cu().StreamSynchronize(stream), "cuStreamSynchronize");
    return Name(data.result);
  });
  Add(list, "ordering.source_is_free_after_copy_in", [](Session& s, Scope& scope) {
    const CUdeviceptr p = scope.Alloc(kChunk);
    std::vector<uint64_t> words = Pattern(kWords, 7);
    Need(s.cu().MemcpyHtoD(p, words.data(), kChunk), "cuMemcpyHtoD");
    std::memset(words.data(), 0, kChunk);
    return CheckByKernel(s, p, kWords, 7);
  });
  Add(list, "ordering.pageable_source_is_free_after_async_copy_in", [](Session& s, Scope& scope) {
    const CUstream stream = scope.Stream();
    const CUdeviceptr p = scope.Alloc(kChunk);
    std::vector<uint64_t> words = Pattern(kWords, 8);
    s.Spin(kShortSpin, stream);
    Need(s.cu().MemcpyHtoDAsync(p, words.data(), kChunk, stream), "cuMemcpyHtoDAsync");
    std::memset(words.data(), 0, kChunk);
    Need(s.cu().StreamSynchronize(stream), "cuStreamSynchronize");
    return CheckByKernel(s, p, kWords, 8);
  });
  Add(list, "ordering.pageable_target_is_there_after_async_copy_out", [](Session& s, Scope& scope) {
    const CUstream stream = scope.Stream();
    const CUdeviceptr p = scope.Alloc(kChunk);
    std::vector<uint64_t> words(kWords);
    s.Spin(kShortSpin, stream);
    s.Fill(p, kWords, 9, stream);
    Need(s.cu().MemcpyDtoHAsync(words.data(), p, kChunk, stream), "cuMemcpyDtoHAsync");
    return CheckHere(words.data(), kWords, 9);
  });
}

// Everything that a waiting call may need, made before the kernel starts.
struct Waiting {
  explicit Waiting(Session& session) : s(session), cu(session.cu()), scope(session) {
    scope.Map(va, kChunk, mapped_handle);
    scope.Access(va, kChunk);
  }
  Session& s;
  const Cuda& cu;
  Scope scope;
  CUstream busy = scope.Stream();
  CUstream other = scope.Stream();
  CUevent event = scope.Event();
  CUevent spare_event = scope.Event();
  CUdeviceptr memory = scope.Alloc(64 * kMiB);
  CUdeviceptr small_memory = scope.Alloc(4096);
  CUdeviceptr async_memory = scope.AllocAsync(kChunk, other);
  CUdeviceptr managed = scope.Managed(kMiB);
  CUmemGenericAllocationHandle mapped_handle = scope.Create(Place::kDevice);
  CUmemGenericAllocationHandle spare_handle = scope.Create(Place::kDevice);
  CUmemGenericAllocationHandle spare_host_handle = scope.Create(Place::kNode);
  CUdeviceptr va = scope.Reserve(2 * kChunk);
  CUdeviceptr spare_va = scope.Reserve(kChunk);
};

void AddWait(ProbeList& list, const char* name, std::function<CUresult(Waiting&)> call) {
  list.push_back({std::string("waits.") + name, [call](Session& s) {
                    Waiting w(s);
                    s.Spin(1, w.busy);
                    Need(w.cu.CtxSynchronize(), "cuCtxSynchronize");
                    s.Spin(kSpin, w.busy);
                    Need(w.cu.EventRecord(w.event, w.busy), "cuEventRecord");
                    Need(call(w), "the call");
                    const CUresult after = w.cu.EventQuery(w.event);
                    return std::string(after == CUDA_SUCCESS ? "waits for the running kernel"
                                                             : "returns at once");
                  }});
}

// Does the call return while an unrelated kernel runs on a non-blocking stream?
void AddWaits(ProbeList& list) {
  AddWait(list, "MemAlloc_64MiB", [](Waiting& w) {
    CUdeviceptr p = 0;
    const CUresult result = w.cu.MemAlloc(&p, 64 * kMiB);
    if (result == CUDA_SUCCESS) w.scope.AtEnd([&w, p] { w.cu.MemFree(p); });
    return result;
  });
  AddWait(list, "MemAlloc_4KiB", [](Waiting& w) {
    CUdeviceptr p = 0;
    const CUresult result = w.cu.MemAlloc(&p, 4096);
    if (result == CUDA_SUCCESS) w.scope.AtEnd([&w, p] { w.cu.MemFree(p); });
    return result;
  });
  AddWait(list, "MemFree_64MiB", [](Waiting& w) { return w.scope.Free(w.memory); });
  AddWait(list, "MemFree_4KiB", [](Waiting& w) { return w.scope.Free(w.small_memory); });
  AddWait(list, "MemFree_of_async", [](Waiting& w) { return w.scope.Free(w.async_memory); });
  AddWait(list, "MemFree_of_managed", [](Waiting& w) { return w.scope.Free(w.managed); });
  AddWait(list, "MemFreeAsync_other_stream",
          [](Waiting& w) { return w.scope.FreeAsync(w.async_memory, w.other); });
  AddWait(list, "MemCreate_device", [](Waiting& w) {
    w.scope.Create(Place::kDevice);
    return CUDA_SUCCESS;
  });
  AddWait(list, "MemCreate_node", [](Waiting& w) {
    w.scope.Create(Place::kNode);
    return CUDA_SUCCESS;
  });
  AddWait(list, "MemAddressReserve", [](Waiting& w) {
    w.scope.Reserve(kChunk);
    return CUDA_SUCCESS;
  });
  AddWait(list, "MemAddressFree", [](Waiting& w) { return w.scope.AddressFree(w.spare_va, kChunk); });
  AddWait(list, "MemMap_and_SetAccess_device", [](Waiting& w) {
    w.scope.Map(w.va + kChunk, kChunk, w.spare_handle);
    w.scope.Access(w.va + kChunk, kChunk);
    return CUDA_SUCCESS;
  });
  AddWait(list, "MemMap_and_SetAccess_node", [](Waiting& w) {
    w.scope.Map(w.va + kChunk, kChunk, w.spare_host_handle);
    w.scope.Access(w.va + kChunk, kChunk);
    return CUDA_SUCCESS;
  });
  AddWait(list, "MemUnmap", [](Waiting& w) { return w.scope.Unmap(w.va, kChunk); });
  AddWait(list, "MemUnmap_of_released", [](Waiting& w) {
    const CUresult result = w.scope.Release(w.mapped_handle);
    return result == CUDA_SUCCESS ? w.scope.Unmap(w.va, kChunk) : result;
  });
  AddWait(list, "MemRelease", [](Waiting& w) { return w.scope.Release(w.spare_handle); });
  AddWait(list, "MemHostAlloc_and_FreeHost", [](Waiting& w) {
    void* p = nullptr;
    const CUresult result = w.cu.MemHostAlloc(&p, kMiB, 0);
    return result == CUDA_SUCCESS ? w.cu.MemFreeHost(p) : result;
  });
  AddWait(list, "MemAllocManaged", [](Waiting& w) {
    w.scope.Managed(kMiB);
    return CUDA_SUCCESS;
  });
  AddWait(list, "MemGetInfo", [](Waiting& w) {
    size_t free_bytes = 0;
    size_t total = 0;
    return w.cu.MemGetInfo(&free_bytes, &total);
  });
  AddWait(list, "MemsetD8_of_device_memory", [](Waiting& w) { return w.cu.MemsetD8(w.memory, 0, kChunk); });
  AddWait(list, "StreamSynchronize_other_stream", [](Waiting& w) { return w.cu.StreamSynchronize(w.other); });
  AddWait(list, "StreamSynchronize_legacy", [](Waiting& w) { return w.cu.StreamSynchronize(nullptr); });
  AddWait(list, "EventRecord_and_synchronize_other_stream", [](Waiting& w) {
    const CUresult result = w.cu.EventRecord(w.spare_event, w.other);
    return result == CUDA_SUCCESS ? w.cu.EventSynchronize(w.spare_event) : result;
  });
  AddWait(list, "CtxSynchronize", [](Waiting& w) { return w.cu.CtxSynchronize(); });
  AddWait(list, "ModuleLoadData", [](Waiting& w) {
    CUmodule module = nullptr;
    const CUresult result = w.cu.ModuleLoadData(&module, samples::KernelsPtx());
    if (result == CUDA_SUCCESS) w.scope.AtEnd([&w, module] { w.cu.ModuleUnload(module); });
    return result;
  });
}

}  // namespace

void AddOrderingProbes(ProbeList& list) {
  AddOrder(list);
  AddEvents(list);
  AddHost(list);
  AddWaits(list);
}

}  // namespace gpuroom::conformance
