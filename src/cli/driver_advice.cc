#include "cli/driver_advice.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <link.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/env.h"
#include "cli/status_text.h"
#include "topology/sysroot.h"

namespace gpuroom {
namespace {

namespace fs = std::filesystem;

constexpr char kLibrary[] = "libcuda.so.1";
constexpr int kFirstMajor = 580;  // the first driver with CUDA 13

bool IsSame(const fs::path& one, const fs::path& other) {
  std::error_code error;
  return one == other || fs::equivalent(one, other, error);
}

// Whether the variable `name`, a list with any of `separators` between its parts, has `path`.
bool Lists(const char* name, const char* separators, const fs::path& path) {
  const char* value = std::getenv(name);
  std::string_view rest = value == nullptr ? "" : value;
  while (!rest.empty()) {
    const std::string_view part = rest.substr(0, rest.find_first_of(separators));
    if (!part.empty() && IsSame(std::string(part), path)) return true;
    rest.remove_prefix(std::min(part.size() + 1, rest.size()));
  }
  return false;
}

// The file by which ldconfig has `folder`; empty: none names it.
std::string ConfigurationWith(const Sysroot& root, const fs::path& folder) {
  std::vector<std::string> files = {"/etc/ld.so.conf"};
  for (const std::string& name : root.List("/etc/ld.so.conf.d")) files.push_back("/etc/ld.so.conf.d/" + name);
  for (const std::string& file : files) {
    const std::string text = root.Read(file).value_or("");
    for (const std::string_view line : SplitLines(text)) {
      const std::string_view path = Trim(line);
      if (path.starts_with('/') && IsSame(std::string(path), folder)) return file;
    }
  }
  return "";
}

std::string SourceOf(const fs::path& path) {
  if (Lists("LD_PRELOAD", ": ", path)) return "LD_PRELOAD";
  if (Lists("LD_LIBRARY_PATH", ":;", path.parent_path())) return "LD_LIBRARY_PATH";
  return ConfigurationWith(Sysroot("/"), path.parent_path());
}

// "580.95.05" of ".../libcuda.so.580.95.05", which libcuda.so.1 is a link to.
std::string VersionOf(const fs::path& path) {
  std::error_code error;
  const std::string name = fs::canonical(path, error).filename().string();
  const size_t at = name.find(".so.");
  const std::string version = at == std::string::npos ? "" : name.substr(at + 4);
  return version.find('.') == std::string::npos ? "" : version;
}

// "libcuda.so.1 is /x/libcuda.so.1, of version 575.57.08, to which LD_LIBRARY_PATH led the loader"
std::string Loaded(const DriverLibrary& library) {
  std::string text = fmt::format("{} is {}", kLibrary, library.path);
  if (!library.version.empty()) text += fmt::format(", of version {}", library.version);
  if (!library.source.empty()) text += fmt::format(", to which {} led the loader", library.source);
  return text;
}

// How to have the loader find another one.
std::string TakeOut(const DriverLibrary& library) {
  const std::string folder = fs::path(library.path).parent_path().string();
  if (library.source == "LD_PRELOAD") return "take it out of LD_PRELOAD";
  if (library.source == "LD_LIBRARY_PATH") return fmt::format("take {} out of LD_LIBRARY_PATH", folder);
  if (!library.source.empty()) {
    return fmt::format("take {} out of {} and run ldconfig", folder, library.source);
  }
  return "move it away, so that the driver's own is found";
}

std::string Blame(const DriverLibrary& library, std::string_view is) {
  return fmt::format("{}{}; {}", Loaded(library), is, TakeOut(library));
}

std::string FixForNoLibrary(const DriverLibrary& library, const NvidiaFiles& kernel) {
  if (library.failure.find("No such file") == std::string::npos) {
    return "remove that file or repair it, by installing the NVIDIA driver 580 or newer again";
  }
  if (!kernel.version.empty()) {
    return fmt::format(
        "the kernel has driver {}, so its library is missing here: in a container give --gpus all and "
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility, else install the driver's CUDA library",
        kernel.version);
  }
  return "install the NVIDIA driver 580 or newer, give the container its GPUs (--gpus all), or try --sim "
         "h200";
}

std::string FixForOldLibrary(const DriverLibrary& library, const NvidiaFiles& kernel) {
  if (kernel.major >= kFirstMajor) {
    return fmt::format("the kernel has driver {}, so an older library stands in front of its own: {}",
                       kernel.version, Blame(library, ""));
  }
  if (const char* profile = std::getenv(env::kSim)) {
    return fmt::format("in the profile '{}' leave driver= out, or give that of driver 580, 13000, or newer",
                       profile);
  }
  return "install driver 580 or newer";
}

std::string FixForNoDevice() {
  if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES")) {
    return fmt::format(
        "CUDA_VISIBLE_DEVICES is '{}', which leaves no GPU; unset it, or list GPUs that 'nvidia-smi -L' "
        "shows",
        visible);
  }
  const char* given = std::getenv("NVIDIA_VISIBLE_DEVICES");
  const std::string_view container = given == nullptr ? "all" : given;
  if (container.empty() || container == "void" || container == "none") {
    return fmt::format(
        "NVIDIA_VISIBLE_DEVICES is '{}', so this container has no GPU; start it with --gpus all", container);
  }
  return "see whether 'nvidia-smi -L' lists a GPU; if not, check /dev/nvidia0 and 'dmesg', and in a "
         "container "
         "start it with --gpus all";
}

std::string FixForMismatch(const DriverLibrary& library, const NvidiaFiles& kernel) {
  const std::string kernel_is =
      kernel.version.empty() ? "" : fmt::format(", and the kernel has driver {}", kernel.version);
  return fmt::format(
      "{}{}: they must be of one version. After an update of the driver reboot, or load its kernel modules "
      "again; "
      "where the library is not the driver's own, {}",
      Loaded(library), kernel_is, TakeOut(library));
}

// By what cuInit, or a call after it, answered.
std::string FixForResult(CUresult result, const DriverLibrary& library, const NvidiaFiles& kernel) {
  switch (result) {
    case CUDA_ERROR_NO_DEVICE: return FixForNoDevice();
    case CUDA_ERROR_STUB_LIBRARY:
      return Blame(library, ", a stub that programs are linked with and that runs none");
    case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH: return FixForMismatch(library, kernel);
    case CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE:
      return Blame(library,
                   ", of a cuda-compat package, which serves data-centre GPUs alone and not this one");
    case CUDA_ERROR_SYSTEM_NOT_READY:
      return "GPUs joined by NVSwitch need the fabric manager in the driver's version: 'systemctl start "
             "nvidia-fabricmanager', and see its log; with confidential computing run 'nvidia-smi "
             "conf-compute "
             "-srs 1' first";
    case CUDA_ERROR_OPERATING_SYSTEM:
      return "the driver was refused something by the system: see that /dev/nvidiactl, /dev/nvidia0 and "
             "/dev/nvidia-uvm are there and may be opened; in a container start it anew with --gpus all";
    case CUDA_ERROR_DEVICE_UNAVAILABLE: return FixForContext(result, -1, 0);
    case CUDA_ERROR_OUT_OF_MEMORY:
      return "host memory or address space is short: look at 'ulimit -v', the control group's limit and "
             "'free'";
    case CUDA_ERROR_NOT_INITIALIZED:
    case CUDA_ERROR_UNKNOWN:
      return "the module nvidia-uvm is often missing: run 'nvidia-modprobe -u -c 0' as root, see 'dmesg' for "
             "NVRM and Xid, and reboot after an update of the driver";
    default: return "see 'dmesg' for the driver's messages (NVRM, Xid), and whether nvidia-smi works";
  }
}

bool IsOldLibrary(const Status& status) {
  return status.code() == Code::kUnsupported && status.native() >= 1000;
}

std::string DescribeProblem(const Status& status, const DriverLibrary& library, const NvidiaFiles& kernel) {
  if (library.path.empty() && !library.failure.empty()) {
    return library.failure.find("No such file") == std::string::npos
               ? fmt::format("{} cannot be loaded ({})", kLibrary, library.failure)
               : fmt::format("{} was not found", kLibrary);
  }
  if (IsOldLibrary(status)) {
    const bool by_library = kernel.major >= kFirstMajor;
    return fmt::format("{} older than CUDA 13.0 (it serves CUDA {}.{})",
                       by_library ? "libcuda.so.1 is" : "the NVIDIA driver is", status.native() / 1000,
                       status.native() % 1000 / 10);
  }
  if (status.code() == Code::kDriver && status.native() == 0) {
    return fmt::format("{} is not usable ({})", kLibrary, status.what());
  }
  return DescribeStatus(status);
}

}  // namespace

