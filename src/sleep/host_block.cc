#include "sleep/host_block.h"

#include <sys/mman.h>

#include <cerrno>

#include "base/log.h"
#include "base/undo.h"
#include "sleep/system_calls.h"

namespace gpuroom {
namespace {

constexpr uint64_t kHugePage = 2 * kMiB;

char* RoundUpTo(char* address, uint64_t unit) {
  const uint64_t rest = reinterpret_cast<uintptr_t>(address) % unit;
  return rest == 0 ? address : address + (unit - rest);
}

}  // namespace

Result<std::unique_ptr<HostBlock>> HostBlock::Make(HostTier& tier, uint64_t bytes) {
  if (!tier.ClaimOther(bytes)) {
    return Status(Code::kOutOfMemory, "the host limit has no room for the backup; raise it, or drop more");
  }
  Undo give_back([&] { tier.ReleaseOther(bytes); });
  void* mapped = System().map(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED && errno == ENOMEM) {
    return Status(Code::kOutOfMemory, "this machine has no memory for the backup; free some", ENOMEM);
  }
  if (mapped == MAP_FAILED) return Status(Code::kSystem, "mmap of memory for the backup", errno);
  Undo unmap([&] { System().unmap(mapped, bytes + kHugePage); });
  std::unique_ptr<HostBlock> block(new HostBlock(tier, bytes, static_cast<char*>(mapped)));
  unmap.Dismiss();
  give_back.Dismiss();
  return block;
}

HostBlock::HostBlock(HostTier& tier, uint64_t bytes, char* mapped)
    : tier_(tier), bytes_(bytes), mapped_(mapped), data_(RoundUpTo(mapped, kHugePage)) {
  // Advice alone: what is refused costs speed, or a copy in a child of fork().
  System().advise(data_, bytes, MADV_HUGEPAGE);
  System().advise(data_, bytes, MADV_DONTFORK);
}

HostBlock::~HostBlock() {
  if (System().unmap(mapped_, bytes_ + kHugePage) != 0 && System().unmap(mapped_, bytes_ + kHugePage) != 0) {
    // It still takes memory, so it stays counted.
    Log(LogLevel::kError, "munmap of a backup of %llu bytes failed", static_cast<unsigned long long>(bytes_));
    return;
  }
  tier_.ReleaseOther(bytes_);
}

}  // namespace gpuroom
