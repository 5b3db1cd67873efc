#include "sim_device.h"

#include <algorithm>

#include "gpuroom_sim.h"

namespace gpuroom {
namespace {

constexpr uint64_t kEnd = 2048;  // of a block's two ends, as far as they do not meet

void Launch(CUfunction function, CUstream stream, std::vector<uint64_t> arguments) {
  void* pointers[4] = {};
  for (size_t i = 0; i < arguments.size(); ++i) pointers[i] = &arguments[i];
  ASSERT_EQ(cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, stream, pointers, nullptr), CUDA_SUCCESS);
}

// Calls `piece(address, words)` for the whole words at both ends.
template <typename Piece>
void EachEnd(CUdeviceptr va, uint64_t bytes, Piece piece) {
  const uint64_t words = bytes / 8;
  const uint64_t head = std::min(words, kEnd / 8);
  if (head == 0) return;
  piece(va, head);
  const uint64_t tail = std::min(words - head, kEnd / 8);
  if (tail != 0) piece(va + (words - tail) * 8, tail);
}

}  // namespace

bool SimSource::MadeToFail() {
  const unsigned every = fail_one_in.load();
  return every != 0 && ++calls_ % every == 0;
}

void SimSource::SetRoom(uint64_t resident, uint64_t spill) {
  const std::lock_guard lock(mutex_);
  room_[0] = resident;
  room_[1] = spill;
}

size_t SimSource::live() {
  const std::lock_guard lock(mutex_);
  return live_.size();
}

Result<CUdeviceptr> SimSource::Map(uint64_t bytes, CUmemLocationType where) {
  CUmemAllocationProp prop = {};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location.type = where;
  CUmemGenericAllocationHandle handle = 0;
  CUresult result = cuMemCreate(&handle, bytes, &prop, 0);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemCreate");
  CUdeviceptr va = 0;
  result = cuMemAddressReserve(&va, bytes, 0, 0, 0);
  if (result == CUDA_SUCCESS) result = cuMemMap(va, bytes, 0, handle, 0);
  CUmemAccessDesc access = {{CU_MEM_LOCATION_TYPE_DEVICE, {0}}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  if (result == CUDA_SUCCESS) result = cuMemSetAccess(va, bytes, &access, 1);
  EXPECT_EQ(cuMemRelease(handle), CUDA_SUCCESS);
  if (result == CUDA_SUCCESS) return va;
  return DriverStatus(result, "mapping a segment");
}

Result<CUdeviceptr> SimSource::Create(uint64_t bytes, CUstream, Where where) {
  if (MadeToFail()) return Status(Code::kDriver, "made to fail", 999);
  const std::lock_guard lock(mutex_);
  const bool spilled = bytes > room_[0];
  if (spilled && (where == Where::kResident || bytes > room_[1])) {
    return Status(Code::kOutOfMemory, "the test's room is used up");
  }
  Result<CUdeviceptr> va = Map(bytes, spilled ? CU_MEM_LOCATION_TYPE_HOST_NUMA : CU_MEM_LOCATION_TYPE_DEVICE);
  if (!va.ok()) return va;
  room_[spilled ? 1 : 0] -= bytes;
  live_[*va] = {bytes, spilled};
  return va;
}

Status SimSource::Destroy(CUdeviceptr va) {
  if (MadeToFail()) return {Code::kDriver, "made to fail", 999};
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(va);
  if (found == live_.end()) return {Code::kNotFound, "no such segment"};
  EXPECT_EQ(cuMemUnmap(va, found->second.bytes), CUDA_SUCCESS);
  EXPECT_EQ(cuMemAddressFree(va, found->second.bytes), CUDA_SUCCESS);
  room_[found->second.spilled ? 1 : 0] += found->second.bytes;
  live_.erase(found);
  return {};
}

void SimDeviceTest::SetUp() {
  Result<Driver> driver = BindDriver();
  ASSERT_TRUE(driver.ok()) << driver.status().what();
  driver_ = *driver;
  ASSERT_EQ(cuInit(0), CUDA_SUCCESS);
  ASSERT_EQ(cuDevicePrimaryCtxRetain(&context_, 0), CUDA_SUCCESS);
  Enter();
  CUmodule module = nullptr;
  ASSERT_EQ(cuModuleLoadData(&module, "any image"), CUDA_SUCCESS);
  ASSERT_EQ(cuModuleGetFunction(&fill_, module, "gpuroom_fill"), CUDA_SUCCESS);
  ASSERT_EQ(cuModuleGetFunction(&verify_, module, "gpuroom_verify"), CUDA_SUCCESS);
}

void SimDeviceTest::TearDown() {
  gpuroom_sim_fail(nullptr);
  char text[2048] = {};
  EXPECT_EQ(gpuroom_sim_strict_errors(text, sizeof text), 0) << text;
  EXPECT_EQ(source_.live(), 0U);
}

CUstream SimDeviceTest::NewStream() {
  CUstream stream = nullptr;
  EXPECT_EQ(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
  return stream;
}

CUdeviceptr SimDeviceTest::NewWord() {
  CUdeviceptr word = 0;
  EXPECT_EQ(cuMemAlloc(&word, 8), CUDA_SUCCESS);
  EXPECT_EQ(cuMemsetD32(word, 0, 2), CUDA_SUCCESS);
  return word;
}

uint64_t SimDeviceTest::ReadWord(CUdeviceptr word) {
  uint64_t value = UINT64_MAX;
  EXPECT_EQ(cuMemcpyDtoH(&value, word, 8), CUDA_SUCCESS);
  return value;
}

void SimDeviceTest::Fill(CUdeviceptr va, uint64_t bytes, uint64_t seed, CUstream stream) const {
  EachEnd(va, bytes, [&](CUdeviceptr at, uint64_t words) {
    Launch(fill_, stream, {at, words, seed + (at - va)});
  });
}

void SimDeviceTest::Check(CUdeviceptr va, uint64_t bytes, uint64_t seed, CUdeviceptr bad,
                          CUstream stream) const {
  EachEnd(va, bytes, [&](CUdeviceptr at, uint64_t words) {
    Launch(verify_, stream, {at, words, seed + (at - va), bad});
  });
}

void SimDeviceTest::Order(CUstream after, CUstream before) {
  CUevent event = nullptr;
  ASSERT_EQ(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
  EXPECT_EQ(cuEventRecord(event, before), CUDA_SUCCESS);
  EXPECT_EQ(cuStreamWaitEvent(after, event, 0), CUDA_SUCCESS);
  EXPECT_EQ(cuEventDestroy(event), CUDA_SUCCESS);
}

}  // namespace gpuroom
