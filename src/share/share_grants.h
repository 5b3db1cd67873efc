// ShareGrants: the file in which an arbiter notes what HBM it has granted to whom, before it grants it. When
// the arbiter is killed, the next one counts what processes that live may have, also of those that do not
// answer.
//
// Read and written with pread and pwrite, a slot at a time and whole, as the ledger's file is. The caller
// holds the group's lock. One thread.
#pragma once

#include <string>
#include <vector>

#include "runtime/own_descriptor.h"
#include "tier/ledger_owner.h"

namespace gpuroom {

class ShareGrants {
 public:
  struct Grant {
    LedgerOwner owner;
    std::string uuid;  // of the GPU
    uint64_t bytes = 0;
  };

  // Opens or creates it. kInvalidArgument: it is not a private file of this user.
  static Result<ShareGrants> Open(const std::string& path);

  // What is granted to processes that have not ended.
  std::vector<Grant> Living() const;
  // From now on `bytes`; 0: nothing any more. Does nothing where that is noted already. `uuid` has fewer than
  // 48 characters.
  Status Set(const LedgerOwner& owner, const std::string& uuid, uint64_t bytes);

 private:
  // As in the file; 128 bytes, so that none crosses a page. All zero: free.
  struct Slot {
    LedgerOwner owner;
    char uuid[48] = {};
    uint64_t bytes = 0;
    char unused[40] = {};
  };
  static_assert(sizeof(Slot) == 128);

  size_t Find(const LedgerOwner& owner, const std::string& uuid) const;
  Status Write(size_t at) const;

  OwnDescriptor file_;
  std::vector<Slot> slots_;
};

}  // namespace gpuroom
