// What is said of a CUDA driver that cannot be used, by all that is known of it.
#include "cli/driver_advice.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace gpuroom {
namespace {

bool Has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

NvidiaFiles Kernel(const char* version, int major) {
  NvidiaFiles files;
  files.version = version;
  files.major = major;
  return files;
}

DriverLibrary Library(const char* path, const char* version, const char* source) {
  return {path, version, source, ""};
}

TEST(DriverAdvice, AnOldLibraryInFrontOfANewDriverIsToBlame) {
  const DriverProblem problem =
      ExplainDriver(Status(Code::kUnsupported, "old", 12080),
                    Library("/opt/cuda/compat/libcuda.so.1", "570.86.15", "/etc/ld.so.conf.d/00-compat.conf"),
                    Kernel("580.95.05", 580));
  EXPECT_TRUE(Has(problem.what, "12.8")) << problem.what;
  for (const char* part : {"580.95.05", "/opt/cuda/compat/libcuda.so.1", "570.86.15",
                           "/etc/ld.so.conf.d/00-compat.conf", "ldconfig"}) {
    EXPECT_TRUE(Has(problem.fix, part)) << problem.fix;
  }
  EXPECT_FALSE(Has(problem.fix, "install")) << problem.fix;
}

TEST(DriverAdvice, AnOldDriverIsToBeReplaced) {
  for (const NvidiaFiles& kernel : {Kernel("570.86.15", 570), Kernel("", 0)}) {
    const DriverProblem problem =
        ExplainDriver(Status(Code::kUnsupported, "old", 12080), Library("/lib/libcuda.so.1", "", ""), kernel);
    EXPECT_EQ(problem.fix, "install driver 580 or newer");
    EXPECT_TRUE(Has(problem.what, "12.8"));
  }
}

TEST(DriverAdvice, AKernelDriverWithoutItsLibraryIsAContainersCapability) {
  const DriverLibrary none{"", "", "",
                           "libcuda.so.1: cannot open shared object file: No such file or directory"};
  const Status status(Code::kNotFound, "not found");
  EXPECT_TRUE(Has(ExplainDriver(status, none, Kernel("580.95.05", 580)).fix, "NVIDIA_DRIVER_CAPABILITIES"));
  EXPECT_TRUE(Has(ExplainDriver(status, none, Kernel("", 0)).fix, "580 or newer"));
}

TEST(DriverAdvice, AStubThatRefusesItsVersionIsAStub) {
  const DriverProblem problem = ExplainDriver(
      Status(Code::kDriver, "cuDriverGetVersion failed", CUDA_ERROR_STUB_LIBRARY),
      Library("/usr/local/cuda/lib64/stubs/libcuda.so.1", "", "LD_PRELOAD"), Kernel("580.95.05", 580));
  EXPECT_TRUE(Has(problem.fix, "/usr/local/cuda/lib64/stubs/libcuda.so.1")) << problem.fix;
  EXPECT_TRUE(Has(problem.fix, "stub")) << problem.fix;
  EXPECT_TRUE(Has(problem.fix, "out of LD_PRELOAD")) << problem.fix;
}

TEST(DriverAdvice, AMismatchTellsBothVersions) {
  const DriverProblem problem = ExplainDriver(
      Status(Code::kUnsupported, "the driver cannot start (cuInit)", CUDA_ERROR_SYSTEM_DRIVER_MISMATCH),
      Library("/usr/lib/libcuda.so.1", "580.82.07", ""), Kernel("580.95.05", 580));
  EXPECT_TRUE(Has(problem.fix, "580.82.07")) << problem.fix;
  EXPECT_TRUE(Has(problem.fix, "580.95.05")) << problem.fix;
}

TEST(DriverAdvice, TheComputeModeDecidesWhatHelpsAContext) {
  const CUresult refused = CUDA_ERROR_DEVICE_UNAVAILABLE;
  EXPECT_TRUE(Has(FixForContext(refused, CU_COMPUTEMODE_PROHIBITED, 3), "nvidia-smi -i 3 -c DEFAULT"));
  EXPECT_TRUE(Has(FixForContext(refused, CU_COMPUTEMODE_EXCLUSIVE_PROCESS, 0), "end that process"));
  EXPECT_TRUE(Has(FixForContext(refused, CU_COMPUTEMODE_DEFAULT, 0), "Xid"));
  EXPECT_TRUE(Has(FixForContext(CUDA_ERROR_OUT_OF_MEMORY, -1, 0), "nvidia-smi"));
  EXPECT_EQ(FixForContext(CUDA_ERROR_UNKNOWN, -1, 0), "");
}

}  // namespace
}  // namespace gpuroom
