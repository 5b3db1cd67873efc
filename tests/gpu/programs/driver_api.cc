// A driver-API program that knows nothing of gpuroom: takes more device memory
// than the GPU is said to have, uses all of it in the ways programs do, and
// checks every word. Prints one JSON line; status 1 when a check fails.
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>

#include "driver_program.h"

namespace gpuroom::bench {
namespace {

constexpr uint64_t kTolerance = uint64_t{16} << 20;

class DriverApiTest {
 public:
  DriverApiTest(Program& program, Report& report, uint64_t piece_bytes, uint64_t piece_count)
      : program_(program),
        api_(program.api()),
        report_(report),
        piece_bytes_(piece_bytes),
        pieces_(piece_count) {}

  void Run(uint64_t expected_total) {
    GPUROOM_CHECK(api_.MemAlloc(&scratch_, 4096));
    VisibleMemory(expected_total);
    uint64_t free_before = FreeBytes();
    AllocateAll();
    EveryPieceKeepsItsWords();
    Placement(expected_total != 0);
    Attributes();
    Copies();
    Capture();
    TooLarge(expected_total);
    AsyncAllocation();
    for (CUdeviceptr piece : pieces_) GPUROOM_CHECK(api_.MemFree(piece));
    uint64_t free_after = FreeBytes();
    // Graphs and modules may keep a little; a lost piece would be more.
    report_.Check(
        "memory_back", free_after + kTolerance >= free_before,
        std::to_string(free_before) + " bytes free before, " + std::to_string(free_after) + " after");
  }

 private:
  // Says in the figures what this driver (the simulated one) lacks and is left out.
  bool Has(const std::string& name, bool present) {
    report_.Figure("has_" + name, present);
    return present;
  }

  uint64_t FreeBytes() {
    size_t free_bytes = 0, total = 0;
    GPUROOM_CHECK(api_.MemGetInfo(&free_bytes, &total));
    return free_bytes;
  }

  void VisibleMemory(uint64_t expected_total) {
    size_t free_bytes = 0, info_total = 0, device_total = 0;
    GPUROOM_CHECK(api_.MemGetInfo(&free_bytes, &info_total));
    GPUROOM_CHECK(api_.DeviceTotalMem(&device_total, program_.device()));
    report_.Figure("total_bytes", static_cast<double>(info_total));
    report_.Check(
        "totals_agree", info_total == device_total,
        "cuMemGetInfo " + std::to_string(info_total) + ", cuDeviceTotalMem " + std::to_string(device_total));
    if (expected_total != 0) {
      report_.Check("total", info_total == expected_total,
                    std::to_string(info_total) + " bytes, expected " + std::to_string(expected_total));
    }
  }

  void AllocateAll() {
    for (size_t i = 0; i < pieces_.size(); ++i) {
      GPUROOM_CHECK(api_.MemAlloc(&pieces_[i], piece_bytes_));
      program_.Fill(pieces_[i], piece_bytes_, Seed(i), program_.stream());
    }
  }

  static uint64_t Seed(size_t piece) { return 0x1000000000000 * (piece + 1); }

  // Words of the piece that differ from what Fill wrote.
  uint64_t Bad(CUdeviceptr address, uint64_t bytes, uint64_t seed) {
    GPUROOM_CHECK(api_.MemsetD32Async(scratch_, 0, 2, program_.stream()));
    program_.Verify(address, bytes, seed, scratch_, program_.stream());
    return program_.ReadWord(scratch_);
  }

  void EveryPieceKeepsItsWords() {
    uint64_t bad = 0;
    for (size_t i = 0; i < pieces_.size(); ++i) bad += Bad(pieces_[i], piece_bytes_, Seed(i));
    report_.Check("values", bad == 0, std::to_string(bad) + " wrong words");
  }

  void Placement(bool expect_spilled) {
    if (!HasGpuroom()) return;
    int64_t host_bytes = 0;
    for (CUdeviceptr piece : pieces_) host_bytes += HostBytes(piece) > 0 ? HostBytes(piece) : 0;
    report_.Figure("host_bytes", static_cast<double>(host_bytes));
    if (expect_spilled) report_.Check("some_spilled", host_bytes > 0, "no piece lies in host memory");
  }

  // Spilled or not, a piece is device memory with the base and size asked for.
  void Attributes() {
    int wrong_type = 0, wrong_range = 0, wrong_device = 0;
    for (CUdeviceptr piece : pieces_) {
      CUmemorytype type = {};
      int ordinal = -1;
      CUdeviceptr base = 0, inside = piece + piece_bytes_ - 8;
      size_t size = 0;
      GPUROOM_CHECK(api_.PointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, inside));
      GPUROOM_CHECK(api_.PointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, inside));
      GPUROOM_CHECK(api_.MemGetAddressRange(&base, &size, inside));
      wrong_type += type != CU_MEMORYTYPE_DEVICE;
      wrong_device += ordinal != program_.device();
      wrong_range += base != piece || size != piece_bytes_;
    }
    report_.Check("memory_type", wrong_type == 0,
                  std::to_string(wrong_type) + " pieces are not device memory");
    report_.Check("ordinal", wrong_device == 0, std::to_string(wrong_device) + " pieces name another device");
    report_.Check("address_range", wrong_range == 0,
                  std::to_string(wrong_range) + " pieces report another base or size");
  }

