// The messages between processes that share memory: a handle, what an importer asks for, and what an exporter
// answers. The input is a row of messages, each a kind, a length of 16 bits and that many bytes; magic
// numbers are put right in those of an even kind, since a fuzzer does not guess 64 bits.
#include <cstring>
#include <string>

#include "fuzz.h"
#include "runtime/ipc_wire.h"

using gpuroom::fuzz::Input;
using gpuroom::fuzz::Require;

namespace {

void FuzzTicket(std::string message, bool ours) {
  CUipcMemHandle handle = ours ? gpuroom::EncodeTicket({}) : CUipcMemHandle{};
  // Behind the first words, which say whose handle it is.
  const size_t begin = ours ? 8 : 0;
  std::memcpy(handle.reserved + begin, message.data(),
              std::min(message.size(), sizeof handle.reserved - begin));
  const gpuroom::Result<gpuroom::IpcTicket> ticket = gpuroom::DecodeTicket(handle);
  if (!ticket.ok()) return;
  const gpuroom::Result<gpuroom::IpcTicket> again = gpuroom::DecodeTicket(gpuroom::EncodeTicket(*ticket));
  Require(again.ok() && again->SameProcess(*ticket) && again->range == ticket->range,
          "a ticket is read back");
}

// The magic number of a message of ours, in the place of `message`'s first eight bytes.
template <typename Message>
void PutMagic(const Message& ours, std::string* message) {
  if (message->size() >= sizeof ours.magic) std::memcpy(message->data(), &ours.magic, sizeof ours.magic);
}

class Importer {
 public:
  void TakeReply(std::string message, bool ours) {
    if (ours) PutMagic(gpuroom::MakeReply(0, {}, {}), &message);
    if (!begun_) begun_ = arrival_.TakeReply(message.data(), message.size()).ok();
  }
  void TakeBatch(std::string message, bool ours, size_t descriptors) {
    if (ours) PutMagic(gpuroom::MakeBatch({}, 0), &message);
    if (!begun_ || arrival_.complete()) return;
    const size_t before = chunks_.size();
    const gpuroom::Status status = arrival_.TakeBatch(message.data(), message.size(), descriptors, &chunks_);
    Require(status.ok() || chunks_.size() == before, "a batch that is refused adds nothing");
    CheckSum();
  }

 private:
  void CheckSum() const {
    uint64_t bytes = 0;
    for (const gpuroom::Chunk& chunk : chunks_) {
      Require(chunk.bytes <= arrival_.reply().bytes - bytes,
              "chunks are together no more than the reply says");
      bytes += chunk.bytes;
    }
    Require(chunks_.size() == arrival_.next(), "each chunk is counted");
    Require(!arrival_.complete() || bytes == arrival_.reply().bytes, "all chunks are all bytes");
  }

  gpuroom::IpcArrival arrival_;
  std::vector<gpuroom::Chunk> chunks_;
  bool begun_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  Importer importer;
  while (!input.empty()) {
    const auto kind = input.TakeNumber<uint8_t>();
    const bool ours = kind % 2 == 0;
    std::string message(input.Take(input.TakeNumber<uint16_t>()));
    switch (kind / 2 % 4) {
      case 0: FuzzTicket(message, ours); break;
      case 1:
        if (ours) PutMagic(gpuroom::MakeNext(0), &message);
        (void)gpuroom::ReadNext(message.data(), message.size());
        break;
      case 2: importer.TakeReply(message, ours); break;
      default: importer.TakeBatch(message, ours, kind / 8); break;
    }
  }
  return 0;
}
