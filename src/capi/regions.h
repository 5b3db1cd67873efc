// Regions: what torch_memory_saver's functions say of a thread, as tags of gpuroom's own.
// Memory whose backup goes to disk has a tag of its own beside the name that the program gives, since
// a sleep chooses by tag.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "gpuroom/sleep.h"
#include "range/rules.h"

namespace gpuroom {

struct RegionSettings {
  bool interesting = false;
  bool cpu_backup = false;
  bool disk_backup = false;
  std::string tag = "default";
  std::string backend = "pinned";
};

// Whether a variable of torch_memory_saver's is set to 1, true, yes or on.
bool TmsSays(const char* variable);
// "pinned" or "mmap".
bool IsBackupBackend(const char* name);

// The calling thread's, at first as the environment says.
RegionSettings& RegionOfThread();
// Has what the thread allocates carry what its settings say.
void ApplyRegion();

// A name as a tag can be: longer ones are cut, bytes that no tag may have become '_'.
std::string RegionTag(std::string_view name);

// The devices that have memory with one of these tags.
std::vector<int> DevicesOf(const std::vector<gpuroom_tag_action>& actions);

// What a pause or resume of regions with this name means (null: all that there ever were in this process).
// Entries refer to strings that stay.
std::vector<gpuroom_tag_action> RegionActions(const char* name);

}  // namespace gpuroom
