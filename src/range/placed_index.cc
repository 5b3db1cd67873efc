#include "range/placed_index.h"

#include "range/mover.h"

namespace gpuroom {
namespace {

constexpr uint64_t kWorkspaces = 2 * kDataBytes;  // bytes of pieces that count as workspaces at most

uint64_t Warmth(Hint hint) {
  switch (hint) {
    case Hint::kCold: return 0;
    case Hint::kStream: return 1;
    case Hint::kNone: return 2;
    case Hint::kHot: return 3;
  }
  return 3;
}

// Ascends from cold to warm, from data to workspaces and from old to young.
uint64_t Coldness(const Placed& placed) {
  return Warmth(placed.hint) << 62 | uint64_t{placed.data ? 0U : 1U} << 61 | placed.order;
}

IndexEntry Describe(const Placed& placed) {
  IndexEntry now;
  const uint64_t bytes = BytesOf(placed);
  const bool sized_by_use = !placed.in_pieces || bytes >= kDataBytes;
  now.present = true;
  now.key = Coldness(placed);
  now.gives = MayGiveWay(placed);
  now.piece = now.gives && !sized_by_use;
  now.in_hbm = placed.awake() ? bytes - placed.host_bytes - placed.peer_bytes : 0;
  now.returns = placed.wants_device && Movable(placed) && now.in_hbm < bytes;
  now.asleep = !placed.awake();
  now.asleep_bytes = now.asleep ? bytes : 0;
  now.away = placed.in_pieces && placed.away();
  return now;
}

}  // namespace

bool MayGiveWay(const Placed& placed) { return placed.hint != Hint::kHot && Movable(placed); }

void PlacedIndex::Update(Placed* placed) {
  // Of a piece TellWorkspaces has the say.
  const uint64_t bytes = BytesOf(*placed);
  if (!placed->in_pieces || bytes >= kDataBytes) placed->data = bytes >= kDataBytes;
  const IndexEntry now = Describe(*placed);
  Indexed& made = placed->indexed;
  if (made == now) return;
  if (!made.present) MakeNodes();
  Leave(placed, now);
  Count(made, false);
  made.Note(now);
  Count(made, true);
  Join(placed);
}

void PlacedIndex::MakeNodes() {
  Order made;
  while (made.size() < kNodes) made.emplace(next_spare_++, nullptr);
  spare_.merge(made);
}

void PlacedIndex::Put(Order* order, uint64_t key, Placed* placed) {
  if (order->contains(key)) return;
  Order::node_type node = spare_.extract(spare_.begin());
  node.key() = key;
  node.mapped() = placed;
  order->insert(std::move(node));
}

void PlacedIndex::TakeFrom(Order* order, uint64_t key) {
  Order::node_type node = order->extract(key);
  node.key() = next_spare_++;
  spare_.insert(std::move(node));
}

void PlacedIndex::Remove(Placed* placed) {
  if (!placed->indexed.present) return;
  Leave(placed, IndexEntry());
  TakeFrom(&by_age_, placed->order);
  Count(placed->indexed, false);
  placed->indexed.Note(IndexEntry());
  for (size_t i = 0; i < kNodes; ++i) spare_.erase(spare_.begin());
}

// Takes it out of those orders in which it will have another place, or none.
void PlacedIndex::Leave(Placed* placed, const IndexEntry& next) {
  const IndexEntry& made = placed->indexed;
  const bool moves = made.key != next.key;
  if (made.gives && (moves || !next.gives || (made.in_hbm > 0) != (next.in_hbm > 0)))
    TakeFrom(made.in_hbm > 0 ? &givers_ : &given_, made.key);
  if (made.returns && (moves || !next.returns)) TakeFrom(&returners_, made.key);
  if (made.piece && !next.piece) {
    TakeFrom(&pieces_, placed->order);
    workspaces_.erase(placed->order);
  }
}

// Enters it where it is not yet.
void PlacedIndex::Join(Placed* placed) {
  const IndexEntry& made = placed->indexed;
  Put(&by_age_, placed->order, placed);
  if (made.gives) Put(made.in_hbm > 0 ? &givers_ : &given_, made.key, placed);
  if (made.returns) Put(&returners_, made.key, placed);
  if (made.piece) Put(&pieces_, placed->order, placed);
}

void PlacedIndex::Count(const IndexEntry& change, bool add) {
  const auto count = [add](auto& figure, uint64_t by) {
    if (add) {
      figure.fetch_add(by, std::memory_order_relaxed);
    } else {
      figure.fetch_sub(by, std::memory_order_relaxed);
    }
  };
  count(giving_bytes_, change.gives ? change.in_hbm : 0);
  count(asleep_bytes_, change.asleep_bytes);
  count(returning_, change.returns ? 1 : 0);
  count(totals_.asleep, change.asleep ? 1 : 0);
  count(totals_.away, change.away ? 1 : 0);
}

void PlacedIndex::TellWorkspaces() {
  Order oldest;
  uint64_t bytes = 0;
  for (const auto& [order, placed] : pieces_) {
    bytes += BytesOf(*placed);
    if (bytes > kWorkspaces) break;
    oldest.emplace(order, placed);
  }
  for (const auto& [order, placed] : Order(workspaces_)) {
    if (oldest.count(order) != 0) continue;
    placed->data = true;
    Update(placed);
  }
  for (const auto& [order, placed] : oldest) {
    placed->data = false;
    Update(placed);
  }
  workspaces_.swap(oldest);
}

}  // namespace gpuroom
