#include "gpuroom/torch_memory_saver.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "base/env.h"
#include "base/log.h"
#include "capi/answer.h"
#include "capi/regions.h"
#include "capi/sleep_request.h"
#include "gpuroom/torch_allocator.h"
#include "runtime/intent.h"
#include "sleep/read_backup.h"

namespace gpuroom {
namespace {

// Of what a backup holds.
struct Copy {
  std::shared_ptr<uint8_t[]> bytes;
  uint64_t size;
};

// Whether copies stay, at their addresses, when their memory is resumed.
std::atomic<bool>& Retained() {
  static std::atomic<bool> retained{TmsSays("TMS_RETAIN_CPU_BACKUP")};
  return retained;
}

std::mutex g_mutex;  // of the following; not held on the way into the runtime
std::string g_directory;
std::multimap<uint64_t, Copy> g_copies;  // of paused memory, by address

std::string DiskDirectory() {
  const std::lock_guard lock(g_mutex);
  if (!g_directory.empty()) return g_directory;
  const char* inherited = env::Find("TMS_DISK_BACKUP_DIR");
  return inherited == nullptr ? "" : inherited;
}

int Told(const char* what, const char* tag, int result) {
  if (result == GPUROOM_OK) return 0;
  Log(LogLevel::kError, "%s of %s%s failed: %s", what,
      tag == nullptr ? "all regions" : "regions with the tag ", tag == nullptr ? "" : tag,
      gpuroom_last_error());
  return -1;
}

std::vector<uint64_t> CopiedAddresses() {
  const std::lock_guard lock(g_mutex);
  std::vector<uint64_t> addresses;
  for (const auto& [address, copy] : g_copies) addresses.push_back(address);
  return addresses;
}

// Of what is not asleep any more.
void DropCopies() {
  const Entry rt(true);
  if (!rt) return;
  for (const uint64_t address : CopiedAddresses()) {
    if (rt->IsAsleep(address)) continue;
    const std::lock_guard lock(g_mutex);
    g_copies.erase(address);
  }
}

// The same bytes as the program has them already, or these: pointers that it has stay valid. A copy that was
// retained takes the new contents, at its address.
uint8_t* KeepCopy(uint64_t address, Copy copy) {
  const std::lock_guard lock(g_mutex);
  const auto [begin, end] = g_copies.equal_range(address);
  for (auto earlier = begin; earlier != end; ++earlier) {
    const Copy& known = earlier->second;
    if (known.size != copy.size) continue;
    if (Retained()) std::memcpy(known.bytes.get(), copy.bytes.get(), copy.size);
    if (Retained() || std::memcmp(known.bytes.get(), copy.bytes.get(), copy.size) == 0)
      return known.bytes.get();
  }
  return g_copies.emplace(address, std::move(copy))->second.bytes.get();
}

Status CopyBackup(uint64_t address, uint64_t bytes, uint8_t* out) {
  const Entry rt(true);
  return rt ? ReadBackup(*rt, address, bytes, out) : Status(Code::kUnsupported, "no gpuroom in this process");
}

// What was retained of memory that is paused has its contents again. Of memory that is awake it stays as it
// was.
void RefreshCopies() {
  std::vector<std::pair<uint64_t, Copy>> copies;
  {
    const std::lock_guard lock(g_mutex);
    copies.assign(g_copies.begin(), g_copies.end());
  }
  for (const auto& [address, copy] : copies) {
    const Status status = CopyBackup(address, copy.size, copy.bytes.get());
    if (!status.ok() && status.code() != Code::kNotFound) {
      Log(LogLevel::kError, "a retained backup could not be read again: %s", status.what());
    }
  }
}

}  // namespace
}  // namespace gpuroom

using namespace gpuroom;

