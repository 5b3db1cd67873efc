// Estimates of link speeds: the arithmetic, and which facts are asked for.
#include <gtest/gtest.h>

#include <cstdio>

#include "topology/link_estimate.h"

namespace gpuroom {
namespace {

constexpr double kGigabyte = 1e9;

LinkFacts H200() {
  LinkFacts facts;
  facts.memory_clock_khz = 3'201'000;
  facts.memory_bus_bits = 6144;
  facts.current = facts.maximum = PciLink{true, 5, 16};
  return facts;
}

double Host(const LinkFacts& facts) { return static_cast<double>(EstimateFrom(facts).host) / kGigabyte; }

TEST(LinkEstimate, AnH200IsWithinAPercentOfWhatWasMeasured) {
  LinkFacts facts = H200();
  facts.peer = PeerPath::kNvlink;
  const LinkSpeeds speeds = EstimateFrom(facts);
  EXPECT_NEAR(static_cast<double>(speeds.device) / kGigabyte, 4560, 46);
  EXPECT_NEAR(static_cast<double>(speeds.host) / kGigabyte, 51.3, 0.6);
  EXPECT_EQ(speeds.peer, 370'000'000'000u);
  EXPECT_TRUE(ArePlausible(speeds));
}

TEST(LinkEstimate, AnIdleLinkCountsAtItsWidthAndItsGpusGeneration) {
  LinkFacts facts = H200();
  const double full = Host(facts);
  facts.current.generation = 1;  // asleep
  EXPECT_EQ(Host(facts), full);
  facts.current.width = 8;  // a narrow slot
  EXPECT_NEAR(Host(facts), full / 2, 0.01);
  facts.current = PciLink();
  EXPECT_EQ(Host(facts), 52);
}

TEST(LinkEstimate, CoherentAndUnifiedMachinesHaveNoPcieInBetween) {
  LinkFacts facts = H200();
  facts.coherent = true;
  EXPECT_EQ(Host(facts), 350);
  facts.integrated = true;
  EXPECT_EQ(Host(facts), 273);
}

TEST(LinkEstimate, PeersAreAsFastAsTheirPath) {
  LinkFacts facts = H200();
  EXPECT_EQ(EstimateFrom(facts).peer, 0u);
  facts.peer = PeerPath::kPcie;
  EXPECT_EQ(EstimateFrom(facts).peer, EstimateFrom(facts).host);
  facts.coherent = true;  // says nothing of the way to a peer
  EXPECT_LT(EstimateFrom(facts).peer, EstimateFrom(facts).host);
}

TEST(LinkEstimate, NothingKnownIsStillAnEstimate) {
  const LinkSpeeds speeds = EstimateFrom(LinkFacts());
  EXPECT_EQ(speeds.device, 1'000'000'000'000u);
  EXPECT_EQ(speeds.host, 52'000'000'000u);
  EXPECT_EQ(speeds.peer, 0u);
  LinkFacts absurd;
  absurd.memory_clock_khz = absurd.memory_bus_bits = INT32_MAX;
  EXPECT_EQ(EstimateFrom(absurd).device, kFastestLink);
}

// A machine of three GPUs at the PCI addresses of a fixture; which reach each other is the test's.
struct FakeMachine {
  int access[3][3] = {};
  int atomics[3][3] = {};
  int coherent = 0;
};
FakeMachine machine;

Driver FakeDriver() {
  machine = FakeMachine();
  Driver driver;
  driver.DeviceGetCount = [](int* count) {
    *count = 3;
    return CUDA_SUCCESS;
  };
  driver.DeviceGet = [](CUdevice* device, int ordinal) {
    *device = ordinal;
    return CUDA_SUCCESS;
  };
  driver.DeviceGetAttribute = [](int* value, CUdevice_attribute attribute, CUdevice) {
    *value = 0;
    if (attribute == CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE) *value = 3'201'000;
    if (attribute == CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH) *value = 6144;
    if (attribute == CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES)
      *value = machine.coherent;
    return CUDA_SUCCESS;
  };
  driver.DeviceGetPCIBusId = [](char* text, int length, CUdevice) {
    std::snprintf(text, static_cast<size_t>(length), "00000000:17:00.0");
    return CUDA_SUCCESS;
  };
  driver.DeviceCanAccessPeer = [](int* value, CUdevice from, CUdevice to) {
    *value = machine.access[from][to];
    return CUDA_SUCCESS;
  };
  driver.DeviceGetP2PAttribute = [](int* value, CUdevice_P2PAttribute attribute, CUdevice from, CUdevice to) {
    *value = attribute == CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED ? machine.atomics[from][to] : 0;
    return CUDA_SUCCESS;
  };
  return driver;
}

LinkFacts Read(const Driver& driver) {
  return ReadLinkFacts(driver, 0, Sysroot(GPUROOM_FIXTURES "container-cgroup1"));
}

TEST(LinkFacts, AreReadFromTheDriverAndTheBus) {
  const Driver driver = FakeDriver();
  const LinkFacts facts = Read(driver);
  EXPECT_EQ(facts.memory_clock_khz, 3'201'000);
  EXPECT_EQ(facts.memory_bus_bits, 6144);
  EXPECT_TRUE(facts.current.known);
  EXPECT_TRUE(facts.maximum.known);
  EXPECT_FALSE(facts.coherent);
  EXPECT_FALSE(facts.integrated);
  EXPECT_EQ(facts.peer, PeerPath::kNone);
  machine.coherent = 1;
  EXPECT_TRUE(Read(driver).coherent);
}

TEST(LinkFacts, TheSlowestPathToAPeerCounts) {
  Driver driver = FakeDriver();
  machine.access[0][1] = machine.atomics[0][1] = 1;
  EXPECT_EQ(Read(driver).peer, PeerPath::kNvlink);
  machine.access[0][2] = 1;
  EXPECT_EQ(Read(driver).peer, PeerPath::kPcie);
  machine.access[0][2] = 0;
  driver.DeviceGetP2PAttribute = nullptr;  // an optional function
  EXPECT_EQ(Read(driver).peer, PeerPath::kPcie);
}

TEST(LinkFacts, ADriverThatFailsLeavesThemUnknown) {
  Driver driver = FakeDriver();
  driver.DeviceGetAttribute = [](int*, CUdevice_attribute, CUdevice) { return CUDA_ERROR_INVALID_VALUE; };
  driver.DeviceGetPCIBusId = [](char*, int, CUdevice) { return CUDA_ERROR_INVALID_DEVICE; };
  driver.DeviceGetCount = [](int*) { return CUDA_ERROR_NOT_INITIALIZED; };
  const LinkFacts facts = Read(driver);
  EXPECT_EQ(facts.memory_clock_khz, 0);
  EXPECT_FALSE(facts.current.known);
  EXPECT_EQ(facts.peer, PeerPath::kNone);
  EXPECT_TRUE(ArePlausible(EstimateFrom(facts)));
}

}  // namespace
}  // namespace gpuroom
