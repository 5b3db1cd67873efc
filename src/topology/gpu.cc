#include "topology/gpu.h"

#include "driver/uuid.h"

namespace gpuroom {
namespace {

constexpr double kC2cGigabytesPerSecond = 375;      // GH200, published, host to device
constexpr double kUnifiedGigabytesPerSecond = 273;  // GB10's LPDDR5X, published

// -1 where the driver does not know the attribute.
int Attribute(const Driver& driver, CUdevice device, CUdevice_attribute attribute) {
  int value = 0;
  return driver.DeviceGetAttribute(&value, attribute, device) == CUDA_SUCCESS ? value : -1;
}

bool Has(const Driver& driver, CUdevice device, CUdevice_attribute attribute) {
  return Attribute(driver, device, attribute) == 1;
}

Status ReadIdentity(const Driver& driver, Gpu* gpu) {
  char name[256] = "";
  CUresult result = driver.DeviceGetName(name, sizeof name, gpu->device);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuDeviceGetName failed");
  name[sizeof name - 1] = '\0';
  gpu->name = name;
  size_t total = 0;
  result = driver.DeviceTotalMem(&total, gpu->device);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuDeviceTotalMem failed");
  gpu->total_bytes = total;
  CUuuid uuid = {};
  if (driver.DeviceGetUuid(&uuid, gpu->device) == CUDA_SUCCESS) gpu->uuid = FormatUuid(uuid);
  char address[32] = "";
  if (driver.DeviceGetPCIBusId(address, sizeof address, gpu->device) == CUDA_SUCCESS) {
    address[sizeof address - 1] = '\0';
    gpu->pci_address = NormalizePciAddress(address);
  }
  return Status();
}

void ReadAttributes(const Driver& driver, Gpu* gpu) {
  const CUdevice device = gpu->device;
  gpu->compute_major = Attribute(driver, device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
  gpu->compute_minor = Attribute(driver, device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  gpu->host_numa_node = Attribute(driver, device, CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID);
  if (Has(driver, device, CU_DEVICE_ATTRIBUTE_NUMA_CONFIG)) {
    gpu->hbm_numa_node = Attribute(driver, device, CU_DEVICE_ATTRIBUTE_NUMA_ID);
  }
  gpu->compute_mode = Attribute(driver, device, CU_DEVICE_ATTRIBUTE_COMPUTE_MODE);
  gpu->integrated = Has(driver, device, CU_DEVICE_ATTRIBUTE_INTEGRATED);
  gpu->pageable_memory_access = Has(driver, device, CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS);
  gpu->uses_host_page_tables =
      Has(driver, device, CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES);
  gpu->concurrent_managed = Has(driver, device, CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS);
  gpu->vmm = Has(driver, device, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED);
  gpu->host_numa_vmm = Has(driver, device, CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED);
  gpu->memory_pools = Has(driver, device, CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED);
  gpu->posix_handles = Has(driver, device, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED);
  gpu->fabric_handles = Has(driver, device, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED);
  gpu->rdma_with_vmm = Has(driver, device, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED);
}

void ReadPeers(const Driver& driver, std::vector<Gpu>* gpus) {
  for (Gpu& gpu : *gpus) {
    for (const Gpu& other : *gpus) {
      if (other.ordinal == gpu.ordinal) continue;
      GpuPeer peer;
      peer.ordinal = other.ordinal;
      int value = 0;
      peer.access =
          driver.DeviceCanAccessPeer(&value, gpu.device, other.device) == CUDA_SUCCESS && value == 1;
      if (driver.DeviceGetP2PAttribute != nullptr &&
          driver.DeviceGetP2PAttribute(&value, CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK, gpu.device,
                                       other.device) == CUDA_SUCCESS) {
        peer.performance_rank = value;
      }
      gpu.peers.push_back(peer);
    }
  }
}

HostLink LinkOf(bool integrated, bool coherent, const std::string& pci_address, const Sysroot& root) {
  HostLink link;
  if (integrated) {
    link.kind = HostLinkKind::kUnified;
    link.gigabytes_per_second = kUnifiedGigabytesPerSecond;
    return link;
  }
  if (coherent) {
    link.kind = HostLinkKind::kC2c;
    link.gigabytes_per_second = kC2cGigabytesPerSecond;
    return link;
  }
  const PciGpu pci = ReadPciGpu(root, pci_address);
  link.current = pci.current;
  link.maximum = pci.maximum;
  if (!pci.current.known) return link;
  link.kind = HostLinkKind::kPcie;
  link.gigabytes_per_second = pci.current.GigabytesPerSecond();
  return link;
}

Status StartDriver(const Driver& driver, int* count) {
  CUresult result = driver.Init(0);
  if (result == CUDA_ERROR_NO_DEVICE) return Status(Code::kNotFound, "the driver finds no GPU", result);
  if (result != CUDA_SUCCESS) return Status(Code::kUnsupported, "the driver cannot start (cuInit)", result);
  result = driver.DeviceGetCount(count);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuDeviceGetCount failed");
  if (*count <= 0) return Status(Code::kNotFound, "the driver finds no GPU");
  return Status();
}

}  // namespace

HostLink ReadHostLink(const Gpu& gpu, const Sysroot& root) {
  return LinkOf(gpu.integrated, gpu.uses_host_page_tables, gpu.pci_address, root);
}

HostLink ReadHostLink(const GpuHint& hint, const Sysroot& root) {
  return LinkOf(hint.integrated, IsCoherent(hint), hint.pci_address, root);
}

Result<std::vector<Gpu>> ReadGpus(const Driver& driver, const Sysroot& root) {
  int count = 0;
  const Status started = StartDriver(driver, &count);
  if (!started.ok()) return started;
  std::vector<Gpu> gpus;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    Gpu gpu;
    gpu.ordinal = ordinal;
    const CUresult result = driver.DeviceGet(&gpu.device, ordinal);
    if (result != CUDA_SUCCESS) return DriverStatus(result, "cuDeviceGet failed");
    const Status status = ReadIdentity(driver, &gpu);
    if (!status.ok()) return status;
    ReadAttributes(driver, &gpu);
    gpu.link = ReadHostLink(gpu, root);
    gpus.push_back(std::move(gpu));
  }
  ReadPeers(driver, &gpus);
  return gpus;
}

std::vector<GpuHint> HintsOf(const std::vector<Gpu>& gpus) {
  std::vector<GpuHint> hints;
  for (const Gpu& gpu : gpus) {
    GpuHint hint;
    hint.name = gpu.name;
    hint.bytes = gpu.total_bytes;
    hint.pci_address = gpu.pci_address;
    hint.hbm_node = gpu.hbm_numa_node;
    hint.coherence_known = true;
    hint.coherent = gpu.uses_host_page_tables;
    hint.integrated = gpu.integrated;
    hints.push_back(hint);
  }
  return hints;
}

}  // namespace gpuroom
