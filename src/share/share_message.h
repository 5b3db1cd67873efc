// What members and the arbiter of programs that share GPUs say to each other: one message a packet, as one
// line of the control protocol's form ("out id=3 gpu=0 bytes=1073741824"). A number that is 0 is left out.
// Pure functions.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace gpuroom {

inline constexpr uint64_t kShareVersion = 1;

struct ShareMessage {
  enum class Verb {
    // From a member. The first message is kJoin, with `version`, `priority`, `reserve`, `quantum` and
    // `idle_after`;
    // `pid` where the arbiter's kernel does not say.
    kJoin,
    kGpu,       // it uses another GPU: `uuid`, `limit`, `link`, `awake`, `fixed`. Its number is how many came
                // before
    kState,     // what it has on `gpu` now: `awake`, `fixed`, after `received` bytes of grants in all
    kNeed,      // of the next kAsk: `bytes` on `gpu`
    kAsk,       // it cannot go on without what it named
    kWithdraw,  // it can
    kWish,      // it would use `bytes` more on `gpu` if nobody waits for them
    kBusy,      // it has work
    kIdle,      // it has none
    kMovedOut,  // of order `id`, `asked` bytes are done: `bytes` are out, the rest is not going to be
    kMovedIn,   // `bytes` of what was granted on `gpu` are in use
    // From the arbiter.
    kOut,     // order `id`: move `bytes` on `gpu` out
    kIn,      // take `bytes` more on `gpu`
    kRefuse,  // what was asked for can never be had
    kNote,    // `text` is for the log
    kReject,  // it is no member, for the reason `text`
  };

  Verb verb = Verb::kNote;
  uint64_t version = 0;
  uint64_t priority = 0;    // SharePriority
  uint64_t reserve = 0;     // bytes
  uint64_t quantum = 0;     // nanoseconds
  uint64_t idle_after = 0;  // nanoseconds
  uint64_t gpu = 0;         // number among the member's own
  uint64_t id = 0;
  uint64_t asked = 0;  // bytes, as the next ones
  uint64_t bytes = 0;
  uint64_t awake = 0;
  uint64_t fixed = 0;
  uint64_t received = 0;
  uint64_t limit = 0;
  uint64_t link = 0;  // bytes per second
  std::string uuid;
  std::string text;
};

std::string FormatShareMessage(const ShareMessage& message);
// kInvalidArgument: not a message. Fields that are not known are a later version's.
Result<ShareMessage> ParseShareMessage(std::string_view packet);

}  // namespace gpuroom
