// What two processes that share a range say to each other, and what is made of nonsense.
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "runtime/ipc_wire.h"

namespace gpuroom {
namespace {

IpcTicket SomeTicket() {
  IpcTicket ticket;
  ticket.pid = 1234;
  ticket.start = 567;
  ticket.name = 0x0123456789abcdef;
  ticket.secret = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  ticket.range = 89;
  ticket.offset = 3 * 512;
  ticket.device = 0xfedcba9876543210;
  return ticket;
}

std::vector<Chunk> SomeChunks(uint32_t count) {
  std::vector<Chunk> chunks;
  for (uint32_t i = 0; i < count; ++i) {
    chunks.push_back({100 + i, kGranularity * (1 + i % 3), static_cast<Tier>(i % 3), static_cast<int>(i)});
  }
  return chunks;
}

Status Take(IpcArrival& arrival, const IpcReply& reply) { return arrival.TakeReply(&reply, sizeof reply); }
Status Take(IpcArrival& arrival, const IpcBatch& batch, std::vector<Chunk>* out) {
  return arrival.TakeBatch(&batch, sizeof batch, batch.count, out);
}

TEST(IpcTicketTest, ComesBackFromItsHandle) {
  const IpcTicket ticket = SomeTicket();
  const CUipcMemHandle handle = EncodeTicket(ticket);
  const CUipcMemHandle again = EncodeTicket(ticket);
  EXPECT_EQ(std::memcmp(&handle, &again, sizeof handle), 0);
  const Result<IpcTicket> back = DecodeTicket(handle);
  ASSERT_TRUE(back.ok());
  EXPECT_TRUE(back->SameProcess(ticket));
  EXPECT_EQ(back->pid, ticket.pid);
  EXPECT_EQ(back->range, ticket.range);
  EXPECT_EQ(back->offset, ticket.offset);
  EXPECT_EQ(back->device, ticket.device);
}

TEST(IpcTicketTest, EveryPartOfTheProcessCounts) {
  const IpcTicket ticket = SomeTicket();
  IpcTicket other = ticket;
  other.range = other.device = 1;
  EXPECT_TRUE(other.SameProcess(ticket));
  other = ticket;
  other.pid += 1;
  EXPECT_FALSE(other.SameProcess(ticket));
  other = ticket;
  other.start += 1;
  EXPECT_FALSE(other.SameProcess(ticket));
  other = ticket;
  other.name += 1;
  EXPECT_FALSE(other.SameProcess(ticket));
  for (size_t i = 0; i < other.secret.size(); ++i) {
    other = ticket;
    other.secret[i] ^= 0x80;
    EXPECT_FALSE(other.SameProcess(ticket)) << i;
  }
}

TEST(IpcTicketTest, OtherHandlesAreTheDrivers) {
  CUipcMemHandle handle = EncodeTicket(SomeTicket());
  for (int byte = 0; byte < 8; ++byte) {
    CUipcMemHandle other = handle;
    other.reserved[byte] ^= 1;
    EXPECT_EQ(DecodeTicket(other).status().code(), Code::kNotFound) << byte;
  }
  handle.reserved[8] ^= 2;
  EXPECT_EQ(DecodeTicket(handle).status().code(), Code::kUnsupported);
  std::memset(&handle, 0, sizeof handle);
  EXPECT_EQ(DecodeTicket(handle).status().code(), Code::kNotFound);
}

class IpcArrivalTest : public testing::TestWithParam<uint32_t> {};

TEST_P(IpcArrivalTest, PutsTheBatchesTogether) {
  const std::vector<Chunk> chunks = SomeChunks(GetParam());
  CUuuid device{};
  device.bytes[5] = 7;
  IpcArrival arrival;
  ASSERT_TRUE(Take(arrival, MakeReply(1000, chunks, device)).ok());
  EXPECT_EQ(arrival.reply().requested, 1000u);
  EXPECT_EQ(arrival.reply().device.bytes[5], 7);
  std::vector<Chunk> got;
  while (!arrival.complete()) {
    const IpcNext next = MakeNext(arrival.next());
    const uint32_t first = ReadNext(&next, sizeof next);
    ASSERT_EQ(first, got.size());
    ASSERT_TRUE(Take(arrival, MakeBatch(chunks, first), &got).ok());
  }
  ASSERT_EQ(got.size(), chunks.size());
  uint64_t bytes = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].handle, 0u);
    EXPECT_EQ(got[i].bytes, chunks[i].bytes);
    EXPECT_EQ(got[i].tier, chunks[i].tier);
    EXPECT_EQ(got[i].place, chunks[i].place);
    bytes += got[i].bytes;
  }
  EXPECT_EQ(arrival.reply().bytes, bytes);
  EXPECT_FALSE(Take(arrival, MakeBatch(chunks, 0), &got).ok());  // nothing is left to come
}
INSTANTIATE_TEST_SUITE_P(Chunks, IpcArrivalTest,
                         testing::Values(1, 2, kIpcBatch - 1, kIpcBatch, kIpcBatch + 1, 1000));

