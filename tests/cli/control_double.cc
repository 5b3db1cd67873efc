// A process that can be asked to sleep, without a GPU: the real control socket over a core that only
// counts. Prints its number when it can be asked and ends when its standard input does.
//
// It has 4 GiB with the tag "weights", 2 GiB with "kv cache" and 1 GiB without. What the core does
// besides is chosen by the sleep's folder: "/full" has no room, "/full-at-first" has none for the first
// sleep, "/slow" takes until a line is read. Its one GPU is number 0, or what its argument says, of 80 GiB;
// between two looks at its figures 64 MiB move to the host.
#include <poll.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>

#include "base/size.h"
#include "sleep/control.h"
#include "sleep/control_directory.h"

namespace {

using gpuroom::kGiB;

struct Group {
  const char* tag;
  uint64_t bytes;
  int action;  // gpuroom_sleep_action; kStay: awake
};

std::mutex g_mutex;
std::array<Group, 3> g_groups = {{{"", kGiB, GPUROOM_SLEEP_STAY},
                                  {"weights", 4 * kGiB, GPUROOM_SLEEP_STAY},
                                  {"kv cache", 2 * kGiB, GPUROOM_SLEEP_STAY}}};
thread_local std::string t_error;
std::atomic<bool> g_line{false};

int Refuse(int result, const char* text) {
  t_error = text;
  return result;
}

bool Known(const char* tag) {
  for (const Group& group : g_groups) {
    if (std::strcmp(tag, group.tag) == 0) return true;
  }
  return false;
}

int ActionFor(const gpuroom_sleep_request& request, const Group& group) {
  int rest = request.tag_count == 0 ? GPUROOM_SLEEP_KEEP : GPUROOM_SLEEP_STAY;
  for (size_t i = 0; i < request.tag_count; ++i) {
    const char* tag = request.tags[i].tag;
    if (tag == nullptr) rest = request.tags[i].action;
    if (tag != nullptr && std::strcmp(tag, group.tag) == 0) return request.tags[i].action;
  }
  return rest;
}

int Sleep(const gpuroom_sleep_request* request, size_t, gpuroom_sleep_report* out, size_t) {
  for (size_t i = 0; i < request->tag_count; ++i) {
    const char* tag = request->tags[i].tag;
    if (tag != nullptr && !Known(tag)) return Refuse(GPUROOM_NOT_FOUND, "no memory has ever had this tag");
  }
  const std::string folder = request->directory != nullptr ? request->directory : "";
  if (folder == "/full") return Refuse(GPUROOM_OUT_OF_MEMORY, "no room for the backups");
  static std::atomic<bool> full{true};
  if (folder == "/full-at-first" && full.exchange(false))
    return Refuse(GPUROOM_OUT_OF_MEMORY, "no room for the backups");
  while (folder == "/slow" && !g_line.load()) poll(nullptr, 0, 1);
  const std::lock_guard lock(g_mutex);
  *out = {};
  for (Group& group : g_groups) {
    const int action = ActionFor(*request, group);
    if (group.action != GPUROOM_SLEEP_STAY || action == GPUROOM_SLEEP_STAY) continue;
    group.action = action;
    out->ranges += 1;
    out->released += group.bytes;
    if (action == GPUROOM_SLEEP_KEEP) out->kept += group.bytes;
    if (action == GPUROOM_SLEEP_DISK) out->on_disk += group.bytes;
    if (action == GPUROOM_SLEEP_DROP) out->dropped += group.bytes;
  }
  out->left_awake = request->verify != 0 ? kGiB / 2 : 0;
  out->nanoseconds = 1500000000;
  return GPUROOM_OK;
}

int Wake(const char* const* tags, size_t count, int lazy, gpuroom_sleep_report* out, size_t) {
  const std::lock_guard lock(g_mutex);
  *out = {};
  for (Group& group : g_groups) {
    bool named = count == 0;
    for (size_t i = 0; i < count; ++i) named = named || std::strcmp(tags[i], group.tag) == 0;
    if (!named || group.action == GPUROOM_SLEEP_STAY) continue;
    out->ranges += 1;
    (group.action == GPUROOM_SLEEP_DROP ? out->dropped : out->kept) += group.bytes;
    if (lazy != 0) out->released += group.bytes;
    group.action = GPUROOM_SLEEP_STAY;
  }
  return GPUROOM_OK;
}

int States(gpuroom_tag_state* out, size_t capacity, size_t* count, size_t) {
  const std::lock_guard lock(g_mutex);
  *count = g_groups.size();
  for (size_t i = 0; i < capacity && i < g_groups.size(); ++i) {
    const Group& group = g_groups[i];
    out[i] = {};
    std::strcpy(out[i].tag, group.tag);
    out[i].ranges = 1;
    if (group.action == GPUROOM_SLEEP_STAY) out[i].awake = out[i].awake_on_gpu = group.bytes;
    if (group.action == GPUROOM_SLEEP_KEEP) out[i].kept = group.bytes;
    if (group.action == GPUROOM_SLEEP_DISK) out[i].on_disk = group.bytes;
    if (group.action == GPUROOM_SLEEP_DROP) out[i].dropped = group.bytes;
  }
  return GPUROOM_OK;
}

// Of the memory with one of the tags, or of all.
int SetHint(const char* const* tags, size_t count, int hint, uint64_t* ranges) {
  for (size_t i = 0; i < count; ++i) {
    if (!Known(tags[i])) return Refuse(GPUROOM_NOT_FOUND, "no memory has ever had this tag");
  }
  *ranges = count == 0 ? g_groups.size() : count;
  std::fprintf(stderr, "hint %d\n", hint);
  return GPUROOM_OK;
}

int g_gpu = 0;

bool Stats(gpuroom::ProcessStats* out) {
  static std::atomic<uint64_t> looks{0};
  gpuroom::GpuStats gpu;
  gpu.uuid = "GPU-00000000-0000-0000-0000-00000000000" + std::to_string(g_gpu);
  gpu.hbm_limit = 80 * kGiB;
  gpu.hbm_used = 10 * kGiB;
  gpu.hbm_peak = 12 * kGiB;
  gpu.peer_limit = 8 * kGiB;
  gpu.peer_used = kGiB;
  gpu.host_limit = 256 * kGiB;
  gpu.host_used = 3 * kGiB;
  gpu.host_peak = 4 * kGiB;
  gpu.home_node = g_gpu >= 4 ? 1 : 0;  // of two sockets; all host memory lies on the first
  gpu.allocations = 100;
  gpu.spilled = 7;
  gpu.moved_to_host = gpu.displaced = looks.fetch_add(1) * 64 * gpuroom::kMiB;
  out->gpus = {gpu};
  out->standstills.counts[2] = 5;
  out->standstills.nanoseconds = 20000000;
  out->host_unclaimed = 200 * kGiB;
  out->refusals[static_cast<size_t>(gpuroom::Code::kOutOfMemory)] = 1;
  out->refused_code = "out_of_memory";
  out->refused_text = "host memory is used up";
  out->refused_bytes = 300 * kGiB;
  return true;
}

const char* Error() { return t_error.c_str(); }

// As a program that turns itself into a daemon does.
void CloseAll() {
  for (int fd = 3; fd < 256; ++fd) close(fd);
}

// Lets the slow sleep go on once nobody can ask any more.
void GoOnWhenEnding() {
  const std::string name = gpuroom::ControlSocketPath(gpuroom::ControlDirectory(), getpid());
  while (access(name.c_str(), F_OK) == 0) poll(nullptr, 0, 1);
  g_line.store(true);
}

// Until our standard input ends.
void StayAtExit() {
  char line[64];
  while (std::fgets(line, sizeof line, stdin) != nullptr) {
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) g_gpu = std::atoi(argv[1]);
  // The handler that was registered first runs last.
  std::atexit(StayAtExit);
  gpuroom::StartControl({Sleep, Wake, States, Error, Stats, SetHint});
  std::printf("%d\n", static_cast<int>(getpid()));
  std::fflush(stdout);
  char line[64];
  while (std::fgets(line, sizeof line, stdin) != nullptr) {
    if (std::strcmp(line, "end\n") == 0) {
      std::thread(GoOnWhenEnding).detach();
      return 0;
    }
    g_line.store(true);
    if (std::strcmp(line, "exec\n") == 0) execlp("sleep", "sleep", "600", nullptr);
    if (std::strcmp(line, "close\n") == 0) CloseAll();
    if (std::strcmp(line, "leave\n") == 0) _exit(0);  // without its handlers: the socket's name stays
  }
  return 0;
}
