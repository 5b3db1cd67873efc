#include "runtime/ipc_wire.h"

#include <algorithm>
#include <cstring>

namespace gpuroom {
namespace {

constexpr uint64_t kMagic = 0x9ec46370696d7267;  // "grmipc" and two bytes that are no text
constexpr uint32_t kVersion = 2;
constexpr uint64_t kMessageMagic = kMagic + kVersion;
constexpr uint64_t kMostBytes = uint64_t{1} << 48;

constexpr uint64_t kUnit = kGranularity >> 12;

struct WireTicket {
  uint64_t magic;
  uint32_t version;
  uint32_t pid;
  uint64_t start;
  uint64_t name;
  std::array<uint8_t, 16> secret;
  uint64_t range : 52;
  uint64_t unit : 12;  // IpcTicket::offset / kUnit
  uint64_t device;
};
static_assert(sizeof(WireTicket) == sizeof(CUipcMemHandle));
static_assert(sizeof(IpcReply) == 48 && sizeof(IpcNext) == 16 && sizeof(IpcChunk) == 16);
static_assert(sizeof(IpcBatch) == 16 + kIpcBatch * sizeof(IpcChunk));

template <typename Message>
bool Read(const void* data, size_t size, Message* out) {
  if (size != sizeof *out) return false;
  std::memcpy(out, data, sizeof *out);
  return out->magic == kMessageMagic;
}

bool IsTier(uint32_t tier) { return tier <= static_cast<uint32_t>(Tier::kHost); }

Status Broken() { return Status(Code::kInvalidArgument, "the exporter sent what no gpuroom sends"); }

}  // namespace

bool IpcTicket::SameProcess(const IpcTicket& other) const {
  return name == other.name && start == other.start && pid == other.pid && secret == other.secret;
}

CUipcMemHandle EncodeTicket(const IpcTicket& ticket) {
  const WireTicket wire{kMagic,       kVersion,      ticket.pid,   ticket.start,
                        ticket.name,  ticket.secret, ticket.range, ticket.offset / kUnit,
                        ticket.device};
  CUipcMemHandle handle;
  std::memcpy(&handle, &wire, sizeof handle);
  return handle;
}

Result<IpcTicket> DecodeTicket(const CUipcMemHandle& handle) {
  WireTicket wire;
  std::memcpy(&wire, &handle, sizeof wire);
  if (wire.magic != kMagic) return Status(Code::kNotFound, "not a handle of gpuroom's");
  if (wire.version != kVersion) {
    return Status(Code::kUnsupported, "the handle comes from another version of gpuroom");
  }
  return IpcTicket{wire.pid, wire.start, wire.name, wire.secret, wire.range, wire.unit * kUnit, wire.device};
}

uint64_t HalfOf(const CUuuid& device) {
  uint64_t half = 0;
  std::memcpy(&half, device.bytes, sizeof half);
  return half;
}

IpcReply MakeReply(uint64_t requested, const std::vector<Chunk>& chunks, const CUuuid& device) {
  IpcReply reply;
  reply.magic = kMessageMagic;
  reply.requested = requested;
  for (const Chunk& chunk : chunks) reply.bytes += chunk.bytes;
  reply.chunks = static_cast<uint32_t>(chunks.size());
  reply.device = device;
  return reply;
}

IpcNext MakeNext(uint32_t first) { return {kMessageMagic, first, 0}; }

uint32_t ReadNext(const void* data, size_t size) {
  IpcNext next;
  return Read(data, size, &next) ? next.first : UINT32_MAX;
}

IpcBatch MakeBatch(const std::vector<Chunk>& chunks, uint32_t first) {
  IpcBatch batch;
  batch.magic = kMessageMagic;
  batch.first = first;
  const size_t left = chunks.size() - std::min<size_t>(first, chunks.size());
  batch.count = static_cast<uint32_t>(std::min<size_t>(left, kIpcBatch));
  for (uint32_t i = 0; i < batch.count; ++i) {
    const Chunk& chunk = chunks[first + i];
    batch.chunks[i] = {chunk.bytes, static_cast<uint32_t>(chunk.tier), chunk.place};
  }
  return batch;
}

Status IpcArrival::TakeReply(const void* data, size_t size) {
  IpcReply reply;
  if (!Read(data, size, &reply)) return Broken();
  const bool sound = reply.bytes > 0 && reply.bytes < kMostBytes && IsMultiple(reply.bytes, kGranularity) &&
                     reply.requested > 0 && reply.requested <= reply.bytes && reply.chunks > 0 &&
                     reply.chunks <= reply.bytes / kGranularity;
  if (!sound) return Broken();
  reply_ = reply;
  return Status();
}

Status IpcArrival::TakeBatch(const void* data, size_t size, size_t descriptors, std::vector<Chunk>* out) {
  IpcBatch batch;
  if (!Read(data, size, &batch)) return Broken();
  const uint32_t left = reply_.chunks - chunks_;
  if (batch.first != chunks_ || batch.count != std::min(left, kIpcBatch)) return Broken();
  if (descriptors != batch.count) {
    return Status(Code::kSystem, "descriptors were lost; raise the limit of open files (ulimit -n)");
  }
  uint64_t bytes = bytes_;
  for (uint32_t i = 0; i < batch.count; ++i) {
    const IpcChunk& chunk = batch.chunks[i];
    const bool sound = chunk.bytes > 0 && chunk.bytes <= reply_.bytes - bytes &&
                       IsMultiple(chunk.bytes, kGranularity) && IsTier(chunk.tier);
    if (!sound) return Broken();
    bytes += chunk.bytes;
  }
  if (chunks_ + batch.count == reply_.chunks && bytes != reply_.bytes) return Broken();
  for (uint32_t i = 0; i < batch.count; ++i) {
    const IpcChunk& chunk = batch.chunks[i];
    out->push_back({0, chunk.bytes, static_cast<Tier>(chunk.tier), chunk.place});
  }
  bytes_ = bytes;
  chunks_ += batch.count;
  return Status();
}

}  // namespace gpuroom
