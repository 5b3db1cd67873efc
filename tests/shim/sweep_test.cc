// The sweep: every driver call that an operation makes is failed in turn, by lack of memory
// and by an unknown error. The program must get one of the two or success; afterwards the
// same operation works, its memory holds what was put there, the figures are as before and
// nothing has leaked. GPUROOM_HOST_KEEP is 0, so that no host chunk is kept.
#include "sweep.h"

#include <set>
#include <sstream>

namespace gpuroom::shim_test {
namespace {

// Small ones, with the device's budget used up: the reserve too.
class SmallSpilled : public Operation {
 public:
  explicit SmallSpilled(uint64_t bytes) : inner_(bytes) {
    EXPECT_CU(Cu().MemAlloc(&large_, kForRanges));
    EXPECT_EQ(gpuroom_set_hint(large_, GPUROOM_HINT_HOT), GPUROOM_OK);
    EXPECT_CU(Cu().MemAlloc(&small_, kReserve - 1));
  }
  ~SmallSpilled() override {
    EXPECT_CU(Cu().MemFree(large_));
    EXPECT_CU(Cu().MemFree(small_));
  }
  void Run(Results* results) override { inner_.Run(results); }
  void Finish() override { inner_.Finish(); }
  void Check() override { inner_.Check(); }

 private:
  CUdeviceptr large_ = 0;
  CUdeviceptr small_ = 0;
  AllocAndFree inner_;
};

enum class Where { kRange, kManaged };

class AsyncSpilled : public Operation {
 public:
  explicit AsyncSpilled(Where where) : where_(where) {
    EXPECT_CU(Cu().StreamCreate(&stream_, CU_STREAM_NON_BLOCKING));
  }
  ~AsyncSpilled() override { EXPECT_CU(Cu().StreamDestroy(stream_)); }
  void Run(Results* results) override {
    if (!Keep(results, Cu().MemAllocAsync(&p_, kBytes, stream_))) {
      p_ = 0;
      return;
    }
    if (Keep(results, Cu().MemFreeAsync(p_, stream_))) p_ = 0;
    Keep(results, Cu().StreamSynchronize(stream_));
    size_t free = 0;
    size_t total = 0;
    Keep(results, Cu().MemGetInfo(&free, &total));  // takes the memory back
  }
  void Finish() override {
    if (p_ != 0) {
      EXPECT_CU(Cu().MemFreeAsync(p_, stream_));
    }
    p_ = 0;
    EXPECT_CU(Cu().StreamSynchronize(stream_));
  }
  void Check() override {
    CUdeviceptr p = 0;
    ASSERT_CU(Cu().MemAllocAsync(&p, kBytes, stream_));
    EXPECT_EQ(PlacementOf(p).host_bytes, where_ == Where::kRange ? kBytes - kForRanges : 0);
    FillAndVerify(p, kBytes);
    EXPECT_CU(Cu().MemFreeAsync(p, stream_));
    EXPECT_CU(Cu().StreamSynchronize(stream_));
    (void)MemInfo();
  }

 private:
  static constexpr uint64_t kBytes = 80 * kMiB;
  const Where where_;
  CUstream stream_ = nullptr;
  CUdeviceptr p_ = 0;
};

enum class Last { kRelease, kUnmap };

class CreateAndMap : public Operation {
 public:
  CreateAndMap(uint64_t bytes, Last last) : bytes_(bytes), last_(last) {
    EXPECT_CU(Cu().MemAddressReserve(&va_, bytes_, 0, 0, 0));
  }
  ~CreateAndMap() override { EXPECT_CU(Cu().MemAddressFree(va_, bytes_)); }
  void Run(Results* results) override {
    if (!Acquire(results)) return;
    if (last_ == Last::kUnmap) ReleaseOnce(results);
    if (Keep(results, Cu().MemUnmap(va_, bytes_))) mapped_ = false;
    if (last_ == Last::kRelease) ReleaseOnce(results);
  }
  void Finish() override {
    if (mapped_) {
      EXPECT_CU(Cu().MemUnmap(va_, bytes_));
    }
    if (held_) {
      EXPECT_CU(Cu().MemRelease(handle_));
    }
    mapped_ = false;
    held_ = false;
  }
  void Check() override {
    Results results;
    ASSERT_TRUE(Acquire(&results)) << NameOf(results.back());
    FillAndVerify(va_, bytes_);
    Finish();
  }

