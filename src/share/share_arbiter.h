// ShareArbiter: the loop of the process that decides whose memory is in HBM. It hears the members over their
// sockets, tells the policy (arbiter/share_table.h) and passes its orders on. It makes no driver call and
// keeps no contents: when it is killed, members start another one, which learns from them and from the file
// of grants what there is.
//
// One thread.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "arbiter/share_table.h"
#include "share/share_grants.h"
#include "share/share_message.h"
#include "share/share_socket.h"

namespace gpuroom {

class ShareArbiter {
 public:
  // Counts what `grants` says that living processes have, until they join.
  ShareArbiter(ShareLock lock, ShareListener listener, ShareGrants grants);

  // Serves until there have been no members for a while, or another process may be the arbiter.
  void Run();

 private:
  // A part of the HBM that a member was told to move out.
  struct Order {
    size_t gpu = 0;      // of the table
    uint64_t bytes = 0;  // that are not out yet
    uint64_t moved = 0;
    uint64_t since = 0;  // clock's nanoseconds
  };
  struct Member {
    OwnDescriptor socket;  // none: it does not answer, and keeps what it was granted until its process ends
    OwnDescriptor end;     // readable once the process has ended; none where the kernel cannot say
    LedgerOwner owner;
    bool joined = false;
    bool ended = false;        // to be forgotten
    std::vector<size_t> gpus;  // by the member's number: the table's
    std::vector<uint64_t> needs;
    std::vector<uint64_t>
        granted;        // bytes in all; what of it the member has not received yet it does not count
    bool told = false;  // the others were told that it does not answer
    std::map<uint64_t, Order> orders;
    std::deque<std::string> unsent;
  };
  using Members = std::map<uint64_t, Member>;

  void RememberGrants();
  void WaitForEvents();
  int Patience() const;  // milliseconds
  void KeepName();
  void AcceptAll();
  void Read(uint64_t id, Member& member);
  void Flush(uint64_t id, Member& member);
  static void Send(Member& member, const ShareMessage& message);
  void Disconnect(uint64_t id, Member& member);
  void ForgetEnded();
  void GiveUpOnStopped();
  void TakeBackOrders(uint64_t id, Member& member);

  Status Hear(uint64_t id, Member& member, const ShareMessage& message);
  Status Join(uint64_t id, Member& member, const ShareMessage& message);
  void AddGpu(uint64_t id, Member& member, const ShareMessage& message);
  void ReplaceSilent(const LedgerOwner& owner, size_t gpu);
  void Ask(uint64_t id, Member& member);
  void Wish(uint64_t id, Member& member, const ShareMessage& message);
  void State(uint64_t id, const Member& member, const ShareMessage& message);
  void MovedOut(uint64_t id, Member& member, const ShareMessage& message);
  void NoteSpeed(const Order& order);

  bool Recovers() const;
  void Decide();
  void NoteGrants();
  size_t GpuOf(const std::string& uuid);

  const ShareLock lock_;
  ShareListener listener_;
  ShareGrants grants_;
  ShareTable table_{{}};
  std::vector<std::string> uuids_;  // of the table's GPUs
  std::vector<ShareGpu> gpus_;      // the same
  Members members_;
  const uint64_t started_;  // clock's nanoseconds
  uint64_t next_member_ = 1;
  uint64_t next_order_ = 1;
  uint64_t empty_since_ = 0;  // clock's nanoseconds; 0: there are members
};

}  // namespace gpuroom
