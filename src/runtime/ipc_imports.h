// ImportTable: ranges of other processes that the program has opened here. Pointer
// queries find them as they find this process's own; nothing moves or frees them
// but cuIpcCloseMemHandle.
//
// As in the driver a handle that is open in a context has one address there, and a
// count of how often it was opened. Any thread. Callers may wait here for the
// exporter, so they hold nothing meanwhile, least of all an Entry.
#pragma once

#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>

#include "range/range_table.h"
#include "runtime/captures.h"
#include "runtime/ipc_socket.h"

namespace gpuroom {

// One mapping of another process's range. While `socket` is open the exporter
// leaves the range where it is.
struct Import {
  std::unique_ptr<Range> range;  // its chunks are imported handles
  IpcSocket socket;
  bool used = false;  // the program knows the address: the GPU may be at work there
};

class ImportTable {
 public:
  ImportTable(const Driver& driver, const Captures& captures, AddressMap& map)
      : driver_(driver), captures_(captures), ranges_(map, AddressMap::Kind::kImport) {}

  // The address of the handle in `context`, opened once more; 0 where it is not
  // open: then the caller opens it and ends with Publish or GiveUp, and others who
  // want it wait.
  CUdeviceptr Join(const CUipcMemHandle& handle, CUcontext context);
  void Publish(const CUipcMemHandle& handle, CUcontext context, Import import);
  void GiveUp(const CUipcMemHandle& handle, CUcontext context);

  // Takes one opening back. kNotFound: none begins at `va`. With the last one *out
  // is the import, out of the table; the caller unmaps it and ends with Finish, before
  // the address is free for others, or with Restore where that fails.
  Status Leave(CUdeviceptr va, Import* out);
  void Restore(Import import);
  void Finish(CUdeviceptr va);

  // Takes away what is opened on a device, whose mappings nothing uses any more.
  std::vector<Import> TakeAll(CUdevice device);

  // As RangeTable's.
  bool Find(CUdeviceptr address, RangeInfo* out) const { return ranges_.Find(address, out); }
  RangeTable& ranges() { return ranges_; }

  // Waits for the GPU and takes the addresses away. On failure all is as before.
  Status Unmap(Import& import);
  // Gives all of it back, the socket last. What fails, and all of it during a capture, when nothing may wait
  // for the GPU, is scrap (driver/scrap.h).
  void Discard(Import import);

 private:
  struct Opened {
    CUipcMemHandle handle;
    CUcontext context;
    CUdeviceptr range = 0;  // where the range is mapped
    CUdeviceptr va = 0;     // what the program was told
    uint32_t references = 0;
    bool busy = true;  // one thread opens or closes it; the others wait
    IpcSocket socket;
  };
  using Place = std::list<Opened>::iterator;

  Place FindOpened(const CUipcMemHandle& handle, CUcontext context);
  Place FindOpened(CUdeviceptr va);
  bool GiveBack(Import& import);

  const Driver& driver_;
  const Captures& captures_;
  RangeTable ranges_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Opened> opened_;  // under mutex_
};

}  // namespace gpuroom
