#include "driver_program.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace gpuroom::bench {
namespace {

constexpr int kSkip = 77;
constexpr unsigned kThreads = 512;
constexpr unsigned kBlocks = 132 * 4;

[[noreturn]] void Stop(int status, const std::string& sentence) {
  std::fprintf(stderr, "%s\n", sentence.c_str());
  if (status == kSkip) std::printf("{\"skip\": \"%s\"}\n", sentence.c_str());
  std::exit(status);
}

void* Find(void* library, const char* symbol, const char* name, int version, Lookup lookup) {
  if (lookup == Lookup::kDlsym) return dlsym(library, symbol);
  using GetProcAddress = CUresult (*)(const char*, void**, int, cuuint64_t, CUdriverProcAddressQueryResult*);
  auto get = reinterpret_cast<GetProcAddress>(dlsym(library, "cuGetProcAddress_v2"));
  void* found = nullptr;
  if (get == nullptr || get(name, &found, version, CU_GET_PROC_ADDRESS_DEFAULT, nullptr) != CUDA_SUCCESS) {
    return nullptr;
  }
  return found;
}

std::string Quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += (c == '\n') ? ' ' : c;
  }
  return out + '"';
}

}  // namespace

Api LoadApi(Lookup lookup) {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) Stop(kSkip, "there is no libcuda.so.1 here");
  Api api;
