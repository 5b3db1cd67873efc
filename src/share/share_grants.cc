#include "share/share_grants.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace gpuroom {
namespace {

constexpr size_t kMostSlots = 65536;

bool Same(const LedgerOwner& a, const LedgerOwner& b) {
  return a.pid == b.pid && a.start == b.start && a.spaces == b.spaces;
}

}  // namespace

Result<ShareGrants> ShareGrants::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return Status(Code::kSystem, "open of the file of grants", errno);
  Result<OwnDescriptor> file = OwnDescriptor::Take(fd);
  if (!file.ok()) return file.status();
  struct stat info {};
  const bool own =
      fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == geteuid() && (info.st_mode & 077) == 0;
  if (!own) return Status(Code::kInvalidArgument, "the file of grants is not a private file of this user");
  ShareGrants grants;
  grants.file_ = std::move(*file);
  Slot slot;
  while (grants.slots_.size() < kMostSlots) {
    const auto at = static_cast<off_t>(grants.slots_.size() * sizeof slot);
    if (pread(fd, &slot, sizeof slot, at) != sizeof slot) break;
    slot.uuid[sizeof slot.uuid - 1] = '\0';
    grants.slots_.push_back(slot);
  }
  return grants;
}

std::vector<ShareGrants::Grant> ShareGrants::Living() const {
  const LedgerOwner self = CurrentOwner();
  std::vector<Grant> living;
  for (const Slot& slot : slots_) {
    if (slot.bytes != 0 && !OwnerHasEnded(slot.owner, self))
      living.push_back({slot.owner, slot.uuid, slot.bytes});
  }
  return living;
}

Status ShareGrants::Set(const LedgerOwner& owner, const std::string& uuid, uint64_t bytes) {
  size_t at = Find(owner, uuid);
  if (at == slots_.size() && bytes == 0) return Status();
  if (at == slots_.size()) {
    const auto free = [](const Slot& slot) { return slot.bytes == 0; };
    at = static_cast<size_t>(std::find_if(slots_.begin(), slots_.end(), free) - slots_.begin());
    if (at == kMostSlots) return Status(Code::kOutOfMemory, "the file of grants is full");
    if (at == slots_.size()) slots_.emplace_back();
    slots_[at] = Slot();
    slots_[at].owner = owner;
    uuid.copy(slots_[at].uuid, sizeof slots_[at].uuid - 1);
  }
  if (slots_[at].bytes == bytes) return Status();
  slots_[at].bytes = bytes;
  if (bytes == 0) slots_[at] = Slot();
  return Write(at);
}

size_t ShareGrants::Find(const LedgerOwner& owner, const std::string& uuid) const {
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].bytes != 0 && Same(slots_[i].owner, owner) && uuid == slots_[i].uuid) return i;
  }
  return slots_.size();
}

Status ShareGrants::Write(size_t at) const {
  const auto where = static_cast<off_t>(at * sizeof(Slot));
  const ssize_t written = pwrite(file_.fd(), &slots_[at], sizeof(Slot), where);
  return written == sizeof(Slot) ? Status() : Status(Code::kSystem, "write of the file of grants", errno);
}

}  // namespace gpuroom