DriverLibrary FindDriverLibrary() {
  DriverLibrary library;
  void* handle = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);  // never closed: drivers do not survive that
  if (handle == nullptr) {
    const char* error = dlerror();
    library.failure = error != nullptr ? error : "the loader does not say why";
    return library;
  }
  link_map* map = nullptr;
  if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || map == nullptr) return library;
  library.path = map->l_name;
  library.version = VersionOf(library.path);
  library.source = SourceOf(library.path);
  return library;
}

std::string DescribeSource(const DriverLibrary& library) {
  if (library.source.empty()) return "The loader found it on its own search path.";
  return fmt::format("{} led the loader there.", library.source);
}

DriverProblem ExplainDriver(const Status& status, const DriverLibrary& library, const NvidiaFiles& kernel) {
  DriverProblem problem{DescribeProblem(status, library, kernel), ""};
  if (library.path.empty() && !library.failure.empty()) {
    problem.fix = FixForNoLibrary(library, kernel);
  } else if (IsOldLibrary(status)) {
    problem.fix = FixForOldLibrary(library, kernel);
  } else if (status.code() == Code::kDriver && status.native() == 0) {
    problem.fix = Blame(library, ", which is not NVIDIA's driver");
  } else {
    const bool none = status.code() == Code::kNotFound;
    problem.fix =
        FixForResult(none ? CUDA_ERROR_NO_DEVICE : static_cast<CUresult>(status.native()), library, kernel);
  }
  return problem;
}

