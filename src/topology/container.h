// Whether this process runs in a container, and what the container keeps from it that gpuroom needs: calls
// that place memory on NUMA nodes, room in /dev/shm, a place for the ledger that other containers see. Read
// from files of the container itself, which programs in it cannot change by accident. Stateless; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "topology/sysroot.h"

namespace gpuroom {

// The mount that holds a path.
struct Mount {
  std::string point;        // "/dev/shm"
  std::string type;         // "tmpfs"
  std::string source;       // "shm": what engines call the one that they make for a container
  uint64_t size_bytes = 0;  // of a tmpfs that was made with a size; 0: none is given
};

struct Container {
  bool present = false;
  std::string engine;  // "Docker", "Podman", "Kubernetes"; "": not known which
  // The filter of system calls refuses most of what CAP_SYS_NICE would allow, in the profiles of Docker,
  // Podman and containerd: mbind and set_mempolicy among them.
  bool filtered = false;     // a seccomp filter is on
  bool may_place = false;    // CAP_SYS_NICE is among the capabilities that the container may have
  std::optional<Mount> shm;  // of /dev/shm
};

Container ReadContainer(const Sysroot& root);

// The mount below which `path`, an absolute one, lies: of /proc/self/mountinfo, the longest, and of several
// at one place the last. nullopt where that file cannot be read.
std::optional<Mount> FindMount(const Sysroot& root, std::string_view path);

}  // namespace gpuroom
