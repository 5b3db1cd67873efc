// Two GPUs: whose kernels, memsets and copies reach a chunk of device 1, what
// cuMemSetAccess adds later, and what legacy peer access covers. Each probe is
// skipped where there is one GPU.
#include "contents.h"
#include "peer.h"

namespace gpuroom::conformance {
namespace {

using peer::Add;
using peer::AddFaulting;
using peer::Body;
using peer::Case;
using peer::kNode;
using peer::kOwn;
using peer::kPeer;
using peer::kWords;

void AddChunks(ProbeList& list) {
  Add(list, "can_access", [](Case& c) {
    int there = -1;
    int back = -1;
    Need(c.cu().DeviceCanAccessPeer(&there, 0, 1), "cuDeviceCanAccessPeer");
    Need(c.cu().DeviceCanAccessPeer(&back, 1, 0), "cuDeviceCanAccessPeer");
    return std::to_string(there) + ", " + std::to_string(back);
  });
  AddFaulting(list, "kernel_of_0_on_chunk_of_1_access_0", [](Case& c) {
    const CUdeviceptr va = c.With({kPeer}, {kOwn});
    const CUresult result = c.Fill(va, kWords, 1);
    return Name(result) + ", " + c.Out(va, kWords, 1);
  });
  AddFaulting(list, "kernel_of_0_on_chunk_of_1_access_both", [](Case& c) {
    const CUdeviceptr va = c.With({kPeer}, {kOwn, kPeer});
    const CUresult result = c.Fill(va, kWords, 2);
    return Name(result) + ", " + c.Out(va, kWords, 2);
  });
  AddFaulting(list, "kernel_of_1_on_chunk_of_1_access_both", [](Case& c) {
    const CUdeviceptr va = c.With({kPeer}, {kOwn, kPeer});
    const CUresult result = c.second.Fill(va, kWords, 3);
    return Name(result) + ", " + c.Out(va, kWords, 3);
  });
  AddFaulting(list, "kernel_of_0_on_chunk_of_1_access_1",
              [](Case& c) { return Name(c.Fill(c.With({kPeer}, {kPeer}), kWords, 4)); });
  AddFaulting(list, "kernel_of_1_on_chunk_of_1_access_0",
              [](Case& c) { return Name(c.second.Fill(c.With({kPeer}, {kOwn}), kWords, 5)); });
  AddFaulting(list, "kernel_of_1_on_chunk_of_0_access_0",
              [](Case& c) { return Name(c.second.Fill(c.With({kOwn}, {kOwn}), kWords, 6)); });
  AddFaulting(list, "kernel_of_1_on_node_chunk_access_0",
              [](Case& c) { return Name(c.second.Fill(c.With({kNode}, {kOwn}), kWords, 7)); });
  AddFaulting(list, "kernel_of_1_on_node_chunk_access_1", [](Case& c) {
    const CUdeviceptr va = c.With({kNode}, {kPeer});
    const CUresult result = c.second.Fill(va, kWords, 8);
    return Name(result) + ", " + c.second.Do([&] { return c.Out(va, kWords, 8); });
  });
  AddFaulting(list, "memset_by_0_on_chunk_of_1_access_1",
              [](Case& c) { return Name(c.cu().MemsetD8(c.With({kPeer}, {kPeer}), 1, kChunk)); });
  AddFaulting(list, "memset_by_1_on_chunk_of_1_access_0", [](Case& c) {
    const CUdeviceptr va = c.With({kPeer}, {kOwn});
    return c.second.Do([&] { return Name(c.cu().MemsetD8(va, 1, kChunk)); });
  });
  AddFaulting(list, "memset_by_1_on_chunk_of_0_access_0", [](Case& c) {
    const CUdeviceptr va = c.With({kOwn}, {kOwn});
    return c.second.Do([&] { return Name(c.cu().MemsetD8(va, 1, kChunk)); });
  });
  AddFaulting(list, "memset_by_1_on_node_chunk_access_0", [](Case& c) {
    const CUdeviceptr va = c.With({kNode}, {kOwn});
    return c.second.Do([&] { return Name(c.cu().MemsetD8(va, 1, kChunk)); });
  });
  AddFaulting(list, "copy_out_by_0_of_chunk_of_1_access_1", [](Case& c) {
    const CUdeviceptr va = c.With({kPeer}, {kPeer});
    Need(c.second.Fill(va, kWords, 9), "filling");
    return c.Out(va, kWords, 9);
  });
  AddFaulting(list, "copy_out_by_1_of_chunk_of_0_access_0", [](Case& c) {
    const CUdeviceptr va = c.With({kOwn}, {kOwn});
    Need(c.Fill(va, kWords, 10), "filling");
    return c.second.Do([&] { return c.Out(va, kWords, 10); });
  });
  AddFaulting(list, "copy_from_chunk_of_1_access_1_to_alloc_of_0", [](Case& c) {
    const CUdeviceptr va = c.With({kPeer}, {kPeer});
    Need(c.second.Fill(va, kWords, 11), "filling");
    const CUdeviceptr p = c.scope.Alloc(kChunk);
    const CUresult result = c.cu().MemcpyDtoD(p, va, kChunk);
    return Name(result) + ", " + c.Out(p, kWords, 11);
  });
}

// A range with device 0's access whose chunks lie on both GPUs and a host node.
void AddMixedRanges(ProbeList& list) {
  const auto mixed = [&](const char* name, Body body) { AddFaulting(list, name, std::move(body)); };
  static const std::vector<Place> kPlaces = {kOwn, kPeer, kNode, kPeer};
  constexpr uint64_t kAll = 4 * kWords;
  constexpr size_t kBytes = 4 * kChunk;
  mixed("mixed.kernel", [](Case& c) {
    const CUdeviceptr va = c.With(kPlaces, {kOwn});
    const CUresult result = c.Fill(va, kAll, 20);
    return Name(result) + ", " + CheckByKernel(c.s, va, kAll, 20);
  });
  mixed("mixed.memset", [](Case& c) {
    const CUdeviceptr va = c.With(kPlaces, {kOwn});
    const CUresult result = c.cu().MemsetD8(va, 0x21, kBytes);
    return Name(result) + ", " + CheckBytes(c.s, va, kBytes, 0x21);
  });
  mixed("mixed.copy_in", [](Case& c) {
    const CUdeviceptr va = c.With(kPlaces, {kOwn});
    const std::vector<uint64_t> words = Pattern(kAll, 22);
    const CUresult result = c.cu().MemcpyHtoD(va, words.data(), kBytes);
    return Name(result) + ", " + CheckByKernel(c.s, va, kAll, 22);
  });
  mixed("mixed.copy_out", [](Case& c) {
    const CUdeviceptr va = c.With(kPlaces, {kOwn});
    Need(c.Fill(va, kAll, 23), "filling");
    return c.Out(va, kAll, 23);
  });
  mixed("mixed.copy_untyped", [](Case& c) {
    const CUdeviceptr va = c.With(kPlaces, {kOwn});
    Need(c.Fill(va, kAll, 24), "filling");
    const CUdeviceptr p = c.scope.Alloc(kBytes);
    const CUresult result = c.cu().Memcpy(p, va, kBytes);
    return Name(result) + ", " + c.Out(p, kAll, 24);
  });
  mixed("mixed.copy_device_async", [](Case& c) {
    const CUdeviceptr va = c.With(kPlaces, {kOwn});
    const CUdeviceptr p = c.scope.Alloc(kBytes);
    const CUstream stream = c.scope.Stream();
    Need(c.Fill(p, kAll, 25), "filling");
    const CUresult result = c.cu().MemcpyDtoDAsync(va, p, kBytes, stream);
    Need(c.cu().StreamSynchronize(stream), "cuStreamSynchronize");
    return Name(result) + ", " + c.Out(va, kAll, 25);
  });
  // The same access everywhere, for both.
  mixed("mixed.access_both.memset", [](Case& c) {
    return Name(c.cu().MemsetD8(c.With({kOwn, kPeer}, {kOwn, kPeer}), 1, 2 * kChunk));
  });
  mixed("mixed.access_both.copy_out", [](Case& c) {
    const CUdeviceptr va = c.With({kOwn, kPeer}, {kOwn, kPeer});
    Need(c.Fill(va, 2 * kWords, 26), "filling");
    return c.Out(va, 2 * kWords, 26);
  });
  // Device 0 may use both chunks, device 1 only its own: the uniform access rule?
  const auto uneven = [](Case& c) {
    const CUdeviceptr va = c.With({kOwn, kPeer}, {kOwn});
    Need(c.Access(va + kChunk, 1, {kPeer}), "cuMemSetAccess for device 1");
    return va;
  };
  mixed("uneven.memset", [uneven](Case& c) { return Name(c.cu().MemsetD8(uneven(c), 1, 2 * kChunk)); });
  mixed("uneven.copy_out", [uneven](Case& c) {
    const CUdeviceptr va = uneven(c);
    Need(c.Fill(va, 2 * kWords, 27), "filling");
    return c.Out(va, 2 * kWords, 27);
  });
  mixed("uneven.copy_device", [uneven](Case& c) {
    return Name(c.cu().MemcpyDtoD(c.scope.Alloc(2 * kChunk), uneven(c), 2 * kChunk));
  });
  mixed("uneven.kernel", [uneven](Case& c) { return Name(c.Fill(uneven(c), 2 * kWords, 28)); });
}

void AddLaterAccess(ProbeList& list) {
  const auto later = [&](const char* name, std::vector<Place> places) {
    AddFaulting(list, name, [places](Case& c) {
      const uint64_t words = places.size() * kWords;
      const CUdeviceptr va = c.With(places, {kOwn});
      Need(c.Fill(va, words, 30), "filling");
      const CUresult result = c.Access(va, places.size(), {kPeer});
      const CUmemLocation first = c.s.Location(kOwn);
      unsigned long long flags = 99;
      const CUresult read = c.cu().MemGetAccess(&flags, &first, va);
      const std::string before = c.Out(va, words, 30);
      const CUresult filled = c.second.Fill(va, words, 31);
      return Name(result) + ", device 0 still " + Name(read) + " " + std::to_string(flags) + ", contents " +
             before + ", kernel of 1 " + Name(filled) + ", " + c.Out(va, words, 31);
    });
  };
  later("later_access.one_chunk", {kOwn});
  later("later_access.device_chunks", {kOwn, kOwn, kOwn});
  later("later_access.device_and_host_chunks", {kOwn, kNode, kOwn, kNode});
  later("later_access.three_tiers", {kOwn, kPeer, kNode});
  AddFaulting(list, "one_call_for_both_over_device_and_host_chunks", [](Case& c) {
    const CUdeviceptr va = c.Bare({kOwn, kNode, kPeer, kNode});
    const CUresult result = c.Access(va, 4, {kOwn, kPeer});
    const CUresult filled = c.second.Fill(va, 4 * kWords, 32);
    return Name(result) + ", kernel of 1 " + Name(filled) + ", " + c.Out(va, 4 * kWords, 32);
  });
  AddFaulting(list, "later_access.while_a_kernel_runs", [](Case& c) {
    const CUdeviceptr va = c.With({kOwn, kNode}, {kOwn});
    const CUevent event = c.scope.Event();
    const CUstream stream = c.scope.Stream();
    c.s.Spin(1, stream);
    Need(c.cu().CtxSynchronize(), "cuCtxSynchronize");
    c.s.Spin(200'000'000, stream);
    Need(c.cu().EventRecord(event, stream), "cuEventRecord");
    const CUresult result = c.Access(va, 2, {kPeer});
    return Name(result) + ", kernel " + Name(c.cu().EventQuery(event));
  });
}

}  // namespace

void AddPeerProbes(ProbeList& list) {
  AddChunks(list);
  AddMixedRanges(list);
  AddLaterAccess(list);
}

}  // namespace gpuroom::conformance
