#include "tier/host_place.h"

#include <cstdio>

#include "base/log.h"
#include "tier/chunk.h"
#include "tier/device_tier.h"

namespace gpuroom {
namespace {

CUresult Try(const Driver& driver, const HostPlace& place) {
  CUmemGenericAllocationHandle handle = 0;
  const CUresult result = CreateAt(driver, place, kGranularity, &handle);
  if (result == CUDA_SUCCESS) driver.MemRelease(handle);
  return result;
}

HostPlace Anywhere(int node) { return {CU_MEM_LOCATION_TYPE_HOST, node, CU_MEM_HANDLE_TYPE_NONE, false}; }

void TellElsewhere(int node, CUresult why, const HostPlace& place) {
  char where[32] = "where the driver chooses";
  if (place.type == CU_MEM_LOCATION_TYPE_HOST_NUMA) std::snprintf(where, sizeof where, "node %d", place.node);
  Log(LogLevel::kInfo, "the driver gives no host memory on NUMA node %d (%s); it comes from %s", node,
      ErrorName(why), where);
}

void TellRefused(int node, CUresult why) {
  const char* cause = why == CUDA_ERROR_OUT_OF_MEMORY
                          ? "there is no memory to be had on any node"
                          : "in a container, the right to bind memory may be missing: --cap-add SYS_NICE";
  Log(LogLevel::kWarn,
      "the driver creates no host memory (%s on NUMA node %d; %s): the program has HBM alone", ErrorName(why),
      node, cause);
}

}  // namespace

HostPlace NodePlace(const Driver& driver, int node) {
  return {CU_MEM_LOCATION_TYPE_HOST_NUMA, node, ExportableHandleType(driver, 0), false};
}

CUresult CreateAt(const Driver& driver, const HostPlace& place, uint64_t bytes,
                  CUmemGenericAllocationHandle* handle) {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location.type = place.type;
  properties.location.id = place.type == CU_MEM_LOCATION_TYPE_HOST_NUMA ? place.node : 0;
  properties.requestedHandleTypes = place.shareable;
  return driver.MemCreate(handle, bytes, &properties, 0);
}

HostPlace FindHostPlace(const Driver& driver, int node, const std::function<std::vector<int>()>& others) {
  HostPlace home = NodePlace(driver, node);
  const CUresult why = Try(driver, home);
  // What says nothing of this place would say the same of the others.
  if (why == CUDA_SUCCESS || !RefusesMemory(why)) return home;
  std::vector<HostPlace> places;
  for (const int other : others()) places.push_back(NodePlace(driver, other));
  places.push_back(Anywhere(node));
  for (const HostPlace& place : places) {
    if (Try(driver, place) != CUDA_SUCCESS) continue;
    TellElsewhere(node, why, place);
    return place;
  }
  TellRefused(node, why);
  home.refused = true;
  return home;
}

}  // namespace gpuroom
