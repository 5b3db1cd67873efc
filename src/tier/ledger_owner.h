// Who owns a slot of the node ledger, or of the grants of programs that share GPUs: enough of a process's
// identity to tell, later and from another process, that it has gone. The kernel's lock on the slot is the
// first witness (ledger_file.h); this is the second, for the one case where the lock outlives its owner: a
// forked child that kept the descriptor. Plain values and system calls; no state, no allocation, any thread.
#pragma once

#include <cstdint>

namespace gpuroom {

// As stored in the file; `check` covers the rest, so garbage is told from an owner.
struct LedgerOwner {
  uint64_t pid = 0;
  uint64_t start = 0;   // of the process, in clock ticks since boot; 0: not known
  uint64_t spaces = 0;  // its pid and time namespaces; 0: not known
  uint64_t check = 0;
};

// The calling process. Fields that /proc does not give are 0.
LedgerOwner CurrentOwner();
// The same of another process.
LedgerOwner OwnerOf(uint64_t pid);

// True only where it is certain that `owner` has ended. An owner in another
// namespace than `self`, or a garbled one, cannot be judged: false.
bool OwnerHasEnded(const LedgerOwner& owner, const LedgerOwner& self);

}  // namespace gpuroom
