// A node in simulated time: members that work and rest, links of a given speed, and a ShareTable that
// decides. Every step checks that HBM is never given twice and that no reserve is broken.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <queue>
#include <random>
#include <vector>

#include "arbiter/share_table.h"
#include "base/size.h"

namespace gpuroom {

inline constexpr uint64_t kSecond = 1000000000;
inline constexpr uint64_t kForever = uint64_t{1} << 60;

// What a simulated program does: works for a while on all of its memory, rests, and so on.
struct Habit {
  std::vector<uint64_t> bytes;  // its memory on each GPU
  uint64_t work = kForever;     // nanoseconds at a time; varies by half if `varies`
  uint64_t rest = 0;
  bool varies = false;
};

class ShareWorld {
 public:
  ShareWorld(std::vector<ShareGpu> gpus, uint64_t seed)
      : table_(gpus), gpus_(std::move(gpus)), random_(seed) {
    links_.resize(gpus_.size());
  }

  void Add(uint64_t id, const ShareTerms& terms, const Habit& habit, uint64_t first_work = 0) {
    ASSERT_TRUE(table_.Join(id, terms, now_).ok());
    Program& program = programs_[id];
    program.terms = terms;
    program.habit = habit;
    program.life = ++lives_;
    program.awake.resize(gpus_.size());
    program.going.resize(gpus_.size());
    Later(now_ + first_work, Event::kWork, id);
  }

  // As kill -9: the table hears of it, and what moves for the program comes to nothing.
  void Kill(uint64_t id) {
    table_.Leave(id);
    programs_.erase(id);
  }

  // In per mille: moves out that fail. What failed may move again after a second.
  void FailMoves(unsigned per_mille) { fail_per_mille_ = per_mille; }

  // Until simulated time `until` or, if that comes before, until `swaps` requests that needed memory were
  // met.
  void Run(uint64_t until, uint64_t swaps = UINT64_MAX) {
    Settle();
    while (!events_.empty() && events_.top().time <= until && swaps_ < swaps &&
           !testing::Test::HasFailure()) {
      const Event event = events_.top();
      events_.pop();
      now_ = event.time;
      Happen(event);
      Settle();
    }
  }

  uint64_t now() const { return now_; }
  uint64_t swaps() const { return swaps_; }
  uint64_t moved_out() const { return moved_out_; }
  uint64_t refused() const { return refused_; }
  uint64_t awake(uint64_t id, size_t gpu) const { return programs_.at(id).awake[gpu]; }
  // Nanoseconds that the program had all its memory and worked.
  uint64_t worked(uint64_t id) const {
    const Program& program = programs_.at(id);
    return program.worked + (program.running ? now_ - program.since : 0);
  }
  // The longest wait of the program, one that still lasts included.
  uint64_t longest_wait(uint64_t id) const {
    const Program& program = programs_.at(id);
    return std::max(program.longest_wait, Waits(program) ? now_ - program.waiting_since : 0);
  }

 private:
  struct Program {
    ShareTerms terms;
    Habit habit;
    uint64_t life = 0;
    std::vector<uint64_t> awake;  // in HBM, or granted
    std::vector<uint64_t> going;  // of these: being moved out
    bool wants = false;           // has work
    bool running = false;
    uint64_t since = 0;          // runs since
    uint64_t waiting_since = 0;  // has work and does not run since
    uint64_t left = 0;           // work until it rests
    uint64_t worked = 0;
    uint64_t longest_wait = 0;
    bool asked = false;  // for memory, since it ran last
    uint64_t burst = 0;  // counts pieces of running, so that events of earlier ones are known
  };
  struct Event {
    enum Kind { kWork, kDone, kOut, kFailed, kIn, kRecovered, kLook } kind;
    uint64_t time;
    uint64_t number;  // events of one time happen in the order in which they were made
    uint64_t id;
    uint64_t life;
    size_t gpu;
    uint64_t bytes;
    bool operator<(const Event& other) const {
      return time != other.time ? time > other.time : number > other.number;
    }
  };
  struct Link {
    uint64_t free_out = 0;
    uint64_t free_in = 0;
  };

  static bool Waits(const Program& program) { return program.wants && !program.running; }

  void Later(uint64_t time, Event::Kind kind, uint64_t id, size_t gpu = 0, uint64_t bytes = 0) {
    const auto found = programs_.find(id);
    const uint64_t life = found == programs_.end() ? 0 : found->second.life;
    events_.push({kind, time, ++numbers_, id, life, gpu, bytes});
  }

  uint64_t Vary(const Program& program, uint64_t time) {
    return program.habit.varies ? time / 2 + random_() % (time + 1) : time;
  }

  void Happen(const Event& event) {
    const auto found = programs_.find(event.id);
    if (found == programs_.end() || found->second.life != event.life) return;
    Program& program = found->second;
    switch (event.kind) {
      case Event::kWork: return Work(event.id, program);
      case Event::kDone:
        if (program.running && event.bytes == program.burst) Rest(event.id, program);
        return;
      case Event::kOut: return Out(event, program, event.bytes);
      case Event::kFailed: return Out(event, program, 0);
      case Event::kRecovered: return table_.Report(event.id, event.gpu, program.awake[event.gpu], 0);
      case Event::kIn: table_.MovedIn(event.id, event.gpu, event.bytes, now_); return GoOn(event.id, program);
      case Event::kLook: return;
    }
  }

