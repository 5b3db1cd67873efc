// Managed memory on a driver of counters: what it is asked for under which policy, the
// cap, what is warned of once, and every call failing in turn.
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "range/managed.h"
#include "range/managed_table.h"
#include "tier_fake_driver.h"

namespace gpuroom {
namespace {

constexpr uint64_t kHbm = 100 * kMiB;
constexpr uint64_t kHost = 300 * kMiB;
constexpr uint64_t kReserve = 10 * kMiB;

struct FakeManaged {
  std::vector<std::string> calls;
  std::set<CUdeviceptr> live;
  int fail_at = 0;  // this call from now on, counted from 1; 0: none
  CUresult error = CUDA_ERROR_UNKNOWN;
  CUresult refuse_numa = CUDA_SUCCESS;
  bool concurrent = true;
  bool context_gone = false;
};

FakeManaged& Seen() {
  static FakeManaged seen;
  return seen;
}

CUresult Called(const std::string& call) {
  Seen().calls.push_back(call);
  if (Seen().fail_at == 0 || --Seen().fail_at > 0) return CUDA_SUCCESS;
  return Seen().error;
}

std::string Words(const CUmemLocation& at) {
  switch (at.type) {
    case CU_MEM_LOCATION_TYPE_DEVICE: return "device " + std::to_string(at.id);
    case CU_MEM_LOCATION_TYPE_HOST: return "host";
    case CU_MEM_LOCATION_TYPE_HOST_NUMA: return "node " + std::to_string(at.id);
    default: return "?";
  }
}

const CUcontext kContext = reinterpret_cast<CUcontext>(0x77);

Driver ManagedDriver() {
  Seen() = FakeManaged();
  Driver driver = FakeDriver();
  Fake().device_capacity = kHbm;
  driver.DeviceGetAttribute = [](int* value, CUdevice_attribute attribute, CUdevice) {
    *value = attribute == CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS && Seen().concurrent;
    return CUDA_SUCCESS;
  };
  driver.MemGetInfo = [](size_t* free, size_t* total) {
    *total = Fake().device_capacity;
    *free = Fake().device_capacity - Fake().device_used;
    return Called("info");
  };
  driver.CtxGetCurrent = [](CUcontext* out) {
    *out = nullptr;
    return Called("current");
  };
  driver.CtxPushCurrent = [](CUcontext) {
    const CUresult result = Called("push");
    return Seen().context_gone ? CUDA_ERROR_CONTEXT_IS_DESTROYED : result;
  };
  driver.CtxPopCurrent = [](CUcontext*) { return Called("pop"); };
  driver.CtxSynchronize = [] { return Called("wait"); };
  driver.StreamSynchronize = [](CUstream) { return Called("wait stream"); };
  driver.MemAllocManaged = [](CUdeviceptr* out, size_t bytes, unsigned flags) {
    const CUresult result =
        Called("allocate " + std::to_string(bytes) + (flags == CU_MEM_ATTACH_GLOBAL ? "" : "?"));
    if (result != CUDA_SUCCESS) return result;
    static CUdeviceptr next = kGiB;
    Seen().live.insert(*out = next += kGiB);
    return result;
  };
  driver.MemFree = [](CUdeviceptr va) {
    const CUresult result = Called("free");
    if (result != CUDA_SUCCESS) return result;
    return Seen().live.erase(va) == 1 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  };
  driver.MemAdvise = [](CUdeviceptr, size_t, CUmem_advise advice, CUmemLocation at) {
    const bool preferred = advice == CU_MEM_ADVISE_SET_PREFERRED_LOCATION;
    const CUresult result = Called((preferred ? "prefer " : "accessed by ") + Words(at));
    return at.type == CU_MEM_LOCATION_TYPE_HOST_NUMA && Seen().refuse_numa != CUDA_SUCCESS
               ? Seen().refuse_numa
               : result;
  };
  driver.MemPrefetchAsync = [](CUdeviceptr, size_t, CUmemLocation at, unsigned, CUstream stream) {
    return Called("prefetch " + Words(at) + (stream == nullptr ? "" : " on a stream"));
  };
  return driver;
}

using Calls = std::vector<std::string>;

class ManagedTest : public testing::Test {
 protected:
  ManagedMemory Make(bool coherent, ManagedOptions options = {}) {
    return ManagedMemory(driver_, tier_, host_, options, {kHbm, kHost, coherent});
  }
  static ManagedRequest Ask(uint64_t bytes, Policy policy = Policy::kGpuFirst) {
    return {bytes, policy, kContext, nullptr};
  }
  // The calls since the last time.
  static Calls TakeCalls() {
    Calls calls;
    calls.swap(Seen().calls);
    return calls;
  }
  void ExpectNothingHeld(const ManagedMemory& memory) {
    EXPECT_TRUE(Seen().live.empty());
    EXPECT_EQ(memory.budget().used(), 0u);
    EXPECT_EQ(tier_.budget().used(), 0u);
    EXPECT_EQ(share_.Unclaimed(), kHost);
  }
  void SetUp() override { testing::internal::CaptureStderr(); }
  void TearDown() override { testing::internal::GetCapturedStderr(); }
  // What was logged since the last time.
  std::string Log() {
    const std::string text = testing::internal::GetCapturedStderr();
    testing::internal::CaptureStderr();
    return text;
  }