  // Device to device (first piece over last), to the host and back, at an odd offset.
  void Copies() {
    CUdeviceptr from = pieces_.front(), to = pieces_.back();
    GPUROOM_CHECK(api_.MemcpyDtoDAsync(to, from, piece_bytes_, program_.stream()));
    report_.Check("copy_device_to_device", Bad(to, piece_bytes_, Seed(0)) == 0, "wrong words after the copy");
    program_.Fill(to, piece_bytes_, Seed(pieces_.size() - 1), program_.stream());
    GPUROOM_CHECK(api_.StreamSynchronize(program_.stream()));

    std::vector<uint64_t> words((uint64_t{5} << 20) / sizeof(uint64_t) + 1);
    uint64_t bytes = words.size() * sizeof(uint64_t), first = 12345;
    GPUROOM_CHECK(api_.MemcpyDtoH(words.data(), to + first * sizeof(uint64_t), bytes));
    uint64_t bad = 0;
    for (uint64_t i = 0; i < words.size(); ++i) bad += words[i] != Mix(Seed(pieces_.size() - 1) + first + i);
    report_.Check("copy_to_host", bad == 0, std::to_string(bad) + " wrong words");
    for (uint64_t i = 0; i < words.size(); ++i) words[i] = Mix(99 + i);
    GPUROOM_CHECK(api_.MemcpyHtoD(to + first * sizeof(uint64_t), words.data(), bytes));
    report_.Check("copy_from_host", Bad(to + first * sizeof(uint64_t), bytes, 99) == 0, "wrong words");
  }

  // Fill and memset captured in a graph on the piece allocated last.
  void Capture() {
    if (!Has("graphs", api_.GraphInstantiate != nullptr && api_.GraphLaunch != nullptr)) return;
    CUdeviceptr piece = pieces_.back();
    CUgraph graph = nullptr;
    CUgraphExec exec = nullptr;
    GPUROOM_CHECK(api_.StreamBeginCapture(program_.stream(), CU_STREAM_CAPTURE_MODE_GLOBAL));
    program_.Fill(piece, piece_bytes_, 4711, program_.stream());
    GPUROOM_CHECK(api_.StreamEndCapture(program_.stream(), &graph));
    GPUROOM_CHECK(api_.GraphInstantiate(&exec, graph, 0));
    GPUROOM_CHECK(api_.GraphLaunch(exec, program_.stream()));
    report_.Check("graph", Bad(piece, piece_bytes_, 4711) == 0, "wrong words after the replay");
  }

  void TooLarge(uint64_t expected_total) {
    CUdeviceptr pointer = 0;
    CUresult result = api_.MemAlloc(&pointer, expected_total != 0 ? 2 * expected_total : uint64_t{1} << 46);
    report_.Check("too_large", result == CUDA_ERROR_OUT_OF_MEMORY,
                  "result " + std::to_string(static_cast<int>(result)));
    GPUROOM_CHECK(api_.MemAlloc(&pointer, 1 << 20));
    GPUROOM_CHECK(api_.MemFree(pointer));
  }

  // A large stream-ordered allocation while the device is already over-full.
  void AsyncAllocation() {
    if (!Has("async", api_.MemAllocAsync != nullptr && api_.MemFreeAsync != nullptr)) return;
    CUdeviceptr pointer = 0;
    GPUROOM_CHECK(api_.MemAllocAsync(&pointer, piece_bytes_, program_.stream()));
    program_.Fill(pointer, piece_bytes_, 31337, program_.stream());
    bool right = Bad(pointer, piece_bytes_, 31337) == 0;
    GPUROOM_CHECK(api_.MemFreeAsync(pointer, program_.stream()));
    GPUROOM_CHECK(api_.StreamSynchronize(program_.stream()));
    report_.Check("async_allocation", right, "wrong words");
  }

  Program& program_;
  const Api& api_;
  Report& report_;
  uint64_t piece_bytes_;
  std::vector<CUdeviceptr> pieces_;
  CUdeviceptr scratch_ = 0;
};

}  // namespace
}  // namespace gpuroom::bench

int main(int argc, char** argv) {
  using namespace gpuroom::bench;
  Options options(argc, argv, {"piece", "pieces", "expect-total", "device", "lookup"});
  Program program(options.LookupKind(), static_cast<int>(options.Number("device", 0)));
  program.LoadKernels();
  Report report("driver_api");
  DriverApiTest(program, report, options.Bytes("piece", uint64_t{64} << 20), options.Number("pieces", 4))
      .Run(options.Bytes("expect-total", 0));
  return report.Finish();
}