 private:
  bool Acquire(Results* results) {
    const CUmemAllocationProp prop = DeviceMemory();
    const CUmemAccessDesc access = DeviceAccess();
    held_ = Keep(results, Cu().MemCreate(&handle_, bytes_, &prop, 0));
    if (!held_) return false;
    mapped_ = Keep(results, Cu().MemMap(va_, bytes_, 0, handle_, 0));
    if (!mapped_) return false;
    return Keep(results, Cu().MemSetAccess(va_, bytes_, &access, 1));
  }
  void ReleaseOnce(Results* results) {
    if (Keep(results, Cu().MemRelease(handle_))) held_ = false;
  }

  const uint64_t bytes_;
  const Last last_;
  CUdeviceptr va_ = 0;
  CUmemGenericAllocationHandle handle_ = 0;
  bool held_ = false;
  bool mapped_ = false;
};

class EnablePeer : public Operation {
 public:
  EnablePeer() : owner_(UseDevice(0)) {
    EXPECT_CU(Cu().MemAlloc(&device_, kThreshold));
    EXPECT_CU(Cu().MemAlloc(&spilled_, kSpilled));
    UseDevice(1);
  }
  ~EnablePeer() override {
    UseDevice(0);
    EXPECT_CU(Cu().MemFree(spilled_));
    EXPECT_CU(Cu().MemFree(device_));
  }
  void Run(Results* results) override { enabled_ = Keep(results, Cu().CtxEnablePeerAccess(owner_, 0)); }
  void Finish() override {
    UseDevice(1);
    if (!enabled_) {
      // Where taking it back failed as well, it is still enabled.
      const CUresult result = Cu().CtxDisablePeerAccess(owner_);
      EXPECT_TRUE(result == CUDA_SUCCESS || result == CUDA_ERROR_PEER_ACCESS_NOT_ENABLED) << NameOf(result);
      return;
    }
    Use();
    EXPECT_CU(Cu().CtxDisablePeerAccess(owner_));
    enabled_ = false;
  }
  void Check() override {
    ASSERT_CU(Cu().CtxEnablePeerAccess(owner_, 0));
    enabled_ = true;
    Finish();
  }

 private:
  // Told that it has access, the program uses it.
  void Use() {
    FillAndVerify(device_, kThreshold);
    FillAndVerify(spilled_, kSpilled);
  }

