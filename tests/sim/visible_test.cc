// Which GPUs a process sees, and what a parent that only asked leaves to its children.
#include <dlfcn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <functional>

#include "device_names.h"
#include "sim_test.h"

namespace gpuroom::sim {
namespace {

using Numbers = std::vector<int>;

TEST(VisibleDevices, IsAListThatEndsWhereAnEntryNamesNoGpu) {
  EXPECT_EQ(VisibleDevices("2,0", 4), (Numbers{2, 0}));
  EXPECT_EQ(VisibleDevices("1gpu, 3", 4), (Numbers{1, 3}));
  EXPECT_EQ(VisibleDevices("0,4,1", 4), Numbers{0});
  EXPECT_EQ(VisibleDevices("1,-1,2", 4), Numbers{1});
  EXPECT_EQ(VisibleDevices("-1", 4), Numbers{});
  EXPECT_EQ(VisibleDevices("", 4), Numbers{});
  EXPECT_EQ(VisibleDevices("0,0", 4), std::nullopt);
}

TEST(VisibleDevices, TakesUuidsThatMayBeCutShort) {
  EXPECT_EQ(VisibleDevices(UuidText(3) + "," + UuidText(1), 4), (Numbers{3, 1}));
  EXPECT_EQ(VisibleDevices(UuidText(2), 1), Numbers{});
  EXPECT_EQ(VisibleDevices(UuidText(0).substr(0, 8), 1), Numbers{0});
  EXPECT_EQ(VisibleDevices(UuidText(0).substr(0, 8), 2), Numbers{});  // which of them is not said
  EXPECT_EQ(VisibleDevices("GPU-", 1), Numbers{});
  EXPECT_EQ(VisibleDevices(UuidText(1) + "," + UuidText(1), 4), std::nullopt);
}

// Every test is a process of its own, with two GPUs, in which nothing has used CUDA.
CUresult InitSeeing(const std::string& visible) {
  setenv("CUDA_VISIBLE_DEVICES", visible.c_str(), 1);
  return cuInit(0);
}

int Count() {
  int count = -1;
  EXPECT_EQ(cuDeviceGetCount(&count), CUDA_SUCCESS);
  return count;
}

std::string BusIdOf(CUdevice device) {
  char text[32] = {};
  EXPECT_EQ(cuDeviceGetPCIBusId(text, sizeof text, device), CUDA_SUCCESS);
  return text;
}

TEST(VisibleTest, TheOrderIsTheVariables) {
  ASSERT_EQ(InitSeeing("1,0"), CUDA_SUCCESS);
  EXPECT_EQ(Count(), 2);
  EXPECT_EQ(BusIdOf(0), "0000:11:00.0");
  EXPECT_EQ(BusIdOf(1), "0000:10:00.0");
  CUuuid uuid = {};
  ASSERT_EQ(cuDeviceGetUuid_v2(&uuid, 0), CUDA_SUCCESS);
  EXPECT_EQ(uuid.bytes[15], 1);
  CUdevice device = -1;
  EXPECT_EQ(cuDeviceGetByPCIBusId(&device, "0000:11:00.0"), CUDA_SUCCESS);
  EXPECT_EQ(device, 0);
}

TEST(VisibleTest, AHiddenGpuIsNotThere) {
  ASSERT_EQ(InitSeeing(UuidText(1)), CUDA_SUCCESS);
  EXPECT_EQ(Count(), 1);
  EXPECT_EQ(BusIdOf(0), "0000:11:00.0");
  CUdevice device = -1;
  EXPECT_EQ(cuDeviceGet(&device, 1), CUDA_ERROR_INVALID_DEVICE);
  EXPECT_EQ(cuDeviceGetByPCIBusId(&device, "0000:10:00.0"), CUDA_ERROR_INVALID_DEVICE);
}

TEST(VisibleTest, WithoutAVisibleGpuThereIsNone) {
  EXPECT_EQ(InitSeeing("-1"), CUDA_ERROR_NO_DEVICE);
  EXPECT_EQ(InitSeeing(""), CUDA_ERROR_NO_DEVICE);
  int count = 0;
  EXPECT_EQ(cuDeviceGetCount(&count), CUDA_ERROR_NOT_INITIALIZED);
}

TEST(VisibleTest, NvmlSeesAllAndKnowsWhoseTheMemoryIs) {
  ASSERT_EQ(InitSeeing("1"), CUDA_SUCCESS);
  CUcontext context = nullptr;
  ASSERT_EQ(cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
  ASSERT_EQ(cuCtxSetCurrent(context), CUDA_SUCCESS);
  CUdeviceptr address = 0;
  ASSERT_EQ(cuMemAlloc(&address, 8 * kMega), CUDA_SUCCESS);
  EXPECT_EQ(gpuroom_sim_machine_used(0), 0U);
  EXPECT_EQ(gpuroom_sim_machine_used(1), 8 * kMega);
  EXPECT_EQ(cuMemFree(address), CUDA_SUCCESS);
}

bool SendDescriptor(int socket, int fd) {
  char byte = 0;
  char space[CMSG_SPACE(sizeof fd)] = {};
  iovec bytes{&byte, 1};
  msghdr message{nullptr, 0, &bytes, 1, space, sizeof space, 0};
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  return sendmsg(socket, &message, 0) == 1;
}

int ReceiveDescriptor(int socket) {
  char byte = 0;
  int fd = -1;
  char space[CMSG_SPACE(sizeof fd)] = {};
  iovec bytes{&byte, 1};
  msghdr message{nullptr, 0, &bytes, 1, space, sizeof space, 0};
  const cmsghdr* header = recvmsg(socket, &message, 0) == 1 ? CMSG_FIRSTHDR(&message) : nullptr;
  if (header != nullptr) std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return fd;
}

// A descriptor of a chunk on the GPU `number`, made by another process that sees that one alone; -1: it
// failed.
int ChunkOfAnotherProcess(int number) {
  int ends[2] = {-1, -1};
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    CUmemAllocationProp prop = {};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    CUmemGenericAllocationHandle handle = 0;
    int fd = -1;
    const bool made = InitSeeing(std::to_string(number)) == CUDA_SUCCESS &&
                      cuMemCreate(&handle, kChunk, &prop, 0) == CUDA_SUCCESS &&
                      cuMemExportToShareableHandle(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                                   0) == CUDA_SUCCESS;
    _exit(made && SendDescriptor(ends[1], fd) ? 0 : 1);
  }
  close(ends[1]);
  const int fd = ReceiveDescriptor(ends[0]);
  close(ends[0]);
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  return fd;
}

CUresult Import(int fd, CUmemAllocationProp* prop) {
  CUmemGenericAllocationHandle handle = 0;
  const CUresult result = cuMemImportFromShareableHandle(
      &handle, reinterpret_cast<void*>(static_cast<intptr_t>(fd)), CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  close(fd);
  if (result != CUDA_SUCCESS) return result;
  EXPECT_EQ(cuMemGetAllocationPropertiesFromHandle(prop, handle), CUDA_SUCCESS);
  return cuMemRelease(handle);
}

TEST(VisibleTest, AChunkIsOnTheSameGpuForAProcessThatCountsThemOtherwise) {
  const int fd = ChunkOfAnotherProcess(1);
  ASSERT_EQ(InitSeeing("0,1"), CUDA_SUCCESS);
  CUmemAllocationProp prop = {};
  ASSERT_EQ(Import(fd, &prop), CUDA_SUCCESS);
  EXPECT_EQ(prop.location.type, CU_MEM_LOCATION_TYPE_DEVICE);
  EXPECT_EQ(prop.location.id, 1);
}

TEST(VisibleTest, AChunkOnAHiddenGpuIsNotImported) {
  const int fd = ChunkOfAnotherProcess(1);
  ASSERT_EQ(InitSeeing("0"), CUDA_SUCCESS);
  CUmemAllocationProp prop = {};
  EXPECT_NE(Import(fd, &prop), CUDA_SUCCESS);
}

// What `in_child` says in a child of this process, as its exit status.
int InChild(const std::function<int()>& in_child) {
  const pid_t child = fork();
  if (child == 0) _exit(in_child());
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(ForkTest, AChildOfAParentThatAskedForTheVersionUsesCuda) {
  int version = 0;
  ASSERT_EQ(cuDriverGetVersion(&version), CUDA_SUCCESS);
  const char* text = nullptr;
  ASSERT_EQ(cuGetErrorName(CUDA_SUCCESS, &text), CUDA_SUCCESS);
  EXPECT_EQ(InChild([] { return static_cast<int>(cuInit(0)); }), 0);
  EXPECT_EQ(InChild([] { return cuInit(0) == CUDA_SUCCESS ? Count() : 0; }), 2);
}

TEST(ForkTest, AChildOfAParentThatAskedNvmlUsesCuda) {
  void* library = dlopen(SIM_NVML_PATH, RTLD_NOW);
  ASSERT_NE(library, nullptr) << dlerror();
  const auto get = [library](const char* name) { return dlsym(library, name); };
  ASSERT_EQ(reinterpret_cast<int (*)()>(get("nvmlInit_v2"))(), 0);
  void* device = nullptr;
  ASSERT_EQ(reinterpret_cast<int (*)(unsigned, void**)>(get("nvmlDeviceGetHandleByIndex_v2"))(0, &device), 0);
  unsigned long long memory[3] = {};
  ASSERT_EQ(reinterpret_cast<int (*)(void*, void*)>(get("nvmlDeviceGetMemoryInfo"))(device, memory), 0);
  EXPECT_EQ(InChild([] { return static_cast<int>(cuInit(0)); }), 0);
}

TEST(ForkTest, AChildOfAParentWhoseCuInitFailedUsesCuda) {
  ASSERT_EQ(InitSeeing("-1"), CUDA_ERROR_NO_DEVICE);
  EXPECT_EQ(InChild([] { return static_cast<int>(InitSeeing("0")); }), 0);
}

}  // namespace
}  // namespace gpuroom::sim
