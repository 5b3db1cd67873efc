#include "arbiter/share_table.h"

#include <algorithm>

namespace gpuroom {

// What requests may still count on in one call of Decide, on each GPU. A request takes its part from here
// even if it cannot start yet, so that a stream of small requests never keeps a large one out.
struct ShareTable::Room {
  std::vector<uint64_t> free;                            // bytes that nobody has
  std::vector<uint64_t> leaving;                         // bytes that are on their way out
  std::map<uint64_t, std::vector<uint64_t>> spoken_for;  // of each member: bytes that a request before took
};

size_t ShareTable::AddGpu(const ShareGpu& gpu) {
  gpus_.push_back(gpu);
  for (auto& [id, member] : members_) member.on.resize(gpus_.size());
  return gpus_.size() - 1;
}

Status ShareTable::Join(uint64_t member, const ShareTerms& terms, uint64_t now) {
  if (members_.count(member) != 0) return Status(Code::kInvalidArgument, "this process has joined already");
  uint64_t reserves = terms.reserve;
  for (const auto& [id, other] : members_) reserves += other.terms.reserve;
  for (const ShareGpu& gpu : gpus_) {
    if (reserves > gpu.limit) {
      return Status(Code::kOutOfMemory,
                    "the reserves of the programs that share a GPU are more than its limit");
    }
  }
  Member& joined = members_[member];
  joined.terms = terms;
  joined.on.resize(gpus_.size());
  joined.since = now;
  return Status();
}

void ShareTable::Leave(uint64_t member) { members_.erase(member); }

void ShareTable::Report(uint64_t member, size_t gpu, uint64_t awake, uint64_t fixed) {
  const auto found = members_.find(member);
  if (found == members_.end()) return;
  Holding& on = found->second.on[gpu];
  on.awake = std::max(awake, on.arriving + on.leaving);
  on.fixed = fixed;
}

void ShareTable::SetBusy(uint64_t member, bool busy, uint64_t now) {
  const auto found = members_.find(member);
  if (found == members_.end() || found->second.busy == busy || found->second.waiting) return;
  Member& changed = found->second;
  changed.busy = busy;
  changed.since = now;
  changed.ran = 0;
  changed.turn = changed.terms.quantum;
  changed.behind_since.reset();
}

void ShareTable::Ask(uint64_t member, const std::vector<uint64_t>& bytes, uint64_t now) {
  const auto found = members_.find(member);
  if (found == members_.end()) return;
  Member& asking = found->second;
  if (!asking.waiting) {
    StopRunning(asking, now);
    asking.since = now;
  }
  for (size_t gpu = 0; gpu < gpus_.size(); ++gpu) asking.on[gpu].need = bytes[gpu];
  asking.busy = true;
  asking.waiting = true;
  asking.started = false;
  asking.turn = std::max(asking.turn, TurnFor(asking));
  if (!asking.behind_since) asking.behind_since = now;
  CompleteIfAllIsIn(asking, now);
}

uint64_t ShareTable::TakeFree(uint64_t member, size_t gpu, uint64_t bytes) {
  const auto found = members_.find(member);
  const auto waits = [](const auto& entry) { return entry.second.waiting; };
  if (found == members_.end() || std::any_of(members_.begin(), members_.end(), waits)) return 0;
  const uint64_t granted = std::min(bytes, FreeRoom().free[gpu]);
  found->second.on[gpu].awake += granted;
  found->second.on[gpu].arriving += granted;
  return granted;
}

void ShareTable::Withdraw(uint64_t member, uint64_t now) {
  const auto found = members_.find(member);
  if (found == members_.end() || !found->second.waiting) return;
  for (Holding& on : found->second.on) on.need = 0;
  CompleteIfAllIsIn(found->second, now);
}

void ShareTable::MovedOut(uint64_t member, size_t gpu, uint64_t asked, uint64_t moved) {
  const auto found = members_.find(member);
  if (found == members_.end()) return;
  Holding& on = found->second.on[gpu];
  on.leaving -= std::min(on.leaving, asked);
  on.awake -= std::min(on.awake, moved);
  if (moved < asked) on.fixed = on.awake;
  on.fixed = std::min(on.fixed, on.awake);
}

void ShareTable::MovedIn(uint64_t member, size_t gpu, uint64_t bytes, uint64_t now) {
  const auto found = members_.find(member);
  if (found == members_.end()) return;
  Holding& on = found->second.on[gpu];
  on.arriving -= std::min(on.arriving, bytes);
  CompleteIfAllIsIn(found->second, now);
}

void ShareTable::Freed(uint64_t member, size_t gpu, uint64_t bytes) {
  const auto found = members_.find(member);
  if (found == members_.end()) return;
  Holding& on = found->second.on[gpu];
  on.awake = std::max(on.awake - std::min(on.awake, bytes), on.arriving + on.leaving);
  on.fixed = std::min(on.fixed, on.awake);
}

std::vector<ShareOrder> ShareTable::Decide(uint64_t now) {
  std::vector<ShareOrder> orders;
  std::vector<uint64_t> behind = WaitingInOrder(now);
  if (behind.empty()) return orders;
  Room room = FreeRoom();
  while (!behind.empty()) {
    const uint64_t id = behind.front();
    behind.erase(behind.begin());
    Serve(id, behind, room, now, orders);
  }
  return orders;
}

std::optional<uint64_t> ShareTable::NextLook(uint64_t now) const {
  std::optional<uint64_t> next;
  const auto consider = [&](uint64_t time) {
    if (time > now && (!next || time < *next)) next = time;
  };
  if (WaitingInOrder(now).empty()) return next;
  for (const auto& [id, member] : members_) {
    if (member.waiting) {
      for (uint64_t steps = 1; steps <= static_cast<uint64_t>(SharePriority::kInteractive); ++steps) {
        consider(*member.behind_since + steps * kPatienceTurns * member.turn);
      }
    } else if (member.busy) {
      consider(now + member.turn - std::min(member.turn, Ran(member, now)));
    } else {
      consider(member.since + member.terms.idle_after);
    }
  }
  return next;
}

bool ShareTable::waiting(uint64_t member) const {
  const auto found = members_.find(member);
  return found != members_.end() && found->second.waiting;
}

uint64_t ShareTable::awake(uint64_t member, size_t gpu) const {
  const auto found = members_.find(member);
  return found == members_.end() ? 0 : found->second.on[gpu].awake;
}

uint64_t ShareTable::Rank(const Member& member, uint64_t now) {
  const uint64_t highest = static_cast<uint64_t>(SharePriority::kInteractive);
  const uint64_t rank = static_cast<uint64_t>(member.terms.priority);
  const bool had_its_turn = !member.waiting && Ran(member, now) >= member.turn;
  if (!member.behind_since || member.turn == 0 || had_its_turn) return rank;
  return std::min(highest, rank + (now - *member.behind_since) / (kPatienceTurns * member.turn));
}

uint64_t ShareTable::Ran(const Member& member, uint64_t now) {
  return member.busy && !member.waiting ? member.ran + (now - member.since) : member.ran;
}

uint64_t ShareTable::Movable(const Member& member, size_t gpu) {
  const Holding& on = member.on[gpu];
  const uint64_t stays = on.arriving + on.leaving + std::max(on.fixed, member.terms.reserve);
  return on.awake > stays ? on.awake - stays : 0;
}

// A whole turn behind it ends a member's claim to be served before others; of a part, it keeps the rest.
void ShareTable::StopRunning(Member& member, uint64_t now) {
  member.ran = Ran(member, now);
  if (member.ran < member.turn) return;
  member.ran = 0;
  member.turn = 0;
  member.behind_since.reset();
}

uint64_t ShareTable::TurnFor(const Member& member) const {
  uint64_t turn = member.terms.quantum;
  for (size_t gpu = 0; gpu < gpus_.size(); ++gpu) {
    const double seconds =
        static_cast<double>(member.on[gpu].need) / static_cast<double>(gpus_[gpu].bytes_per_second);
    turn = std::max(turn, kSwapsPerTurn * static_cast<uint64_t>(seconds * 1e9));
  }
  return turn;
}

bool ShareTable::Complete(const Member& member) const {
  return std::all_of(member.on.begin(), member.on.end(),
                     [](const Holding& on) { return on.need == 0 && on.arriving == 0; });
}

// Whether the request fits beside what the others may keep.
bool ShareTable::EverPossible(uint64_t id, const Member& member) const {
  for (size_t gpu = 0; gpu < gpus_.size(); ++gpu) {
    uint64_t taken = member.on[gpu].awake + member.on[gpu].need;
    for (const auto& [other_id, other] : members_) {
      if (other_id == id) continue;
      const Holding& on = other.on[gpu];
      taken += std::min(on.awake, std::max(on.fixed, other.terms.reserve));
    }
    if (taken > gpus_[gpu].limit) return false;
  }
  return true;
}

// For victims that do not wait themselves.
bool ShareTable::MayTake(const Member& asking, const Member& victim, uint64_t now) const {
  if (!victim.busy && now - victim.since >= victim.terms.idle_after) return true;
  const uint64_t rank = Rank(victim, now);
  if (static_cast<uint64_t>(asking.terms.priority) > rank) return true;
  return Rank(asking, now) >= rank && Ran(victim, now) >= victim.turn;
}

// Highest rank first, then who has been behind longest.
std::vector<uint64_t> ShareTable::WaitingInOrder(uint64_t now) const {
  std::vector<uint64_t> order;
  for (const auto& [id, member] : members_) {
    if (member.waiting) order.push_back(id);
  }
  std::stable_sort(order.begin(), order.end(), [&](uint64_t a, uint64_t b) {
    const Member& first = members_.at(a);
    const Member& second = members_.at(b);
    const uint64_t first_rank = Rank(first, now);
    const uint64_t second_rank = Rank(second, now);
    return first_rank != second_rank ? first_rank > second_rank : *first.behind_since < *second.behind_since;
  });
  return order;
}

// Idle members, idle longest first; then those whose requests are behind, the last first: they do not run
// either; then who runs, of the lowest rank first, and of these who runs longest.
std::vector<uint64_t> ShareTable::VictimsInOrder(uint64_t asking, const std::vector<uint64_t>& behind,
                                                 uint64_t now) const {
  std::vector<uint64_t> idle;
  std::vector<uint64_t> running;
  for (const auto& [id, member] : members_) {
    if (member.waiting || !MayTake(members_.at(asking), member, now)) continue;
    (member.busy ? running : idle).push_back(id);
  }
  std::stable_sort(idle.begin(), idle.end(),
                   [&](uint64_t a, uint64_t b) { return members_.at(a).since < members_.at(b).since; });
  std::stable_sort(running.begin(), running.end(), [&](uint64_t a, uint64_t b) {
    const uint64_t first = Rank(members_.at(a), now);
    const uint64_t second = Rank(members_.at(b), now);
    return first != second ? first < second : members_.at(a).since < members_.at(b).since;
  });
  idle.insert(idle.end(), behind.rbegin(), behind.rend());
  idle.insert(idle.end(), running.begin(), running.end());
  return idle;
}

ShareTable::Room ShareTable::FreeRoom() const {
  Room room;
  for (size_t gpu = 0; gpu < gpus_.size(); ++gpu) {
    uint64_t awake = 0;
    uint64_t leaving = 0;
    for (const auto& [id, member] : members_) {
      awake += member.on[gpu].awake;
      leaving += member.on[gpu].leaving;
    }
    room.free.push_back(gpus_[gpu].limit - std::min(gpus_[gpu].limit, awake));
    room.leaving.push_back(leaving);
  }
  return room;
}

void ShareTable::Serve(uint64_t id, const std::vector<uint64_t>& behind, Room& room, uint64_t now,
                       std::vector<ShareOrder>& orders) {
  Member& asking = members_.at(id);
  if (!EverPossible(id, asking)) {
    for (Holding& on : asking.on) on.need = 0;
    orders.push_back({ShareOrder::Kind::kRefuse, id, 0, 0});
    CompleteIfAllIsIn(asking, now);
    return;
  }
  const std::vector<uint64_t> victims = VictimsInOrder(id, behind, now);
  std::vector<ShareOrder> wanted;
  bool covered = true;
  for (size_t gpu = 0; gpu < gpus_.size(); ++gpu) {
    uint64_t left = asking.on[gpu].need;
    const uint64_t granted = std::min(left, room.free[gpu]);
    room.free[gpu] -= granted;
    left -= granted;
    if (granted != 0) wanted.push_back({ShareOrder::Kind::kIn, id, gpu, granted});
    const uint64_t on_the_way = std::min(left, room.leaving[gpu]);
    room.leaving[gpu] -= on_the_way;
    left -= on_the_way;
    for (auto victim = victims.begin(); victim != victims.end() && left != 0; ++victim) {
      std::vector<uint64_t>& spoken_for = room.spoken_for.try_emplace(*victim, gpus_.size(), 0).first->second;
      const uint64_t movable = Movable(members_.at(*victim), gpu);
      const uint64_t taken = std::min(left, movable - std::min(movable, spoken_for[gpu]));
      if (taken == 0) continue;
      spoken_for[gpu] += taken;
      left -= taken;
      wanted.push_back({ShareOrder::Kind::kOut, *victim, gpu, taken});
    }
    covered = covered && left == 0;
  }
  if (!covered && !asking.started) return;
  asking.started = true;
  for (const ShareOrder& order : wanted) {
    Member& member = members_.at(order.member);
    Holding& on = member.on[order.gpu];
    if (order.kind == ShareOrder::Kind::kOut) {
      on.leaving += order.bytes;
      room.spoken_for.at(order.member)[order.gpu] -= order.bytes;
    } else {
      on.need -= order.bytes;
      on.awake += order.bytes;
      on.arriving += order.bytes;
    }
    orders.push_back(order);
  }
}

void ShareTable::CompleteIfAllIsIn(Member& member, uint64_t now) {
  if (!member.waiting || !Complete(member)) return;
  member.waiting = false;
  member.started = false;
  member.since = now;
}

}  // namespace gpuroom
