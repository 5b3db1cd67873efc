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

// Of memory that comes in pieces of one size, the size does not say whether it is data.
bool SizeTells(const Placed& placed, uint64_t bytes) { return !placed.in_pieces || bytes >= kDataBytes; }

IndexEntry EntryOf(const Placed& placed, uint64_t bytes) {
  IndexEntry now;
  const bool movable = Movable(placed);
  now.present = true;
  now.key = Coldness(placed);
  now.gives = movable && placed.hint != Hint::kHot;
  now.piece = now.gives && !SizeTells(placed, bytes);
  now.in_hbm = placed.awake() ? bytes - placed.host_bytes - placed.peer_bytes : 0;
  now.returns = placed.wants_device && movable && now.in_hbm < bytes;
  return now;
}

IndexFigures FiguresOf(const Placed& placed) {
  IndexFigures now;
  now.asleep = !placed.awake();
  now.away = placed.in_pieces && placed.away();
  now.outside = placed.wants_device && placed.spilled();
  now.asleep_bytes = now.asleep ? BytesOf(placed) : 0;
  now.backup_bytes = now.asleep ? placed.asleep->BackupBytes() : 0;
  return now;
}

}  // namespace

bool MayGiveWay(const Placed& placed) { return placed.hint != Hint::kHot && Movable(placed); }

void PlacedIndex::Update(Placed* placed) {
  if (!placed->indexed.entered) {
    MakeNodes();
    placed->indexed.entered = true;
    ++entered_;
  }
  Count(placed, FiguresOf(*placed));
  if (placed->indexed.unsettled) return;
  List(placed);
  if (unsettled_ > kUnsettled) SettleOldest();
}

void PlacedIndex::Remove(Placed* placed) {
  Indexed& made = placed->indexed;
  if (!made.entered) return;
  if (made.unsettled) Unlist(placed);
  if (made.entry.present) Change(placed, IndexEntry());
  Count(placed, IndexFigures());
  made.entered = false;
  --entered_;
  DropNodes();
}

void PlacedIndex::List(Placed* placed) {
  Indexed& made = placed->indexed;
  made.unsettled = true;
  made.before = newest_unsettled_;
  made.after = nullptr;
  (made.before != nullptr ? made.before->indexed.after : oldest_unsettled_) = placed;
  newest_unsettled_ = placed;
  ++unsettled_;
}

void PlacedIndex::Unlist(Placed* placed) {
  Indexed& made = placed->indexed;
  made.unsettled = false;
  (made.before != nullptr ? made.before->indexed.after : oldest_unsettled_) = made.after;
  (made.after != nullptr ? made.after->indexed.before : newest_unsettled_) = made.before;
  --unsettled_;
}

void PlacedIndex::SettleOldest() {
  Placed* placed = oldest_unsettled_;
  Unlist(placed);
  const uint64_t bytes = BytesOf(*placed);
  // Of the others TellWorkspaces has the say.
  if (SizeTells(*placed, bytes)) placed->data = bytes >= kDataBytes;
  Change(placed, EntryOf(*placed, bytes));
}

// Where this throws, nodes that were made already are spare.
void PlacedIndex::MakeNodes() {
  const size_t needed = kNodes * (entered_ + 1);
  if (spare_.capacity() < needed + kKept) spare_.reserve(2 * needed + kKept);
  for (; nodes_ < needed; ++nodes_) {
    Order made;
    made.emplace(0, nullptr);
    spare_.push_back(made.extract(made.begin()));
  }
}

void PlacedIndex::DropNodes() {
  for (; nodes_ > kNodes * entered_ + kKept; --nodes_) spare_.pop_back();
}

std::array<PlacedIndex::Slot, PlacedIndex::kNodes> PlacedIndex::SlotsOf(const Placed& placed,
                                                                        const IndexEntry& entry) {
  std::array<Slot, kNodes> slots;
  if (entry.present) slots[0] = {&by_age_, placed.order};
  if (entry.gives) slots[1] = {entry.in_hbm > 0 ? &givers_ : &given_, entry.key};
  if (entry.returns) slots[2] = {&returners_, entry.key};
  if (entry.piece) slots[3] = {&pieces_, placed.order};
  return slots;
}

void PlacedIndex::Change(Placed* placed, const IndexEntry& next) {
  IndexEntry& made = placed->indexed.entry;
  const std::array<Slot, kNodes> from = SlotsOf(*placed, made);
  const std::array<Slot, kNodes> to = SlotsOf(*placed, next);
  for (size_t i = 0; i < kNodes; ++i) {
    if (from[i] != to[i]) Shift(from[i], to[i], placed);
  }
  if (made.piece && !next.piece) workspaces_.erase(placed->order);
  giving_bytes_ -= made.gives ? made.in_hbm : 0;
  giving_bytes_ += next.gives ? next.in_hbm : 0;
  made = next;
}

void PlacedIndex::Shift(const Slot& from, const Slot& to, Placed* placed) {
  Order::node_type node;
  if (from.order != nullptr) {
    node = from.order->extract(from.key);
  } else {
    node = std::move(spare_.back());
    spare_.pop_back();
  }
  if (to.order == nullptr) return spare_.push_back(std::move(node));
  node.key() = to.key;
  node.mapped() = placed;
  to.order->insert(to.order->end(), std::move(node));  // the youngest mostly comes last
}

void PlacedIndex::Count(Placed* placed, const IndexFigures& after) {
  IndexFigures& before = placed->indexed.figures;
  // A difference below zero wraps, and so does the sum.
  const auto count = [](auto& figure, uint64_t was, uint64_t is) {
    if (was != is) figure.fetch_add(is - was, std::memory_order_relaxed);
  };
  count(asleep_bytes_, before.asleep_bytes, after.asleep_bytes);
  count(backup_bytes_, before.backup_bytes, after.backup_bytes);
  count(outside_, before.outside, after.outside);
  count(totals_.asleep, before.asleep, after.asleep);
  count(totals_.away, before.away, after.away);
  before = after;
}

void PlacedIndex::TellWorkspaces() {
  Order oldest;
  uint64_t bytes = 0;
  for (const auto& [order, placed] : Settled(pieces_)) {
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
