// The importer's side of shared ranges: asking the exporter for a range's chunks
// and mapping them here with the same plan.
#pragma once

#include "runtime/ipc_imports.h"
#include "runtime/ipc_wire.h"
#include "runtime/runtime.h"

namespace gpuroom {

// What the exporter gave: a range with chunks that is mapped nowhere yet.
struct Fetched {
  Import import;
  CUuuid device{};  // whose memory it is
};

// Asks the exporter that `handle` names, of which `ticket` was read. At most kIpcPatience without a sign from
// it; holds nothing meanwhile. On failure out->import holds what came, for
// ImportTable::Discard.
Status FetchRange(const Driver& driver, const CUipcMemHandle& handle, const IpcTicket& ticket, Fetched* out);

// Maps it for the devices that reach this process's own ranges, and for the current
// one. On failure as FetchRange.
Status MapFetched(Runtime& rt, Fetched* fetched);

}  // namespace gpuroom