  void Work(uint64_t id, Program& program) {
    program.wants = true;
    program.left = Vary(program, program.habit.work);
    program.waiting_since = now_;
    table_.SetBusy(id, true, now_);
    GoOn(id, program);
  }

  void Rest(uint64_t id, Program& program) {
    Stop(program);
    program.wants = false;
    table_.SetBusy(id, false, now_);
    Later(now_ + Vary(program, std::max(program.habit.rest, kSecond / 100)), Event::kWork, id);
  }

  void Out(const Event& event, Program& program, uint64_t moved) {
    program.going[event.gpu] -= event.bytes;
    program.awake[event.gpu] -= moved;
    moved_out_ += moved;
    EXPECT_GE(program.awake[event.gpu], moved == 0 ? 0 : program.terms.reserve) << "of process " << event.id;
    table_.MovedOut(event.id, event.gpu, event.bytes, moved);
    if (moved == 0) Later(now_ + kSecond, Event::kRecovered, event.id, event.gpu);
    // A request that waits already has to name what went since, too.
    if (table_.waiting(event.id)) table_.Ask(event.id, Missing(program), now_);
    GoOn(event.id, program);
  }

  std::vector<uint64_t> Missing(const Program& program) const {
    std::vector<uint64_t> missing(gpus_.size());
    for (size_t gpu = 0; gpu < gpus_.size(); ++gpu)
      missing[gpu] = program.habit.bytes[gpu] - program.awake[gpu];
    return missing;
  }

  static uint64_t Sum(const std::vector<uint64_t>& bytes) {
    return std::accumulate(bytes.begin(), bytes.end(), uint64_t{0});
  }

  // The gate: what has work runs if all of its memory is there, and else asks for what is not.
  void GoOn(uint64_t id, Program& program) {
    if (!Waits(program) || table_.waiting(id)) return;
    if (Sum(Missing(program)) != 0) {
      program.asked = true;
      return table_.Ask(id, Missing(program), now_);
    }
    if (Sum(program.going) != 0) return;
    if (program.asked) ++swaps_;
    program.asked = false;
    program.longest_wait = std::max(program.longest_wait, now_ - program.waiting_since);
    program.running = true;
    program.since = now_;
    Later(now_ + program.left, Event::kDone, id, 0, ++program.burst);
  }

  void Stop(Program& program) {
    if (!program.running) return;
    const uint64_t ran = now_ - program.since;
    program.running = false;
    program.worked += ran;
    program.left -= std::min(program.left, ran);
    program.waiting_since = now_;
  }

  void Settle() {
    for (const ShareOrder& order : table_.Decide(now_)) Obey(order);
    CheckAccounts();
    const std::optional<uint64_t> next = table_.NextLook(now_);
    if (!next || (look_ > now_ && look_ <= *next)) return;
    look_ = *next;
    Later(look_, Event::kLook, 0);
  }

  void Obey(const ShareOrder& order) {
    Program& program = programs_.at(order.member);
    if (order.kind == ShareOrder::Kind::kRefuse) {
      ++refused_;
      program.asked = false;
      return Rest(order.member, program);
    }
    const bool out = order.kind == ShareOrder::Kind::kOut;
    if (out) Stop(program);
    (out ? program.going : program.awake)[order.gpu] += order.bytes;
    for (uint64_t done = 0; done < order.bytes;) {
      const uint64_t slice = std::min(kGiB, order.bytes - done);
      done += slice;
      const bool fails = out && random_() % 1000 < fail_per_mille_;
      const Event::Kind kind = fails ? Event::kFailed : out ? Event::kOut : Event::kIn;
      Later(Copied(out, order.gpu, slice), kind, order.member, order.gpu, slice);
    }
  }

  // When a copy that is asked for now will be done: one after the other in each direction.
  uint64_t Copied(bool out, size_t gpu, uint64_t bytes) {
    uint64_t& link = out ? links_[gpu].free_out : links_[gpu].free_in;
    const double seconds = static_cast<double>(bytes) / static_cast<double>(gpus_[gpu].bytes_per_second);
    link = std::max(link, now_) + static_cast<uint64_t>(seconds * 1e9);
    return link;
  }

  void CheckAccounts() {
    for (size_t gpu = 0; gpu < gpus_.size(); ++gpu) {
      uint64_t all = 0;
      for (const auto& [id, program] : programs_) {
        all += program.awake[gpu];
        ASSERT_EQ(program.awake[gpu], table_.awake(id, gpu)) << "of process " << id;
        ASSERT_LE(program.going[gpu], program.awake[gpu]) << "of process " << id;
      }
      ASSERT_LE(all, gpus_[gpu].limit) << "on GPU " << gpu << " at " << now_ << " ns";
    }
  }

  std::map<uint64_t, Program> programs_;
  ShareTable table_;
  std::vector<ShareGpu> gpus_;
  std::vector<Link> links_;
  std::priority_queue<Event> events_;
  std::mt19937_64 random_;
  uint64_t now_ = 0;
  uint64_t look_ = 0;
  uint64_t numbers_ = 0;
  uint64_t lives_ = 0;
  uint64_t swaps_ = 0;
  uint64_t moved_out_ = 0;
  uint64_t refused_ = 0;
  unsigned fail_per_mille_ = 0;
};

}  // namespace gpuroom
