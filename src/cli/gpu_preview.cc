#include "cli/gpu_preview.h"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "cli/driver_advice.h"
#include "cli/hush.h"
#include "cli/sim_exec.h"
#include "driver/driver.h"
#include "driver/uuid.h"
#include "topology/gpu.h"
#include "topology/host_model.h"

namespace gpuroom {
namespace {

Failure NoDriver(std::string text) { return {kExitNoDriver, std::move(text)}; }

Failure DriverFailure(const Status& status) {
  const DriverProblem problem = ExplainDriver(status);
  return NoDriver(fmt::format("{}; {}", problem.what, problem.fix));
}

// `result` is of cuInit or of a call right after it.
Failure InitFailure(CUresult result) {
  if (result == CUDA_ERROR_NO_DEVICE) {
    return DriverFailure(Status(Code::kNotFound, "the NVIDIA driver finds no GPU", result));
  }
  return DriverFailure(Status(Code::kDriver, "the NVIDIA driver does not start", result));
}

// Every GPU of an initialised driver.
Failure ReadGpus(const Driver& driver, std::vector<GpuPreview::Gpu>* gpus) {
  int count = 0;
  CUresult result = driver.DeviceGetCount(&count);
  if (result == CUDA_SUCCESS && count == 0) result = CUDA_ERROR_NO_DEVICE;
  if (result != CUDA_SUCCESS) return InitFailure(result);
  for (int i = 0; i < count; ++i) {
    CUdevice device = 0;
    size_t bytes = 0;
    char name[256] = "";
    result = driver.DeviceGet(&device, i);
    if (result == CUDA_SUCCESS) result = driver.DeviceTotalMem(&bytes, device);
    if (result == CUDA_SUCCESS) result = driver.DeviceGetName(name, sizeof name, device);
    if (result != CUDA_SUCCESS) return InitFailure(result);
    CUuuid uuid = {};
    const bool named = driver.DeviceGetUuid(&uuid, device) == CUDA_SUCCESS;
    const auto has = [&](CUdevice_attribute attribute) {
      int value = 0;
      return driver.DeviceGetAttribute(&value, attribute, device) == CUDA_SUCCESS && value != 0;
    };
    gpus->push_back({name, bytes, named ? FormatUuid(uuid) : "",
                     has(CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES),
                     has(CU_DEVICE_ATTRIBUTE_INTEGRATED)});
  }
  return {};
}

nlohmann::json ToJson(const GpuPreview& preview) {
  nlohmann::json gpus = nlohmann::json::array();
  for (const GpuPreview::Gpu& gpu : preview.gpus)
    gpus.push_back({gpu.name, gpu.hbm, gpu.uuid, gpu.coherent, gpu.integrated});
  return {preview.failure.exit_code, preview.failure.text, preview.version, gpus};
}

// False for anything but what ToJson writes: the child may have died.
bool FromJson(const std::string& text, GpuPreview* preview) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_array() || json.size() != 4) return false;
  preview->failure = {json[0].get<int>(), json[1].get<std::string>()};
  preview->version = json[2].get<int>();
  for (const nlohmann::json& gpu : json[3]) {
    preview->gpus.push_back({gpu[0].get<std::string>(), gpu[1].get<uint64_t>(), gpu[2].get<std::string>(),
                             gpu[3].get<bool>(), gpu[4].get<bool>()});
  }
  return true;
}

std::string ReadAll(int fd) {
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return text;
    text.append(buffer, static_cast<size_t>(n));
  }
}

}  // namespace

Failure CheckSysroot(const std::string& sysroot) {
  if (sysroot.empty() || Sysroot(sysroot).IsDirectory("/")) return {};
  return {kExitUsage,
          fmt::format("the sysroot '{}' is not a directory; give one that holds proc and sys", sysroot)};
}

Failure NoProfile(const std::string& profile) {
  return {kExitUsage,
          fmt::format("--sim '{}' is not a profile; write a machine's name (h200, gh200, gh200-egm, gb200, "
                      "gb10, rtx4090, 8xh200) or sizes such as 2x80GiB,host=256GiB",
                      profile)};
}

Failure CheckDriver(int* version) {
  const Result<Driver> driver = BindDriver();
  *version = driver.ok() ? driver->version : 0;
  if (driver.ok()) return {};
  if (driver.status().code() == Code::kUnsupported) *version = driver.status().native();
  return DriverFailure(driver.status());
}

GpuPreview PreviewGpus() {
  GpuPreview preview;
  preview.failure = CheckDriver(&preview.version);
  if (preview.failure.failed()) return preview;
  const Result<Driver> driver = BindDriver();
  const CUresult result = driver->Init(0);
  preview.failure = result == CUDA_SUCCESS ? ReadGpus(*driver, &preview.gpus) : InitFailure(result);
  return preview;
}

GpuPreview PreviewFiles(const std::string& sysroot) {
  GpuPreview preview;
  const HostModel model = ReadHostModel(Sysroot(sysroot));
  for (const GpuHint& gpu : model.gpus) {
    const uint64_t hbm = model.MemoryOf(gpu);
    if (hbm > 0) preview.gpus.push_back({gpu.name, hbm, "", IsCoherent(gpu), gpu.integrated});
  }
  if (preview.gpus.empty()) {
    preview.failure = NoDriver(fmt::format("no file below '{}' gives the size of a GPU's memory", sysroot));
  }
  return preview;
}

// The driver's second cuInit looks again, as only the simulated one does.
bool ProfileHasNoGpu() {
  const Hush hush;
  const Result<Driver> driver = BindDriver();
  if (!driver.ok()) return false;
  unsetenv("CUDA_VISIBLE_DEVICES");
  return driver->Init(0) == CUDA_ERROR_NO_DEVICE;
}

GpuPreview PreviewSimulated(const std::string& profile) {
  GpuPreview preview;
  const Status entered = EnterSim(profile);
  if (!entered.ok()) {
    preview.failure = NoDriver(entered.what());
    return preview;
  }
  const Hush hush;  // the simulator says the same in its own words
  preview = PreviewGpus();
  const bool no_gpu =
      preview.failure.failed() && preview.gpus.empty() && preview.version >= kMinimumDriverVersion;
  if (no_gpu && ProfileHasNoGpu()) preview.failure = NoProfile(profile);
  return preview;
}

GpuPreview PreviewGpusApart(const std::string& sim_profile) {
  GpuPreview preview;
  int ends[2];
  if (pipe(ends) != 0) {
    preview.failure =
        NoDriver(fmt::format("a pipe cannot be made: {}; close some files", std::strerror(errno)));
    return preview;
  }
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    const GpuPreview seen = sim_profile.empty() ? PreviewGpus() : PreviewSimulated(sim_profile);
    const std::string text = ToJson(seen).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    // Less than a pipe holds, so one write takes it all.
    _exit(write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  close(ends[1]);
  const std::string text = child > 0 ? ReadAll(ends[0]) : "";
  close(ends[0]);
  if (child > 0) {
    while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  if (!FromJson(text, &preview)) {
    preview.failure =
        NoDriver("the NVIDIA driver stopped the process that asked it; run 'gpuroom doctor' to see why");
  }
  return preview;
}

}  // namespace gpuroom
