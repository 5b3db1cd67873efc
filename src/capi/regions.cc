#include "capi/regions.h"

#include <strings.h>

#include <algorithm>
#include <deque>
#include <memory>

#include "base/env.h"
#include "base/mutex.h"
#include "runtime/intent.h"
#include "sleep/placed_memory.h"

namespace gpuroom {
namespace {

constexpr char kOnDisk[] = " (disk)";
constexpr size_t kMostName = kMaxTag - (sizeof kOnDisk - 1);

struct Region {
  std::string name;
  std::string tag;
  bool on_disk;
};

// Every region that memory may have been made in. Few, and never removed, so that what refers to
// their strings may do so for good.
struct Regions {
  Mutex mutex;
  std::deque<Region> all GPUROOM_GUARDED_BY(mutex);
};

Regions& Known() {
  static Regions* regions = new Regions;
  return *regions;
}

const Region& Remember(const std::string& name, bool on_disk) {
  Regions& known = Known();
  MutexLock lock(known.mutex);
  for (const Region& region : known.all) {
    if (region.name == name && region.on_disk == on_disk) return region;
  }
  known.all.push_back({name, on_disk ? name + kOnDisk : name, on_disk});
  return known.all.back();
}

RegionSettings FromEnvironment() {
  RegionSettings settings;
  settings.interesting = TmsSays("TMS_INIT_ENABLE");
  settings.cpu_backup = TmsSays("TMS_INIT_ENABLE_CPU_BACKUP");
  settings.disk_backup = TmsSays("TMS_INIT_ENABLE_DISK_BACKUP");
  const char* backend = env::Find("TMS_INIT_CPU_BACKUP_BACKEND");
  if (backend != nullptr && IsBackupBackend(backend)) settings.backend = backend;
  return settings;
}

void Enter(const RegionSettings& settings, ThreadIntent* intent) {
  intent->SetTag(settings.interesting ? Remember(settings.tag, settings.disk_backup).tag.c_str() : "");
  intent->dispensable = settings.interesting && !settings.cpu_backup && !settings.disk_backup;
}

// Threads may be in a region before any of these functions is called.
[[gnu::constructor]] void EnterAtFirst() {
  const RegionSettings settings = FromEnvironment();
  if (settings.interesting) Enter(settings, &IntentAtFirst());
}

}  // namespace

bool TmsSays(const char* variable) {
  const char* value = env::Find(variable);
  if (value == nullptr) return false;
  for (const char* yes : {"1", "true", "yes", "on"}) {
    if (strcasecmp(value, yes) == 0) return true;
  }
  return false;
}

bool IsBackupBackend(const char* name) {
  return std::string_view(name) == "pinned" || std::string_view(name) == "mmap";
}

RegionSettings& RegionOfThread() {
  // Most threads have none: they cost each thread of every process a pointer alone.
  static thread_local std::unique_ptr<RegionSettings> settings;
  if (settings == nullptr) settings = std::make_unique<RegionSettings>(FromEnvironment());
  return *settings;
}

void ApplyRegion() { Enter(RegionOfThread(), &IntentOfThread()); }

std::string RegionTag(std::string_view name) {
  std::string tag(name.substr(0, kMostName));
  for (char& c : tag) {
    if (!IsTag(std::string_view(&c, 1))) c = '_';
  }
  return tag.empty() ? "default" : tag;
}

std::vector<int> DevicesOf(const std::vector<gpuroom_tag_action>& actions) {
  std::vector<int> devices;
  const Entry rt(true);
  if (!rt) return devices;
  const auto named = [&](TagId tag) {
    return std::any_of(actions.begin(), actions.end(), [&](const gpuroom_tag_action& action) {
      return std::string_view(action.tag) == TagName(tag);
    });
  };
  WithAllPlaced(*rt, [&](const std::vector<Placed*>& all) {
    for (const Placed* placed : all) {
      const bool known = std::find(devices.begin(), devices.end(), placed->device) != devices.end();
      if (!known && named(placed->tag)) devices.push_back(placed->device);
    }
  });
  return devices;
}

std::vector<gpuroom_tag_action> RegionActions(const char* name) {
  std::vector<gpuroom_tag_action> actions;
  Regions& known = Known();
  MutexLock lock(known.mutex);
  for (const Region& region : known.all) {
    if (name != nullptr && region.name != RegionTag(name)) continue;
    actions.push_back({region.tag.c_str(), region.on_disk ? GPUROOM_SLEEP_DISK : GPUROOM_SLEEP_KEEP});
  }
  return actions;
}

}  // namespace gpuroom
