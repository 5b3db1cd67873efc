#include "state.h"

#include <pthread.h>

#include <algorithm>
#include <cstdlib>

#include "device_names.h"
#include "inject.h"
#include "report.h"

namespace gpuroom::sim {
namespace {

uint64_t EnvNumber(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr && *text != 0 ? std::strtoull(text, nullptr, 0) : otherwise;
}

}  // namespace

State::State() {
  const char* text = std::getenv("GPUROOM_SIM");
  if (!ParseProfile(text != nullptr && *text != 0 ? text : "h200", &profile, &profile_error)) {
    profile.devices = 0;
  }
  const char* strict_text = std::getenv("GPUROOM_SIM_STRICT");
  strict = strict_text != nullptr && *strict_text == '1';
  random.seed(EnvNumber("GPUROOM_SIM_SEED", 1));
  SetFailureRules(std::getenv("GPUROOM_SIM_FAIL"));
}

CUresult State::FindDevices() {
  const char* text = std::getenv("CUDA_VISIBLE_DEVICES");
  devices.clear();
  if (text != nullptr) {
    const std::optional<std::vector<int>> visible = VisibleDevices(text, profile.devices);
    if (!visible) return CUDA_ERROR_INVALID_DEVICE;
    for (const int number : *visible) devices.emplace_back().number = number;
  } else {
    for (int number = 0; number < profile.devices; ++number) devices.emplace_back().number = number;
  }
  if (!machine_.Join(std::getenv("GPUROOM_SIM_MACHINE"), Machine::Role::kUser)) {
    return CUDA_ERROR_SYSTEM_NOT_READY;
  }
  return devices.empty() ? CUDA_ERROR_NO_DEVICE : CUDA_SUCCESS;
}

int State::OrdinalOf(int number) const {
  for (size_t ordinal = 0; ordinal < devices.size(); ++ordinal) {
    if (devices[ordinal].number == number) return static_cast<int>(ordinal);
  }
  return -1;
}

int State::SharedName(Place place) const {
  return place.is_device() ? devices[static_cast<size_t>(place.index)].number : place.index;
}

bool State::FindPlace(int shared_name, Place* place) const {
  *place = Place{shared_name};
  if (place->is_device()) place->index = OrdinalOf(shared_name);
  return shared_name < 0 || place->index >= 0;
}

bool State::Charge(Place place, uint64_t bytes) {
  return machine_.Add(SharedName(place), bytes, Capacity(place));
}

void State::Credit(Place place, uint64_t bytes) { machine_.Remove(SharedName(place), bytes); }

uint64_t State::Used(Place place) const { return Exists(place) ? machine_.Own(SharedName(place)) : 0; }

uint64_t State::Free(Place place) const {
  const uint64_t used = Used(place) + machine_.Others(SharedName(place));
  return Capacity(place) - std::min(Capacity(place), used);
}

void State::NoteContext(int device) {
  machine_.SetContextBytes(SharedName(Place::Device(device)), profile.ContextOverhead());
}

bool State::Exists(Place place) const {
  return place.is_device() ? IsDevice(place.index) : place.node() < profile.nodes;
}

uint64_t State::Capacity(Place place) const {
  if (!place.is_device()) return profile.NodeCapacity(place.node());
  return profile.hbm - profile.ContextOverhead();
}

namespace {

// What a parent may ask before it forks, such as the version, does not keep its child from CUDA; cuInit does.
void LockForFork() { GetState().mutex.lock(); }
void UnlockInParent() { GetState().mutex.unlock(); }
void UnlockInChild() {
  GetState().forked = GetState().initialized;
  GetState().LeaveMachine();
  GetState().mutex.unlock();
}

}  // namespace

State& GetState() {
  static State* state = [] {
    auto* made = new State;
    pthread_atfork(LockForFork, UnlockInParent, UnlockInChild);
    return made;
  }();
  return *state;
}

ThreadState& GetThread() {
  static std::atomic<uint64_t> next{0};
  static thread_local ThreadState thread{{}, false, false, CU_STREAM_CAPTURE_MODE_GLOBAL, ++next};
  return thread;
}

}  // namespace gpuroom::sim