#define GPUROOM_PROGRAM_FIND(member, symbol, name, version) \
  api.member = reinterpret_cast<decltype(api.member)>(Find(library, #symbol, name, version, lookup));
  GPUROOM_PROGRAM_FUNCTIONS(GPUROOM_PROGRAM_FIND)
#undef GPUROOM_PROGRAM_FIND
  return api;
}

void CheckResult(CUresult result, const char* call) {
  if (result == CUDA_SUCCESS) return;
  Stop(1, std::string(call) + " failed with CUDA error " + std::to_string(static_cast<int>(result)));
}

Program::Program(Lookup lookup, int device) : api_(LoadApi(lookup)) {
  if (api_.Init == nullptr || api_.Init(0) != CUDA_SUCCESS) Stop(kSkip, "cuInit failed: no usable GPU");
  int count = 0;
  GPUROOM_CHECK(api_.DeviceGetCount(&count));
  if (device >= count) Stop(kSkip, "there is no device " + std::to_string(device));
  GPUROOM_CHECK(api_.DeviceGet(&device_, device));
  GPUROOM_CHECK(api_.PrimaryRetain(&context_, device_));
  GPUROOM_CHECK(api_.CtxSetCurrent(context_));
  GPUROOM_CHECK(api_.StreamCreate(&stream_, CU_STREAM_NON_BLOCKING));
}

void Program::LoadKernels() {
  CUmodule module = nullptr;
  GPUROOM_CHECK(api_.ModuleLoadData(&module, samples::KernelsPtx()));
  GPUROOM_CHECK(api_.ModuleGetFunction(&fill_, module, "gpuroom_fill"));
  GPUROOM_CHECK(api_.ModuleGetFunction(&sum_, module, "gpuroom_sum"));
  GPUROOM_CHECK(api_.ModuleGetFunction(&verify_, module, "gpuroom_verify"));
}

void Program::Launch(CUfunction function, void** arguments, CUstream stream) {
  GPUROOM_CHECK(api_.LaunchKernel(function, kBlocks, 1, 1, kThreads, 1, 1, 0, stream, arguments, nullptr));
}

void Program::Fill(CUdeviceptr address, uint64_t bytes, uint64_t seed, CUstream stream) {
  uint64_t words = bytes / sizeof(uint64_t);
  void* arguments[] = {&address, &words, &seed};
  Launch(fill_, arguments, stream);
}

void Program::Sum(CUdeviceptr address, uint64_t bytes, CUdeviceptr out, CUstream stream) {
  uint64_t words = bytes / sizeof(uint64_t);
  void* arguments[] = {&address, &words, &out};
  Launch(sum_, arguments, stream);
}

void Program::Verify(CUdeviceptr address, uint64_t bytes, uint64_t seed, CUdeviceptr bad, CUstream stream) {
  uint64_t words = bytes / sizeof(uint64_t);
  void* arguments[] = {&address, &words, &seed, &bad};
  Launch(verify_, arguments, stream);
}

uint64_t Program::ReadWord(CUdeviceptr address) {
  uint64_t word = 0;
  GPUROOM_CHECK(api_.StreamSynchronize(stream_));
  GPUROOM_CHECK(api_.MemcpyDtoH(&word, address, sizeof word));
  return word;
}

uint64_t Mix(uint64_t x) {
  uint64_t z = x + 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

namespace {
using Describe = decltype(&gpuroom_describe);
Describe FindDescribe() {
  static const Describe describe = reinterpret_cast<Describe>(dlsym(RTLD_DEFAULT, "gpuroom_describe"));
  return describe;
}
}  // namespace

bool HasGpuroom() { return FindDescribe() != nullptr; }

int64_t HostBytes(CUdeviceptr address) {
  gpuroom_placement placement = {};
  if (!HasGpuroom() || FindDescribe()(address, &placement, sizeof placement) != 0) return -1;
  return static_cast<int64_t>(placement.host_bytes);
}

void Report::Figure(const std::string& name, double value) {
  char number[32];
  std::snprintf(number, sizeof number, "%.12g", value);
  figures_ += (figures_.empty() ? "" : ", ") + Quoted(name) + ": " + number;
}

bool Report::Check(const std::string& name, bool ok, const std::string& detail) {
  checks_ += std::string(checks_.empty() ? "" : ", ") + "{\"name\": " + Quoted(name) +
             ", \"ok\": " + (ok ? "true" : "false") + ", \"detail\": " + Quoted(detail) + "}";
  if (!ok) {
    failed_ = true;
    std::fprintf(stderr, "FAIL %s: %s\n", name.c_str(), detail.c_str());
  }
  return ok;
}

int Report::Finish() {
  std::printf("{\"program\": %s, \"checks\": [%s], \"figures\": {%s}}\n", Quoted(program_).c_str(),
              checks_.c_str(), figures_.c_str());
  std::fflush(stdout);
  return failed_ ? 1 : 0;
}

Options::Options(int argc, char** argv, const std::vector<std::string>& known)
    : words_(argv + 1, argv + argc) {
  for (const std::string& word : words_) {
    bool ok = std::any_of(known.begin(), known.end(),
                          [&](const std::string& name) { return word.rfind("--" + name + "=", 0) == 0; });
    if (ok) continue;
    std::string names;
    for (const std::string& name : known) names += " --" + name + "=";
    Stop(2, "'" + word + "' is not an option; this program takes" + names);
  }
}

std::string Options::Text(const std::string& name, const std::string& fallback) const {
  std::string prefix = "--" + name + "=";
  for (const std::string& word : words_) {
    if (word.rfind(prefix, 0) == 0) return word.substr(prefix.size());
  }
  return fallback;
}

uint64_t Options::Bytes(const std::string& name, uint64_t fallback) const {
  std::string text = Text(name, "");
  if (text.empty()) return fallback;
  char* end = nullptr;
  double value = std::strtod(text.c_str(), &end);
  std::string unit = end;
  for (int shift = 0; const char* suffix : {"", "KiB", "MiB", "GiB"}) {
    if (unit == suffix) return static_cast<uint64_t>(value * static_cast<double>(uint64_t{1} << shift));
    shift += 10;
  }
  Stop(2, "'" + text + "' is not a size; write 512MiB, 6GiB or a number of bytes");
}

uint64_t Options::Number(const std::string& name, uint64_t fallback) const {
  std::string text = Text(name, "");
  return text.empty() ? fallback : std::strtoull(text.c_str(), nullptr, 10);
}

Lookup Options::LookupKind() const {
  std::string kind = Text("lookup", "dlsym");
  if (kind != "dlsym" && kind != "procaddress") Stop(2, "--lookup is dlsym or procaddress");
  return kind == "dlsym" ? Lookup::kDlsym : Lookup::kProcAddress;
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace gpuroom::bench