  const Driver driver_ = ManagedDriver();
  HostShare share_{kHost, 0, nullptr};
  HostTier host_{driver_, 1, share_};
  DeviceTier tier_{driver_, 0, kHbm, kReserve};
};

TEST_F(ManagedTest, GpuFirstPrefersTheDeviceAndPrefetches) {
  ManagedMemory memory = Make(true);
  const Result<ManagedBlock> block = memory.Allocate(Ask(5 * kMiB));
  ASSERT_TRUE(block.ok());
  EXPECT_EQ(TakeCalls(),
            (Calls{"allocate 5242880", "prefer device 0", "accessed by host", "prefetch device 0"}));
  EXPECT_EQ(block->bytes, 5 * kMiB);
  EXPECT_EQ(memory.budget().used(), 6 * kMiB);
  EXPECT_TRUE(memory.Free(*block).ok());
  EXPECT_EQ(TakeCalls(), (Calls{"current", "push", "wait", "pop", "free"}));
  ExpectNothingHeld(memory);
}

TEST_F(ManagedTest, PrefetchesOnTheStreamAndOnlyWhatIsSmaller) {
  ManagedMemory memory = Make(true, {8 * kMiB, 5.0, false});
  ManagedRequest request = Ask(8 * kMiB - 1);
  request.stream = reinterpret_cast<CUstream>(0x5);
  const Result<ManagedBlock> small = memory.Allocate(request);
  ASSERT_TRUE(small.ok());
  EXPECT_EQ(TakeCalls().back(), "prefetch device 0 on a stream");
  const Result<ManagedBlock> large = memory.Allocate(Ask(8 * kMiB));
  ASSERT_TRUE(large.ok());
  EXPECT_EQ(TakeCalls().back(), "accessed by host");
  EXPECT_TRUE(memory.Free(*small, request.stream).ok());
  EXPECT_EQ(TakeCalls(), (Calls{"wait stream", "free"}));
  EXPECT_TRUE(memory.Free(*large).ok());
  ExpectNothingHeld(memory);
}

TEST_F(ManagedTest, BalancedLeavesThePlaceToTheDriver) {
  ManagedMemory memory = Make(true);
  const Result<ManagedBlock> block = memory.Allocate(Ask(kMiB, Policy::kBalanced));
  ASSERT_TRUE(block.ok());
  EXPECT_EQ(TakeCalls(), (Calls{"allocate 1048576", "accessed by device 0"}));
  EXPECT_TRUE(memory.Free(*block).ok());
}

TEST_F(ManagedTest, CpuFirstPrefersTheNodeOrTheHost) {
  ManagedMemory memory = Make(true);
  const Result<ManagedBlock> near = memory.Allocate(Ask(kMiB, Policy::kCpuFirst));
  ASSERT_TRUE(near.ok());
  EXPECT_EQ(TakeCalls(), (Calls{"allocate 1048576", "prefer node 1", "accessed by device 0"}));
  Seen().refuse_numa = CUDA_ERROR_INVALID_DEVICE;
  const Result<ManagedBlock> any = memory.Allocate(Ask(kMiB, Policy::kCpuFirst));
  ASSERT_TRUE(any.ok());
  EXPECT_EQ(TakeCalls(), (Calls{"allocate 1048576", "prefer node 1", "prefer host", "accessed by device 0"}));
  EXPECT_EQ(Log(), "");
  EXPECT_TRUE(memory.Free(*near).ok());
  EXPECT_TRUE(memory.Free(*any).ok());
}

TEST_F(ManagedTest, HintsGoBeforeThePolicy) {
  PlanRequest request;
  request.policy = Policy::kBalanced;
  EXPECT_EQ(ManagedPolicy(request), Policy::kBalanced);
  request.hint = Hint::kHot;
  EXPECT_EQ(ManagedPolicy(request), Policy::kGpuFirst);
  request.hint = Hint::kCold;
  EXPECT_EQ(ManagedPolicy(request), Policy::kCpuFirst);
  request.policy = Policy::kGpuFirst;
  request.hint = Hint::kStream;
  EXPECT_EQ(ManagedPolicy(request), Policy::kBalanced);
}

TEST_F(ManagedTest, WhereHostAndDeviceTakeTurnsNothingIsAdvised) {
  Seen().concurrent = false;
  ManagedMemory memory = Make(false);
  const Result<ManagedBlock> block = memory.Allocate(Ask(kMiB));
  ASSERT_TRUE(block.ok());
  EXPECT_EQ(TakeCalls(), (Calls{"info", "allocate 1048576"}));
  EXPECT_TRUE(memory.Free(*block).ok());
}

TEST_F(ManagedTest, ADriverWithoutManagedMemoryIsTold) {
  Driver none = driver_;
  none.MemAllocManaged = nullptr;
  ManagedMemory memory(none, tier_, host_, {}, {kHbm, kHost, true});
  EXPECT_EQ(memory.Allocate(Ask(kMiB)).status().code(), Code::kUnsupported);
}

TEST_F(ManagedTest, BeyondTheCapIsRefusedWithOneSentence) {
  ManagedMemory memory = Make(true, {2 * kGiB, 2.0, false});
  const Result<ManagedBlock> block = memory.Allocate(Ask(199 * kMiB));
  ASSERT_TRUE(block.ok());
  EXPECT_EQ(memory.budget().used(), 200 * kMiB);
  EXPECT_EQ(share_.Unclaimed(), kHost - 100 * kMiB);  // what the HBM does not hold
  for (const uint64_t bytes : {uint64_t{1}, kGiB, UINT64_MAX - 1, UINT64_MAX}) {
    EXPECT_EQ(memory.Allocate(Ask(bytes)).status().code(), Code::kOutOfMemory);
  }
  const std::string log = Log();
  EXPECT_NE(log.find("2 times the HBM; --oversubscription-ratio"), std::string::npos) << log;
  EXPECT_EQ(log.find("refused"), log.rfind("refused"));
  EXPECT_TRUE(memory.Free(*block).ok());
  ExpectNothingHeld(memory);
}

TEST_F(ManagedTest, WhatOthersTookOfTheHostIsNotPromisedTwice) {
  ManagedMemory memory = Make(true);
  ASSERT_TRUE(host_.ClaimOther(250 * kMiB));
  EXPECT_EQ(memory.FreeBytes(kHbm), 150 * kMiB);
  EXPECT_EQ(memory.Allocate(Ask(152 * kMiB)).status().code(), Code::kOutOfMemory);
  EXPECT_NE(Log().find("--host-limit"), std::string::npos);
  const Result<ManagedBlock> block = memory.Allocate(Ask(150 * kMiB));
  ASSERT_TRUE(block.ok());
  EXPECT_EQ(share_.Unclaimed(), 0u);
  EXPECT_TRUE(memory.Free(*block).ok());
  host_.ReleaseOther(250 * kMiB);
  ExpectNothingHeld(memory);
}

TEST_F(ManagedTest, WithoutACoherentLinkNoMoreThanIsFree) {
  ManagedMemory memory = Make(false);
  EXPECT_EQ(memory.cap().bytes, kHbm);
  ASSERT_TRUE(tier_.ClaimSmall(20 * kMiB));  // uses the reserve up
  EXPECT_EQ(memory.Allocate(Ask(82 * kMiB)).status().code(), Code::kOutOfMemory);
  EXPECT_NE(Log().find("without a hardware-coherent link"), std::string::npos);
  const Result<ManagedBlock> block = memory.Allocate(Ask(80 * kMiB));
  ASSERT_TRUE(block.ok());
  EXPECT_EQ(tier_.budget().used(), kHbm);  // ranges find none of it
  EXPECT_EQ(memory.FreeBytes(kHbm), 0u);
  EXPECT_TRUE(memory.Free(*block).ok());
  tier_.ReleaseSmall(20 * kMiB);
  ExpectNothingHeld(memory);
}

TEST_F(ManagedTest, WhatIsNotResidentYetIsNotFree) {
  // No limit of its own: the driver's word counts, which does not know of untouched pages.
  DeviceTier unlimited(driver_, 0, Budget::kUnlimited, 0);
  ManagedMemory memory(driver_, unlimited, host_, {}, {kHbm, kHost, false});
  const Result<ManagedBlock> first = memory.Allocate(Ask(60 * kMiB));
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(Fake().device_used, 0u);
  EXPECT_EQ(memory.FreeBytes(kHbm), 40 * kMiB);
  EXPECT_EQ(memory.Allocate(Ask(42 * kMiB)).status().code(), Code::kOutOfMemory);
  Fake().device_used = 70 * kMiB;  // resident by now, and another process took 10
  EXPECT_EQ(memory.FreeBytes(30 * kMiB), 30 * kMiB);
  EXPECT_EQ(memory.Allocate(Ask(32 * kMiB)).status().code(), Code::kOutOfMemory);
  const Result<ManagedBlock> second = memory.Allocate(Ask(30 * kMiB));
  ASSERT_TRUE(second.ok());
  Fake().device_used = 0;
  EXPECT_TRUE(memory.Free(*first).ok());
  EXPECT_TRUE(memory.Free(*second).ok());
  EXPECT_EQ(unlimited.budget().used(), 0u);
  ExpectNothingHeld(memory);
}

TEST_F(ManagedTest, WhatTheProgramHoldsOtherwiseIsNotShownAsFree) {
  ManagedMemory memory = Make(true, {2 * kGiB, 2.0, false});
  EXPECT_EQ(memory.FreeBytes(kHbm), 200 * kMiB);
  ASSERT_TRUE(tier_.ClaimSmall(30 * kMiB));
  EXPECT_EQ(memory.FreeBytes(kHbm), 170 * kMiB);
  tier_.ReleaseSmall(30 * kMiB);
}

TEST_F(ManagedTest, AdviceAndPrefetchThatFailAreOneWarningEach) {
  for (const int call : {2, 3, 4}) {  // after the allocation itself
    ManagedMemory memory = Make(true);
    for (int round = 0; round < 2; ++round) {
      Seen().fail_at = call;
      const Result<ManagedBlock> block = memory.Allocate(Ask(kMiB));
      ASSERT_TRUE(block.ok()) << call;
      const std::string log = Log();
      const char* words = call == 4 ? "could not be prefetched" : "takes no advice";
      EXPECT_EQ(log.find(words) != std::string::npos, round == 0) << call << ": " << log;
      EXPECT_TRUE(memory.Free(*block).ok());
    }
    ExpectNothingHeld(memory);
  }
}

TEST_F(ManagedTest, AnyOneCallMayFail) {
  for (const bool coherent : {true, false}) {
    for (const CUresult error : {CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_UNKNOWN}) {
      ManagedMemory memory = Make(coherent);
      bool failed = true;
      for (int call = 1; failed; ++call) {
        ASSERT_LT(call, 20);
        Seen().error = error;
        Seen().fail_at = call;
        const Result<ManagedBlock> block = memory.Allocate(Ask(90 * kMiB));
        const bool freed = block.ok() && memory.Free(*block).ok();
        failed = Seen().fail_at == 0;
        Seen().fail_at = 0;
        if (!block.ok()) {
          EXPECT_EQ(block.status().code(), DriverStatus(error, "").code());
        } else if (!freed) {
          EXPECT_EQ(memory.budget().used(), 90 * kMiB) << call;  // whole, to be freed again
          EXPECT_TRUE(memory.Free(*block).ok());
        }
        ExpectNothingHeld(memory);
      }
    }
  }
}

TEST_F(ManagedTest, AContextThatIsGoneTookItsMemoryAlong) {
  ManagedMemory memory = Make(true);
  const Result<ManagedBlock> block = memory.Allocate(Ask(kMiB));
  ASSERT_TRUE(block.ok());
  Seen().context_gone = true;
  Seen().live.clear();
  EXPECT_TRUE(memory.Free(*block).ok());
  ExpectNothingHeld(memory);
}

TEST(ManagedTable, FindsByAnyAddressAndTakesByTheFirst) {
  AddressMap map;
  ManagedTable table(map);
  ManagedBlock found;
  EXPECT_FALSE(table.Find(0, &found));
  table.Insert({kGiB, 5 * kMiB, 6 * kMiB, nullptr, 0});
  table.Insert({4 * kGiB, kMiB, 2 * kMiB, nullptr, 1});
  EXPECT_TRUE(table.Find(kGiB + 5 * kMiB - 1, &found));
  EXPECT_EQ(found.va, kGiB);
  EXPECT_FALSE(table.Find(kGiB + 5 * kMiB, &found));
  EXPECT_FALSE(table.Find(kGiB - 1, &found));
  EXPECT_FALSE(table.Take(kGiB + 1, &found));
  EXPECT_TRUE(table.Take(kGiB, &found));
  EXPECT_FALSE(table.Take(kGiB, &found));
  EXPECT_TRUE(table.TakeAll(0).empty());
  EXPECT_EQ(table.TakeAll(1).size(), 1u);
  EXPECT_FALSE(table.Find(4 * kGiB, &found));
}

TEST(ManagedTable, KeepsWhatCannotBeFreedYet) {
  AddressMap map;
  ManagedTable table(map);
  EXPECT_FALSE(table.has_deferred());
  table.Defer({kGiB, kMiB, 2 * kMiB, nullptr, 0});
  table.Defer({2 * kGiB, kMiB, 2 * kMiB, nullptr, 1});
  EXPECT_TRUE(table.has_deferred());
  EXPECT_EQ(table.TakeAll(1).size(), 1u);
  const std::vector<ManagedBlock> left = table.TakeDeferred();
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0].va, kGiB);
  EXPECT_FALSE(table.has_deferred());
}

}  // namespace
}  // namespace gpuroom