extern "C" {
#pragma GCC visibility push(default)

void tms_set_interesting_region(bool interesting) try {
  RegionOfThread().interesting = interesting;
  ApplyRegion();
} catch (const std::exception& error) {
  AnswerException(error);
}

bool tms_get_interesting_region(void) try {
  return RegionOfThread().interesting;
} catch (const std::exception& error) {
  AnswerException(error);
  return false;
}

void tms_set_current_tag(const char* tag) try {
  RegionOfThread().tag = RegionTag(tag == nullptr ? "" : tag);
  ApplyRegion();
} catch (const std::exception& error) {
  AnswerException(error);
}

const char* tms_get_current_tag(void) try {
  return RegionOfThread().tag.c_str();
} catch (const std::exception& error) {
  AnswerException(error);
  return nullptr;
}

const char* gpuroom_region_tag(void) try {
  return IntentOfThread().tag;
} catch (const std::exception& error) {
  AnswerException(error);
  return nullptr;
}

void tms_set_enable_cpu_backup(bool enable) try {
  RegionOfThread().cpu_backup = enable;
  ApplyRegion();
} catch (const std::exception& error) {
  AnswerException(error);
}

bool tms_get_enable_cpu_backup(void) try {
  return RegionOfThread().cpu_backup;
} catch (const std::exception& error) {
  AnswerException(error);
  return false;
}

void tms_set_enable_disk_backup(bool enable) try {
  RegionOfThread().disk_backup = enable;
  ApplyRegion();
} catch (const std::exception& error) {
  AnswerException(error);
}

bool tms_get_enable_disk_backup(void) try {
  return RegionOfThread().disk_backup;
} catch (const std::exception& error) {
  AnswerException(error);
  return false;
}

void tms_set_disk_backup_dir(const char* directory) try {
  const std::lock_guard lock(g_mutex);
  g_directory = directory == nullptr ? "" : directory;
} catch (const std::exception& error) {
  AnswerException(error);
}

void tms_set_cpu_backup_backend(const char* backend) try {
  if (backend != nullptr && !IsBackupBackend(backend)) {
    Log(LogLevel::kError, "the backend of backups is '%s'; it stays %s: use pinned or mmap", backend,
        RegionOfThread().backend.c_str());
    return;
  }
  RegionOfThread().backend = backend == nullptr ? "pinned" : backend;
} catch (const std::exception& error) {
  AnswerException(error);
}

const char* tms_get_cpu_backup_backend(void) try {
  return RegionOfThread().backend.c_str();
} catch (const std::exception& error) {
  AnswerException(error);
  return nullptr;
}

void tms_set_retain_cpu_backup(bool retain) try {
  Retained() = retain;
  if (!retain) DropCopies();
} catch (const std::exception& error) {
  AnswerException(error);
}

bool tms_get_retain_cpu_backup(void) try { return Retained(); } catch (const std::exception& error) {
  AnswerException(error);
  return false;
}

int tms_pause(const char* tag) try {
  std::vector<gpuroom_tag_action> actions = RegionActions(tag);
  // A directory is wanted where memory goes to disk, not where a thread once said that some might.
  const auto idle = [](const gpuroom_tag_action& action) { return DevicesOf({action}).empty(); };
  actions.erase(std::remove_if(actions.begin(), actions.end(), idle), actions.end());
  if (actions.empty()) return 0;
  const std::string directory = DiskDirectory();
  gpuroom_sleep_request request{};
  request.tags = actions.data();
  request.tag_count = actions.size();
  request.directory = directory.empty() ? nullptr : directory.c_str();
  // Programs that name a folder look for files in it, as torch_memory_saver makes them.
  const BackupFiles files = directory.empty() ? BackupFiles::kUnnamed : BackupFiles::kVisible;
  const int result = Told("pausing", tag, SleepAsAsked(&request, sizeof request, files, nullptr, 0));
  if (result == 0 && Retained()) RefreshCopies();
  return result;
} catch (const std::exception& error) {
  AnswerException(error);
  return -1;
}

int tms_resume(const char* tag) try {
  std::vector<const char*> tags;
  for (const gpuroom_tag_action& action : RegionActions(tag)) tags.push_back(action.tag);
  if (tags.empty()) return 0;
  const int result = Told("resuming", tag, gpuroom_wake(tags.data(), tags.size(), 0, nullptr, 0));
  if (result == 0 && !Retained()) DropCopies();
  return result;
} catch (const std::exception& error) {
  AnswerException(error);
  return -1;
}

uint32_t tms_affected_devices(const char* tag, int* out, uint32_t capacity) try {
  const std::vector<int> devices = DevicesOf(RegionActions(tag));
  std::copy_n(devices.begin(), std::min<size_t>(capacity, devices.size()), out);
  return static_cast<uint32_t>(devices.size());
} catch (const std::exception& error) {
  AnswerException(error);
  return 0;
}

uint8_t* tms_get_cpu_backup_pointer(const uint8_t* gpu_ptr, uint64_t size) try {
  const auto address = reinterpret_cast<uint64_t>(gpu_ptr);
  // Of memory that may be large: without the zeros that a vector would write first.
  Copy copy{std::shared_ptr<uint8_t[]>(new (std::nothrow) uint8_t[size]), size};
  if (copy.bytes == nullptr || !CopyBackup(address, size, copy.bytes.get()).ok()) return nullptr;
  return KeepCopy(address, std::move(copy));
} catch (const std::exception& error) {
  AnswerException(error);
  return nullptr;
}

void gpuroom_set_memory_margin(uint64_t bytes) try {
  if (const Entry rt(true); rt) rt->margin = bytes;
} catch (const std::exception& error) {
  AnswerException(error);
}

void* tms_torch_malloc(ssize_t bytes, int device, struct CUstream_st* stream) try {
  return gpuroom_segment_malloc(bytes, device, stream);
} catch (const std::exception& error) {
  AnswerException(error);
  return nullptr;
}

void tms_torch_free(void* address, ssize_t bytes, int device, struct CUstream_st* stream) try {
  gpuroom_segment_free(address, bytes, device, stream);
} catch (const std::exception& error) {
  AnswerException(error);
}

#pragma GCC visibility pop
}  // extern "C"
