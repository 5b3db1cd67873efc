// Operations that write and check what blocks hold.
#include "walker.h"

namespace gpuroom::soak {

using shim_test::Cu;

CUresult Walker::Launch(CUfunction function, std::vector<uint64_t> arguments, CUstream stream) {
  void* pointers[4];
  for (size_t i = 0; i < arguments.size(); ++i) pointers[i] = &arguments[i];
  return Cu().LaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, stream, pointers, nullptr);
}

Pattern Walker::NewPattern(unsigned how) {
  if (how != 1) return {Pattern::Kind::kMixed, random_()};
  const uint64_t half = random_() & 0xffffffff;  // a memset of 32 bits
  return {Pattern::Kind::kConstant, half << 32 | half};
}

// `how`: 0 a kernel, 1 a memset, 2 a copy from the host. False: it was not submitted.
bool Walker::WriteCell(Block& block, Cell& cell, const Pattern& pattern, unsigned how) {
  const CUdeviceptr base = block.alias != 0 && !capturing_ && Chance(50) ? block.alias : block.p;
  const CUdeviceptr at = base + cell.offset;
  const CUstream stream = streams_[block.stream];
  Trace(capturing_ ? "capture" : how == 0 ? "fill" : how == 1 ? "memset" : "upload", block);
  CUresult result = CUDA_SUCCESS;
  switch (how) {
    case 0: result = Launch(fill_, {at, cell.bytes / 8, pattern.seed}, stream); break;
    case 1:
      result = Cu().MemsetD32Async(at, static_cast<unsigned>(pattern.seed), cell.bytes / 4, stream);
      break;
    default: {
      std::vector<uint64_t> words(cell.bytes / 8);
      for (size_t i = 0; i < words.size(); ++i) words[i] = pattern.Word(i);
      uploads_.push_back(std::move(words));
      result = Cu().MemcpyHtoDAsync(at, uploads_.back().data(), cell.bytes, stream);
      if (uploads_.size() > 64) Settle();
    }
  }
  if (!Ok(result, "writing")) return false;
  cell.pattern = pattern;
  return true;
}

Outcome Walker::Write() {
  Block* block = Pick();
  if (block == nullptr) return Outcome::kIdle;
  for (uint64_t count = 1 + Random(4); count > 0; --count) {
    const unsigned how = static_cast<unsigned>(Chance(60) ? 0 : 1 + Random(2));
    Cell& cell = block->cells[Random(block->cells.size())];
    if (cell.bytes > 0 && !WriteCell(*block, cell, NewPattern(how), how)) return Outcome::kFailed;
  }
  return Outcome::kDone;
}

// Between two blocks, or two cells of one, on one stream.
Outcome Walker::Copy() {
  Block* from = Pick();
  if (from == nullptr) return Outcome::kIdle;
  Block* to = PickIf([&](const Block& any) { return any.stream == from->stream; });
  if (to == nullptr) return Outcome::kIdle;
  const Cell& source = from->cells[Random(from->cells.size())];
  Cell& target = to->cells[Random(to->cells.size())];
  if (&source == &target || source.bytes != target.bytes || source.bytes == 0) return Outcome::kIdle;
  const CUresult result = Cu().MemcpyDtoDAsync(to->p + target.offset, from->p + source.offset, source.bytes,
                                               streams_[from->stream]);
  if (!Ok(result, "cuMemcpyDtoDAsync")) return Outcome::kFailed;
  Trace("copy from", *from);
  Trace("copy to", *to);
  target.pattern = source.pattern;
  return Outcome::kDone;
}

// Checked by the device, in the stream's order; Settle looks at the result. False: not submitted.
bool Walker::CheckLate(Block& block, Cell& cell) {
  if (cell.pattern.kind != Pattern::Kind::kMixed || cell.bytes == 0) return true;
  Trace("verify", block);
  const CUdeviceptr base = block.alias != 0 && !capturing_ && Chance(50) ? block.alias : block.p;
  const CUresult result =
      Launch(verify_, {base + cell.offset, cell.bytes / 8, cell.pattern.seed, bad_}, streams_[block.stream]);
  if (!Ok(result, "cuLaunchKernel")) return false;
  shared_.verified.fetch_add(1, std::memory_order_relaxed);
  return true;
}

Outcome Walker::VerifySome() {
  Block* block = Pick();
  if (block == nullptr) return Outcome::kIdle;
  for (uint64_t count = 1 + Random(4); count > 0; --count) {
    if (!CheckLate(*block, block->cells[Random(block->cells.size())])) return Outcome::kFailed;
  }
  return Outcome::kDone;
}

void Walker::CheckNow(Block& block, Cell& cell) {
  if (cell.pattern.kind == Pattern::Kind::kUnknown || cell.bytes == 0) return;
  std::vector<uint64_t> words(cell.bytes / 8);
  const CUresult result =
      Cu().MemcpyDtoHAsync(words.data(), block.p + cell.offset, cell.bytes, streams_[block.stream]);
  if (!Ok(result, "cuMemcpyDtoHAsync")) return;
  Synchronize(block.stream);
  shared_.verified.fetch_add(1, std::memory_order_relaxed);
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == cell.pattern.Word(i)) continue;
    gpuroom_placement place = {};
    if (shared_.library.describe != nullptr) shared_.library.describe(block.p, &place, sizeof place);
    Fail("word " + std::to_string(i) + " at offset " + std::to_string(cell.offset) + " of a block of " +
         std::to_string(block.bytes) + " bytes is " + std::to_string(words[i]) + ", not " +
         std::to_string(cell.pattern.Word(i)) + "; " + std::to_string(place.host_bytes) +
         " of its bytes are on the host, " + std::to_string(place.device_bytes) + " in HBM");
  }
}

Outcome Walker::ReadBack() {
  Block* block = Pick();
  if (block == nullptr) return Outcome::kIdle;
  CheckNow(*block, block->cells[Random(block->cells.size())]);
  return Outcome::kDone;
}

void Walker::Synchronize(size_t stream) {
  Insist([&] { return Cu().StreamSynchronize(streams_[stream]); }, "cuStreamSynchronize");
}

Outcome Walker::SyncStream() {
  Synchronize(Random(streams_.size()));
  return Outcome::kDone;
}

// Everything submitted is done, and what was checked meanwhile was right.
Outcome Walker::Settle() {
  for (size_t i = 0; i < streams_.size(); ++i) Synchronize(i);
  uploads_.clear();
  CheckCounter();
  return Outcome::kDone;
}

void Walker::CheckCounter() {
  uint64_t bad = 0;
  Insist([&] { return Cu().MemcpyDtoHAsync(&bad, bad_, sizeof bad, streams_[1]); }, "cuMemcpyDtoHAsync");
  Synchronize(1);
  if (bad == 0) return;
  for (const auto& block : blocks_) {
    for (Cell& cell : block->cells) CheckNow(*block, cell);  // says which, if it is still wrong
  }
  Fail(std::to_string(bad) + " words were wrong when a kernel looked, and are right now");
}

}  // namespace gpuroom::soak