TEST(IpcNonsenseTest, RepliesThatDoNotAddUp) {
  const IpcReply good = MakeReply(4096, SomeChunks(5), CUuuid{});
  const auto refused = [&](auto change) {
    IpcReply reply = good;
    change(reply);
    IpcArrival arrival;
    return !Take(arrival, reply).ok();
  };
  EXPECT_FALSE(refused([](IpcReply&) {}));
  EXPECT_TRUE(refused([](IpcReply& r) { r.magic ^= 1; }));
  EXPECT_TRUE(refused([](IpcReply& r) { r.requested = 0; }));
  EXPECT_TRUE(refused([](IpcReply& r) { r.requested = r.bytes + 1; }));
  EXPECT_TRUE(refused([](IpcReply& r) { r.bytes = 0; }));
  EXPECT_TRUE(refused([](IpcReply& r) { r.bytes += 1; }));
  EXPECT_TRUE(refused([](IpcReply& r) { r.bytes = uint64_t{1} << 60; }));
  EXPECT_TRUE(refused([](IpcReply& r) { r.chunks = 0; }));
  EXPECT_TRUE(refused([](IpcReply& r) { r.chunks = UINT32_MAX; }));
  IpcArrival arrival;
  EXPECT_FALSE(arrival.TakeReply(&good, sizeof good - 1).ok());
  EXPECT_FALSE(arrival.TakeReply(&good, 0).ok());
}

TEST(IpcNonsenseTest, BatchesThatDoNotFitTheReply) {
  const std::vector<Chunk> chunks = SomeChunks(5);
  const auto refused = [&](auto change) {
    IpcArrival arrival;
    EXPECT_TRUE(Take(arrival, MakeReply(4096, chunks, CUuuid{})).ok());
    IpcBatch batch = MakeBatch(chunks, 0);
    size_t descriptors = batch.count;
    change(batch, descriptors);
    std::vector<Chunk> out;
    const bool ok = arrival.TakeBatch(&batch, sizeof batch, descriptors, &out).ok();
    EXPECT_EQ(out.size(), ok ? 5u : 0u);
    return !ok;
  };
  EXPECT_FALSE(refused([](IpcBatch&, size_t&) {}));
  EXPECT_TRUE(refused([](IpcBatch& b, size_t&) { b.magic = 0; }));
  EXPECT_TRUE(refused([](IpcBatch& b, size_t&) { b.first = 1; }));
  EXPECT_TRUE(refused([](IpcBatch& b, size_t& n) { b.count = 4, n = 4; }));
  EXPECT_TRUE(refused([](IpcBatch& b, size_t& n) { b.count = 6, n = 6; }));
  EXPECT_TRUE(refused([](IpcBatch& b, size_t&) { b.count = UINT32_MAX; }));
  EXPECT_TRUE(refused([](IpcBatch&, size_t& n) { n = 4; }));
  EXPECT_TRUE(refused([](IpcBatch& b, size_t&) { b.chunks[2].bytes = 0; }));
  EXPECT_TRUE(refused([](IpcBatch& b, size_t&) { b.chunks[2].bytes += 1; }));
  EXPECT_TRUE(refused([](IpcBatch& b, size_t&) { b.chunks[2].bytes += kGranularity; }));
  EXPECT_TRUE(refused([](IpcBatch& b, size_t&) { b.chunks[2].bytes -= kGranularity; }));
  EXPECT_TRUE(refused([](IpcBatch& b, size_t&) { b.chunks[2].bytes = UINT64_MAX - kGranularity + 1; }));
  EXPECT_TRUE(refused([](IpcBatch& b, size_t&) { b.chunks[2].tier = 3; }));
}

TEST(IpcNonsenseTest, NextIsTakenWholeOrNotAtAll) {
  const IpcNext next = MakeNext(12);
  EXPECT_EQ(ReadNext(&next, sizeof next), 12u);
  EXPECT_EQ(ReadNext(&next, sizeof next - 1), UINT32_MAX);
  IpcNext other = next;
  other.magic += 1;
  EXPECT_EQ(ReadNext(&other, sizeof other), UINT32_MAX);
}

// Any bytes at all: refused, or a sum that is what the reply said.
TEST(IpcNonsenseTest, RandomBytesNeverAddUpToMoreThanWasSaid) {
  std::mt19937_64 random(1);
  const std::vector<Chunk> chunks = SomeChunks(40);
  for (int round = 0; round < 20000; ++round) {
    IpcArrival arrival;
    ASSERT_TRUE(Take(arrival, MakeReply(4096, chunks, CUuuid{})).ok());
    std::vector<Chunk> out;
    for (uint32_t first = 0; first < 40; first += kIpcBatch) {
      IpcBatch batch = MakeBatch(chunks, first);
      auto* bytes = reinterpret_cast<unsigned char*>(&batch);
      const size_t used = 16 + batch.count * sizeof(IpcChunk);
      for (uint64_t i = random() % 3; i > 0; --i) {
        bytes[random() % used] = static_cast<unsigned char>(random());
      }
      if (!Take(arrival, batch, &out).ok()) break;
    }
    uint64_t sum = 0;
    for (const Chunk& chunk : out) sum += chunk.bytes;
    ASSERT_LE(sum, arrival.reply().bytes);
    ASSERT_TRUE(!arrival.complete() || sum == arrival.reply().bytes);
  }
}

}  // namespace
}  // namespace gpuroom