  const CUcontext owner_;
  CUdeviceptr device_ = 0;
  CUdeviceptr spilled_ = 0;
  bool enabled_ = false;
};

class SweepTest : public ShimTest, public testing::WithParamInterface<Case> {
 protected:
  // Everything that an operation may leave is gone.
  void ExpectClean(const Info& before) {
    EXPECT_EQ(MemInfo().free, before.free);
    EXPECT_EQ(HeldSizes(), held_);
    EXPECT_EQ(StrictErrors(), "");
  }
  void CheckAfter(Operation& operation, const Info& before) {
    GetSim().fail("");
    operation.Finish();
    operation.Check();
    // What could not be given back is tried again by the next range, and by no small one.
    AllocAndFree(GetParam().settle_bytes).Check();
    ExpectClean(before);
  }
  // What is held, without the numbers that change when memory moves, in order.
  static std::string HeldSizes() {
    std::istringstream lines(Leaks());
    std::multiset<std::string> sizes;
    for (std::string line; std::getline(lines, line);) {
      const size_t number = line.find(" 0x");
      sizes.insert(line.rfind("handle", 0) == 0 ? line.replace(number, line.find(',') - number, "") : line);
    }
    std::string text;
    for (const std::string& line : sizes) text += line + "\n";
    return text;
  }
  std::string held_;  // by the operation's own set-up
};

// One error or the other for each call, in turns (tests/CMakeLists.txt).
TEST_P(SweepTest, AnyOneCallMayFail) {
  const std::unique_ptr<Operation> operation = GetParam().make();
  operation->Check();  // warm
  held_ = HeldSizes();
  const Info before = MemInfo();
  const CUresult errors[] = {CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_UNKNOWN};
  uint64_t k = 0;
  uint64_t calls = 0;
  do {
    const CUresult error = errors[(++k + GPUROOM_SWEEP_TURN) % 2];
    const std::string rule = "*:" + std::to_string(k) + ":" + NameOf(error);
    SCOPED_TRACE(rule);
    GetSim().fail(rule.c_str());
    calls = GetSim().call_count("*");
    Results results;
    operation->Run(&results);
    calls = GetSim().call_count("*") - calls;
    for (const CUresult result : results) {
      EXPECT_TRUE(result == CUDA_SUCCESS || result == CUDA_ERROR_OUT_OF_MEMORY || result == error)
          << NameOf(result);
    }
    CheckAfter(*operation, before);
  } while (k <= calls && !HasFailure());
  EXPECT_GT(k, 1u);
}

TEST_P(SweepTest, AnyCallsMayFail) {
  const std::unique_ptr<Operation> operation = GetParam().make();
  operation->Check();
  held_ = HeldSizes();
  const Info before = MemInfo();
  for (int seed = 1; seed <= 60 && !HasFailure(); ++seed) {
    const std::string rule = "seed:" + std::to_string(seed) + ":" + std::to_string(5 + seed % 30);
    SCOPED_TRACE(rule);
    GetSim().fail(rule.c_str());
    for (int round = 0; round < 3; ++round) {
      Results results;
      operation->Run(&results);
      for (const CUresult result : results) {
        EXPECT_TRUE(result == CUDA_SUCCESS || result == CUDA_ERROR_OUT_OF_MEMORY) << NameOf(result);
      }
      GetSim().fail("");
      operation->Finish();
      GetSim().fail(rule.c_str());
    }
    CheckAfter(*operation, before);
  }
}

std::string CaseName(const testing::TestParamInfo<Case>& test) { return test.param.name; }

INSTANTIATE_TEST_SUITE_P(
    OneDevice, SweepTest,
    testing::Values(MakeCase<AllocAndFree, 80 * kMiB>("SpilledAlloc"),
                    MakeCase<AllocAndFree, 32 * kMiB>("DeviceAlloc"),
                    MakeCase<AllocAndFree, kMixed>("MixedAlloc"),
                    MakeCase<AllocAndFree, 64 * kKiB>("SmallAlloc"),
                    MakeCase<SmallSpilled, 2 * kMiB>("SmallSpilledAlloc"),
                    MakeCase<SmallSpilled, 64 * kKiB>("SharedAlloc"),
                    MakeCase<AsyncSpilled, Where::kRange>("SpilledAllocAsync"),
                    MakeCase<CreateAndMap, 32 * kMiB, Last::kRelease>("DeviceCreate"),
                    MakeCase<CreateAndMap, kSpilled, Last::kRelease>("SpilledCreate"),
                    MakeCase<CreateAndMap, kMixed, Last::kRelease>("CompositeCreate"),
                    MakeCase<CreateAndMap, 32 * kMiB, Last::kUnmap>("DeviceCreateUnmappedLast"),
                    MakeCase<CreateAndMap, kSpilled, Last::kUnmap>("SpilledCreateUnmappedLast"),
                    MakeCase<CreateAndMap, kMixed, Last::kUnmap>("CompositeCreateUnmappedLast")),
    CaseName);
// ctest sets GPUROOM_BACKEND=managed; prefetched below 32 MiB.
INSTANTIATE_TEST_SUITE_P(Managed, SweepTest,
                         testing::Values(MakeCase<AllocAndFree, 24 * kMiB>("PrefetchedAlloc"),
                                         MakeCase<AllocAndFree, kMixed>("LargeAlloc"),
                                         MakeCase<AsyncSpilled, Where::kManaged>("AllocAsync")),
                         CaseName);
INSTANTIATE_TEST_SUITE_P(ManagedPcie, SweepTest,
                         testing::Values(MakeCase<AllocAndFree, 24 * kMiB>("PrefetchedAlloc"),
                                         MakeCase<AllocAndFree, kForRanges>("LargeAlloc")),
                         CaseName);
INSTANTIATE_TEST_SUITE_P(Moves, SweepTest, testing::ValuesIn(MoveCases()), CaseName);
INSTANTIATE_TEST_SUITE_P(Sleeps, SweepTest, testing::ValuesIn(SleepCases()), CaseName);
INSTANTIATE_TEST_SUITE_P(Lazily, SweepTest, testing::ValuesIn(LazyCases()), CaseName);
INSTANTIATE_TEST_SUITE_P(TwoDevices, SweepTest, testing::Values(MakeCase<EnablePeer>("EnablePeerAccess")),
                         CaseName);

}  // namespace
}  // namespace gpuroom::shim_test
