// What passes between two processes that share a range: the 64-byte handle that
// the program carries from one to the other, and the messages on the exporter's
// socket. Pure functions. Nothing that arrives is trusted, whoever sent it.
//
// The importer sends the handle itself; the exporter answers with an IpcReply; then,
// for every IpcNext, with an IpcBatch and as many descriptors as it lists chunks.
// The connection stays open while the importer holds the memory.
#pragma once

#include <cuda.h>

#include <array>
#include <cstdint>
#include <vector>

#include "base/status.h"
#include "tier/chunk.h"

namespace gpuroom {

// Descriptors that travel in one message: few, as the kernel counts those on their
// way against RLIMIT_NOFILE, which may be 256.
inline constexpr uint32_t kIpcBatch = 32;

// Which range of which process: what our handles say.
struct IpcTicket {
  uint32_t pid = 0;                  // of the exporter, for messages to people
  uint64_t start = 0;                // of that process, since pids come again
  uint64_t name = 0;                 // of its socket
  std::array<uint8_t, 16> secret{};  // without it the exporter answers nothing
  uint64_t range = 0;                // Placed::order there, below 2^52
  uint64_t offset = 0;               // of a small block in the range that it shares: below 2 MiB
  uint64_t device = 0;               // first half of the UUID
  bool SameProcess(const IpcTicket& other) const;
};

// The same ticket gives the same bytes: programs cache opened handles by them.
CUipcMemHandle EncodeTicket(const IpcTicket& ticket);
// kNotFound: not of gpuroom; kUnsupported: of another version of it.
Result<IpcTicket> DecodeTicket(const CUipcMemHandle& handle);
uint64_t HalfOf(const CUuuid& device);

struct IpcReply {
  uint64_t magic = 0;
  uint64_t requested = 0;  // bytes that the exporting program asked for
  uint64_t bytes = 0;      // of all chunks
  uint32_t chunks = 0;
  uint32_t reserved = 0;
  CUuuid device{};  // whose memory the range is taken for
};

struct IpcNext {
  uint64_t magic = 0;
  uint32_t first = 0;  // index of the first chunk that is wanted
  uint32_t reserved = 0;
};

struct IpcChunk {
  uint64_t bytes = 0;
  uint32_t tier = 0;
  int32_t place = 0;  // the host's node; of other tiers the exporter's ordinal
};

struct IpcBatch {
  uint64_t magic = 0;
  uint32_t first = 0;
  uint32_t count = 0;
  std::array<IpcChunk, kIpcBatch> chunks{};
};

IpcReply MakeReply(uint64_t requested, const std::vector<Chunk>& chunks, const CUuuid& device);
IpcNext MakeNext(uint32_t first);
// As many of `chunks` from `first` on as fit.
IpcBatch MakeBatch(const std::vector<Chunk>& chunks, uint32_t first);
// The index that an IpcNext asks for; UINT32_MAX where the bytes are none.
uint32_t ReadNext(const void* data, size_t size);

// The importer's side: takes messages in and says what they add up to.
class IpcArrival {
 public:
  Status TakeReply(const void* data, size_t size);
  // Appends the chunks of a batch, without handles, to `out`.
  Status TakeBatch(const void* data, size_t size, size_t descriptors, std::vector<Chunk>* out);
  bool complete() const { return chunks_ == reply_.chunks; }
  uint32_t next() const { return chunks_; }
  const IpcReply& reply() const { return reply_; }

 private:
  IpcReply reply_;
  uint32_t chunks_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace gpuroom