DriverProblem ExplainDriver(const Status& status) {
  return ExplainDriver(status, FindDriverLibrary(), ReadNvidiaFiles(Sysroot("/")));
}

std::string FixForContext(CUresult result, int compute_mode, int ordinal) {
  if (result == CUDA_ERROR_OUT_OF_MEMORY) {
    return "other processes leave no memory for a context (some 500 MiB); see nvidia-smi for who has it";
  }
  if (result != CUDA_ERROR_DEVICE_UNAVAILABLE) return "";
  if (compute_mode == CU_COMPUTEMODE_PROHIBITED) {
    return fmt::format(
        "its compute mode lets no process use it; as root set another with 'nvidia-smi -i {} -c DEFAULT'",
        ordinal);
  }
  if (compute_mode == CU_COMPUTEMODE_EXCLUSIVE_PROCESS) {
    return fmt::format(
        "its compute mode is for one process alone, and another has it: end that process (nvidia-smi lists "
        "it), or as root set another mode with 'nvidia-smi -i {} -c DEFAULT'",
        ordinal);
  }
  return "see in 'nvidia-smi -q -d COMPUTE,PIDS' whether the compute mode is exclusive and another process "
         "has "
         "the GPU; "
         "if neither, see 'dmesg' for Xid: the GPU may need a reset";
}

}  // namespace gpuroom
