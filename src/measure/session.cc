#include "measure/session.h"

#include <algorithm>

#include "kernels.h"

namespace gpuroom::measure {
namespace {

// With these the read kernel reaches an H200's full speed (docs/measurements.md).
constexpr unsigned kThreads = 512;
constexpr unsigned kBlocksPerMultiprocessor = 4;

constexpr uint64_t kSeed = 7;
constexpr uint64_t kStored = 0x9e3779b97f4a7c15u;  // odd, so that every missing word changes the sum
constexpr double kTimedSeconds = 0.005;            // a timing is to last that long: launches are not free
constexpr int kMostLaunches = 16;

Status WrongData() { return Status(Code::kDriver, "a check: memory did not hold what was written to it"); }

// How many runs of `seconds` make one timing.
int LaunchesFor(double seconds, const Target& target) {
  if (target.before_each != nullptr || seconds <= 0) return 1;
  return std::clamp(static_cast<int>(kTimedSeconds / seconds), 1, kMostLaunches);
}

Status Before(const Target& target) {
  return target.before_each != nullptr ? target.before_each() : Status();
}

}  // namespace

Session::Session(const Driver& driver, const Calls& calls, CUdevice device)
    : driver_(driver), calls_(calls), device_(device) {}

Session::~Session() {
  if (context_ == nullptr) return;
  if (stream_ != nullptr) driver_.StreamSynchronize(stream_);
  if (cell_ != 0) driver_.MemFree(cell_);
  if (start_ != nullptr) driver_.EventDestroy(start_);
  if (stop_ != nullptr) driver_.EventDestroy(stop_);
  if (stream_ != nullptr) driver_.StreamDestroy(stream_);
  if (module_ != nullptr) calls_.ModuleUnload(module_);
  driver_.DevicePrimaryCtxRelease(device_);
}

Result<std::unique_ptr<Session>> Session::Open(const Driver& driver, CUdevice device) {
  const Result<Calls> calls = BindCalls(driver);
  if (!calls.ok()) return calls.status();
  std::unique_ptr<Session> session(new Session(driver, *calls, device));
  const Status status = session->Prepare();
  if (!status.ok()) return status;
  return session;
}

Status Session::Prepare() {
  CUresult result = CUDA_SUCCESS;
  const char* step = "";
  const auto good = [&](CUresult one, const char* name) {
    result = one;
    step = name;
    return one == CUDA_SUCCESS;
  };
  int multiprocessors = 0;
  const auto kernel = [&](CUfunction* function, const char* name) {
    return good(calls_.ModuleGetFunction(function, module_, name), name);
  };
  const bool ok =
      good(driver_.DeviceGetAttribute(&multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device_),
           "cuDeviceGetAttribute") &&
      good(driver_.DevicePrimaryCtxRetain(&context_, device_), "cuDevicePrimaryCtxRetain") &&
      good(driver_.CtxSetCurrent(context_), "cuCtxSetCurrent") &&
      good(calls_.ModuleLoadData(&module_, samples::KernelsPtx()), "cuModuleLoadData") &&
      kernel(&fill_, "gpuroom_fill") && kernel(&store_, "gpuroom_store") && kernel(&sum_, "gpuroom_sum") &&
      kernel(&verify_, "gpuroom_verify") &&
      // Not a non-blocking one: it has to wait for SetCell's copy, which goes over the default stream.
      good(driver_.StreamCreate(&stream_, CU_STREAM_DEFAULT), "cuStreamCreate") &&
      good(driver_.EventCreate(&start_, CU_EVENT_DEFAULT), "cuEventCreate") &&
      good(driver_.EventCreate(&stop_, CU_EVENT_DEFAULT), "cuEventCreate") &&
      good(driver_.MemAlloc(&cell_, sizeof(uint64_t)), "cuMemAlloc");
  blocks_ = static_cast<unsigned>(std::max(multiprocessors, 1)) * kBlocksPerMultiprocessor;
  return ok ? Status() : DriverStatus(result, step);
}

Result<Speeds> Session::Measure(const Target& target, int rounds) {
  Status status = Fill(target, kSeed);
  if (status.ok()) status = Check(target, kSeed);
  if (!status.ok()) return status;
  const Result<double> read = BestRead(target, rounds);
  if (!read.ok()) return read.status();
  const Result<double> write = BestWrite(target, rounds);
  if (!write.ok()) return write.status();
  const auto bytes = static_cast<double>(target.bytes);
  return Speeds{bytes / *read, bytes / *write};
}

Result<double> Session::BestRead(const Target& target, int rounds) {
  const Result<uint64_t> expected = Sum(target);
  if (!expected.ok()) return expected.status();
  double best = 0;
  int launches = 1;
  for (int i = 0; i <= rounds; ++i) {  // the first warms up and says how long a run takes
    Status status = Before(target);
    if (!status.ok()) return status;
    uint64_t sum = 0;
    const Result<double> seconds = TimeRead(target, launches, &sum);
    if (!seconds.ok()) return seconds.status();
    if (sum != *expected * static_cast<uint64_t>(launches)) return WrongData();
    if (i == 0) launches = LaunchesFor(*seconds, target);
    if (i > 0) best = i == 1 ? *seconds : std::min(best, *seconds);
  }
  return best;
}

Result<double> Session::BestWrite(const Target& target, int rounds) {
  double best = 0;
  int launches = 1;
  for (int i = 0; i <= rounds; ++i) {
    Status status = Before(target);
    if (!status.ok()) return status;
    const Result<double> seconds = TimeWrite(target, launches);
    if (!seconds.ok()) return seconds.status();
    if (i == 0) launches = LaunchesFor(*seconds, target);
    if (i > 0) best = i == 1 ? *seconds : std::min(best, *seconds);
  }
  const Result<uint64_t> sum = Sum(target);
  if (!sum.ok()) return sum.status();
  return *sum == kStored * (target.bytes / sizeof(uint64_t)) ? Result<double>(best) : WrongData();
}

Status Session::Launch(CUfunction kernel, void** arguments) {
  return DriverStatus(
      calls_.LaunchKernel(kernel, blocks_, 1, 1, kThreads, 1, 1, 0, stream_, arguments, nullptr),
      "cuLaunchKernel");
}

Status Session::Fill(const Target& target, uint64_t seed) {
  CUdeviceptr va = target.va;
  uint64_t words = target.bytes / sizeof(uint64_t);
  void* arguments[] = {&va, &words, &seed};
  const Status status = Launch(fill_, arguments);
  if (!status.ok()) return status;
  return DriverStatus(driver_.StreamSynchronize(stream_), "the kernel that fills the range");
}

Status Session::Check(const Target& target, uint64_t seed) {
  Status status = SetCell(0);
  if (!status.ok()) return status;
  CUdeviceptr va = target.va;
  uint64_t words = target.bytes / sizeof(uint64_t);
  void* arguments[] = {&va, &words, &seed, &cell_};
  status = Launch(verify_, arguments);
  if (!status.ok()) return status;
  const Result<uint64_t> wrong = GetCell();
  if (!wrong.ok()) return wrong.status();
  return *wrong == 0 ? Status() : WrongData();
}

Result<uint64_t> Session::Sum(const Target& target) {
  uint64_t sum = 0;
  const Result<double> seconds = TimeRead(target, 1, &sum);
  if (!seconds.ok()) return seconds.status();
  return sum;
}

Result<double> Session::TimeRead(const Target& target, int launches, uint64_t* sum) {
  const Status status = SetCell(0);
  if (!status.ok()) return status;
  CUdeviceptr va = target.va;
  uint64_t words = target.bytes / sizeof(uint64_t);
  void* arguments[] = {&va, &words, &cell_};
  const Result<double> seconds = Timed(launches, [&] { return Launch(sum_, arguments); });
  if (!seconds.ok()) return seconds;
  const Result<uint64_t> cell = GetCell();
  if (!cell.ok()) return cell.status();
  *sum = *cell;
  return seconds;
}

Result<double> Session::TimeWrite(const Target& target, int launches) {
  CUdeviceptr va = target.va;
  uint64_t words = target.bytes / sizeof(uint64_t);
  uint64_t value = kStored;
  void* arguments[] = {&va, &words, &value};
  return Timed(launches, [&] { return Launch(store_, arguments); });
}

template <typename Launches>
Result<double> Session::Timed(int launches, Launches enqueue) {
  Status status = DriverStatus(driver_.EventRecord(start_, stream_), "cuEventRecord");
  for (int i = 0; i < launches && status.ok(); ++i) status = enqueue();
  if (status.ok()) status = DriverStatus(driver_.EventRecord(stop_, stream_), "cuEventRecord");
  if (status.ok()) status = DriverStatus(driver_.StreamSynchronize(stream_), "the kernel that was timed");
  float milliseconds = 0;
  if (status.ok()) {
    status = DriverStatus(calls_.EventElapsedTime(&milliseconds, start_, stop_), "cuEventElapsedTime");
  }
  if (!status.ok()) return status;
  // Events tell half microseconds apart; a shorter run would divide by zero.
  return std::max(static_cast<double>(milliseconds) / 1e3, 5e-7) / launches;
}

Status Session::SetCell(uint64_t value) {
  return DriverStatus(calls_.MemcpyHtoD(cell_, &value, sizeof value), "cuMemcpyHtoD");
}

Result<uint64_t> Session::GetCell() {
  uint64_t value = 0;
  CUresult result = driver_.StreamSynchronize(stream_);
  if (result == CUDA_SUCCESS) result = calls_.MemcpyDtoH(&value, cell_, sizeof value);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemcpyDtoH");
  return value;
}

}  // namespace gpuroom::measure
