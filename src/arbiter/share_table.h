// Which of the programs that share GPUs may have memory in HBM now: the policy of the arbiter, as a pure
// state machine. It makes no driver call, starts no thread and reads no clock: what happens is told to it
// with its time, and Decide says what is to be moved, so that tests can run a million swaps in simulated
// time.
//
// Invariants, on each GPU:
//  - the members' awake bytes together never exceed the limit, bytes that are still on their way in or out
//  included;
//  - no member is told to move out memory below its reserve, or memory that it said is fixed.
// Nobody waits for ever: waiting requests stand in one order for all GPUs, time moves each towards its front,
// a request takes nothing from those before it, and it keeps what it could use from those behind it.
//
// Bytes are bytes, times are nanoseconds of one monotonic clock. The caller serialises all calls.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/status.h"

namespace gpuroom {

enum class SharePriority : uint8_t { kBatch, kNormal, kInteractive };

struct ShareGpu {
  uint64_t limit = 0;             // bytes of HBM that all members together may have
  uint64_t bytes_per_second = 0;  // of its link to the host, in one direction; not 0
};

// What a member asked for when it joined.
struct ShareTerms {
  SharePriority priority = SharePriority::kNormal;
  uint64_t reserve = 0;     // bytes on each GPU that nobody may take from it
  uint64_t quantum = 0;     // nanoseconds that it may run before members of its own priority take its memory
  uint64_t idle_after = 0;  // nanoseconds without work after which it counts as idle
};

struct ShareOrder {
  enum class Kind : uint8_t {
    kOut,     // the member puts `bytes` to sleep, and reports MovedOut
    kIn,      // the member may take `bytes` of HBM, and reports MovedIn
    kRefuse,  // the member's request can never be met beside what others may keep: it spills. The request is
              // gone
  };
  Kind kind = Kind::kOut;
  uint64_t member = 0;
  size_t gpu = 0;
  uint64_t bytes = 0;
};

class ShareTable {
 public:
  // A turn takes at least this many times what it takes to copy the memory that the turn needs: of two
  // members that are always busy each then has 6/7 of what it would have if swaps took no time.
  static constexpr uint64_t kSwapsPerTurn = 6;
  // A request that waited this many of its member's turns counts as of the next higher priority.
  static constexpr uint64_t kPatienceTurns = 8;

  explicit ShareTable(std::vector<ShareGpu> gpus) : gpus_(std::move(gpus)) {}

  // Another GPU, of which members have nothing yet. Its number.
  size_t AddGpu(const ShareGpu& gpu);
  // Where that leaves members with more than the limit, they keep it until they free it or others ask.
  void ChangeGpu(size_t gpu, const ShareGpu& now) { gpus_[gpu] = now; }

  // kInvalidArgument if a member of this number is there; kOutOfMemory if the reserves would exceed a limit.
  Status Join(uint64_t member, const ShareTerms& terms, uint64_t now);
  // The member ended, however: the driver has its memory back. Orders to it are void.
  void Leave(uint64_t member);
  // What the member has in HBM on a GPU, and how much of it cannot move (exported memory, or a move that
  // failed). For members that are read back after the arbiter was started anew, and whenever that changes by
  // itself. Bytes that are being moved stay as they are.
  void Report(uint64_t member, size_t gpu, uint64_t awake, uint64_t fixed);

  // Whether the member has work on its GPUs. Changes nothing while its request waits: it is busy as long.
  void SetBusy(uint64_t member, bool busy, uint64_t now);
  // The member cannot go on without `bytes` more on each GPU (one number for each): its launches wait until
  // all of them are in. Replaces its request of before. Makes it busy.
  void Ask(uint64_t member, const std::vector<uint64_t>& bytes, uint64_t now);
  // What the member may take at once of `bytes` that it can do without: what is free while nobody waits. It
  // reports MovedIn.
  uint64_t TakeFree(uint64_t member, size_t gpu, uint64_t bytes);
  // Gives the request up. What was granted already stays granted.
  void Withdraw(uint64_t member, uint64_t now);

  // Of `asked` bytes that kOut named, `moved` are out of HBM, and the others are not going to be: they count
  // as fixed until the next Report. A member reports in as many parts as it likes. More may move than was
  // asked.
  void MovedOut(uint64_t member, size_t gpu, uint64_t asked, uint64_t moved);
  void MovedIn(uint64_t member, size_t gpu, uint64_t bytes, uint64_t now);
  // The member freed memory that was awake.
  void Freed(uint64_t member, size_t gpu, uint64_t bytes);

  // What has to move now. Each order is given once. Costs O(requests x members) and nothing while nobody
  // waits.
  std::vector<ShareOrder> Decide(uint64_t now);
  // The time at which Decide may say more although nothing happens until then; nothing while nobody waits.
  std::optional<uint64_t> NextLook(uint64_t now) const;

  bool waiting(uint64_t member) const;
  uint64_t awake(uint64_t member, size_t gpu) const;

 private:
  struct Holding {
    uint64_t awake = 0;     // in HBM, or granted
    uint64_t arriving = 0;  // of these: granted, and not in yet
    uint64_t leaving = 0;   // of these: told to move out, and not out yet
    uint64_t fixed = 0;     // of these: cannot move
    uint64_t need = 0;      // asked for, and not granted
  };
  struct Member {
    ShareTerms terms;
    std::vector<Holding> on;
    bool busy = false;
    bool waiting = false;                  // has a request that is not complete
    bool started = false;                  // memory moves for the request already
    uint64_t since = 0;                    // when it became busy, idle, or began to wait or to run
    uint64_t turn = 0;                     // how long it may run once its request is complete
    uint64_t ran = 0;                      // of this turn, before `since`
    std::optional<uint64_t> behind_since;  // when it first waited since its last whole turn
  };
  struct Room;
  using Members = std::map<uint64_t, Member>;

  // The priority that counts: time spent waiting raises it, up to kInteractive.
  static uint64_t Rank(const Member& member, uint64_t now);
  static uint64_t Ran(const Member& member, uint64_t now);
  static uint64_t Movable(const Member& member, size_t gpu);
  static void StopRunning(Member& member, uint64_t now);
  uint64_t TurnFor(const Member& member) const;
  bool Complete(const Member& member) const;
  bool EverPossible(uint64_t id, const Member& member) const;
  bool MayTake(const Member& asking, const Member& victim, uint64_t now) const;
  std::vector<uint64_t> WaitingInOrder(uint64_t now) const;
  std::vector<uint64_t> VictimsInOrder(uint64_t asking, const std::vector<uint64_t>& behind,
                                       uint64_t now) const;
  Room FreeRoom() const;
  void Serve(uint64_t id, const std::vector<uint64_t>& behind, Room& room, uint64_t now,
             std::vector<ShareOrder>& orders);
  void CompleteIfAllIsIn(Member& member, uint64_t now);

  std::vector<ShareGpu> gpus_;
  Members members_;
};

}  // namespace gpuroom
