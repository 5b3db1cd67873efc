#include "cli/plan_layout.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <filesystem>
#include <utility>

#include "base/size.h"
#include "cli/child_program.h"
#include "cli/installation.h"
#include "model/cache.h"
#include "model/json_text.h"
#include "range/plan.h"
#include "tier/chunk.h"

namespace gpuroom {
namespace {

using model::Model;
using model::Role;
using model::Tensor;

// What vLLM has beside weights, KV cache and activations once it is warmed up: CUDA graphs, libraries'
// memory, its own buffers and what PyTorch's segments leave unused. On an H200 it was 291 MiB
// (docs/measurements.md, 2026-12-01).
constexpr uint64_t kGraphs = 224 * kMiB;
constexpr uint64_t kReserveWhenWarm = 32 * kMiB;  // the plug-in lowers the reserve then
constexpr uint64_t kRangeBytes = 16 * kMiB;       // smaller allocations are the driver's own, and do not move
// PyTorch's allocator (c10/cuda/CUDACachingAllocator): tensors of less than 1 MiB share memory of 2 MiB,
// which the reserve is for; those of less than 10 MiB share 20 MiB; larger ones have their own.
constexpr uint64_t kSmallTensor = kMiB;
constexpr uint64_t kSharingTensor = 10 * kMiB;
constexpr uint64_t kSharedSegment = 20 * kMiB;
constexpr uint64_t kMostResidentBelow = 2 * kGiB;

// As GPUROOM_RESERVE's default (README.md).
uint64_t ReserveOf(uint64_t hbm) { return std::min(512 * kMiB, hbm / 32); }

// vLLM's default for `vllm serve`: 8,192 on GPUs of 70 GiB and more, else 2,048.
uint64_t StepTokens(const PlanDemand& demand) {
  const uint64_t prompts = demand.context * demand.batch;
  if (demand.engine == Engine::kTransformers) return prompts;
  return demand.hbm >= 70 * kGiB ? 8192 : 2048;
}

// The widest moment of a step: inputs and outputs of an MLP and of attention, of 2 bytes a number, and the
// logits of each sequence, of 4 bytes and twice.
uint64_t ActivationBytes(const Model& model, const PlanDemand& demand) {
  const uint64_t inner = (3 * model.intermediate + 3 * model.query_width) / demand.tensor_parallel;
  return StepTokens(demand) * (inner + 6 * model.hidden) * 2 + demand.batch * model.vocabulary * 8;
}

bool IsSplit(const Tensor& tensor) { return tensor.bytes >= kMiB; }

uint64_t BytesOnOneGpu(const Tensor& tensor, const PlanDemand& demand) {
  if (tensor.role == Role::kDraft) return 0;
  return IsSplit(tensor) ? tensor.bytes / demand.tensor_parallel : tensor.bytes;
}

// Before anything is placed: sizes alone.
PlanLayout SizesOf(const Model& model, const PlanDemand& demand) {
  PlanLayout layout;
  for (const Tensor& tensor : model.tensors) layout.tensors.push_back({BytesOnOneGpu(tensor, demand), 0});
  layout.cache.bytes = CacheOnOneGpu(model, demand);
  layout.activations = ActivationBytes(model, demand);
  layout.reserve = demand.engine == Engine::kVllm ? kReserveWhenWarm + kGraphs : ReserveOf(demand.hbm);
  layout.step_tokens = StepTokens(demand);
  return layout;
}

// --- transformers: one allocation after the other, as range's planner places them ---

// One large allocation, and what of it is in HBM.
struct Allocation {
  PlacedPart* part;
  uint64_t in_hbm;
};

class Allocator {
 public:
  Allocator(uint64_t hbm, uint64_t host, uint64_t resident_below)
      : tiers_{{Tier::kDevice, 0, hbm, 0}, {Tier::kHost, 0, host, 0}}, resident_below_(resident_below) {}

  // Places `part`. What found no room is added to `short_of`. `part` outlives this.
  void Place(PlacedPart* part) {
    if (part->bytes < kSmallTensor) return;
    if (part->bytes >= kSharingTensor) return PlaceAlone(part);
    if (part->bytes > segment_left_) {
      segments_.push_back({kSharedSegment, 0});
      PlaceAlone(&segments_.back());
      segment_left_ = kSharedSegment;
    }
    segment_left_ -= part->bytes;
    shared_.push_back({part, &segments_.back()});
  }
  // After the last: what shares a segment that gave way is on the host as well.
  void Finish() {
    for (const auto& [part, segment] : shared_) part->host = part->bytes * segment->host / segment->bytes;
  }
  uint64_t short_of() const { return short_of_; }

 private:
  void PlaceAlone(PlacedPart* part) {
    PlanRequest request;
    request.bytes = RoundUp(part->bytes, kGranularity);
    request.resident = part->bytes < resident_below_;
    for (const Allocation& older : older_) request.displaceable += older.in_hbm;
    request.displaceable = std::min(request.displaceable, tiers_[1].free / kGranularity * kGranularity);
    const Result<Plan> plan = MakePlan(request, tiers_);
    if (!plan.ok()) {
      short_of_ += part->bytes;
      return;
    }
    GiveWay(plan->displace);
    uint64_t host = 0;
    for (const Piece& piece : plan->pieces) {
      TierState& tier = tiers_[piece.tier == Tier::kDevice ? 0 : 1];
      tier.free -= std::min(tier.free, piece.bytes);
      if (piece.tier != Tier::kDevice) host += piece.bytes;
    }
    part->host = std::min(host, part->bytes);
    if (part->bytes >= kRangeBytes) older_.push_back({part, request.bytes - host});
  }

  // The oldest data gives way first, and what may be a library's workspace last (runtime/pick.h).
  void GiveWay(uint64_t bytes) {
    for (const bool data : {true, false}) {
      for (Allocation& older : older_) {
        if ((older.part->bytes >= kDataBytes) != data) continue;
        const uint64_t moved = std::min(bytes, older.in_hbm);
        older.in_hbm -= moved;
        older.part->host = std::min(older.part->host + moved, older.part->bytes);
        bytes -= moved;
        tiers_[0].free += moved;
        tiers_[1].free -= std::min(tiers_[1].free, moved);
      }
    }
  }

  std::vector<TierState> tiers_;
  const uint64_t resident_below_;
  std::vector<Allocation> older_;
  std::deque<PlacedPart> segments_;
  std::vector<std::pair<PlacedPart*, const PlacedPart*>> shared_;
  uint64_t segment_left_ = 0;  // of the last segment
  uint64_t short_of_ = 0;
};

PlanLayout LayOutByAge(const Model& model, const PlanDemand& demand) {
  PlanLayout layout = SizesOf(model, demand);
  const uint64_t hbm = demand.hbm > layout.reserve ? demand.hbm - layout.reserve : 0;
  Allocator allocator(hbm, demand.host, std::max(kRangeBytes, std::min(kMostResidentBelow, demand.hbm / 16)));
  for (PlacedPart& part : layout.tensors) allocator.Place(&part);
  // Keys and values of each layer are allocations of their own.
  const size_t count = std::max<size_t>(1, 2 * model.cache.size());
  std::vector<PlacedPart> cache(count, {layout.cache.bytes / count, 0});
  for (PlacedPart& part : cache) allocator.Place(&part);
  PlacedPart activations{layout.activations, 0};
  allocator.Place(&activations);
  allocator.Finish();
  for (const PlacedPart& part : cache) layout.cache.host += part.host;
  layout.short_of = allocator.short_of();
  return layout;
}

// --- vLLM: the plug-in's own code decides ---

std::string PluginScript() {
  namespace fs = std::filesystem;
  const fs::path prefix = FindInstallation().prefix;
  std::error_code error;
  for (const fs::path& folder : {prefix / "lib/gpuroom/python/gpuroom", prefix.parent_path()}) {
    const fs::path script = folder / "vllm" / "_offline.py";
    if (fs::exists(script, error)) return script.string();
  }
  return "";
}

// The weights as the plug-in counts them: those of a module make a unit, and the head, which is used outside
// of a step, stays in HBM, as an embedding does that is the head as well.
model::Json WeightsOf(const Model& model, const PlanLayout& layout) {
  model::Json weights = model::Json::array();
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const Tensor& tensor = model.tensors[i];
    const bool embedding = tensor.role == Role::kEmbedding && !model.tied;
    const bool leaves = embedding || tensor.role == Role::kDense || tensor.role == Role::kExperts;
    weights.push_back({{"bytes", layout.tensors[i].bytes}, {"by_row", embedding}, {"leaves", leaves}});
  }
  return weights;
}

model::Json RoomOf(const PlanDemand& demand, const PlanLayout& layout) {
  const uint64_t free = demand.hbm > kReserveWhenWarm ? demand.hbm - kReserveWhenWarm : 0;
  return {{"free", free},
          {"reserve", kReserveWhenWarm},
          {"beside", layout.cache.bytes + layout.activations + kGraphs}};
}

Failure AskPlugin(const std::string& question, model::Json* answer) {
  const std::string script = PluginScript();
  if (script.empty())
    return {kExitFailed,
            "gpuroom's plug-in for vLLM is missing; install gpuroom again, or take --engine transformers"};
  const int input = UnnamedFile(question);
  const int output = UnnamedFile("");
  const bool files = input >= 0 && output >= 0;
  const int status =
      files ? RunChild({"python3", "-I", "-B", script}, {.input = input, .output = output}) : -1;
  const std::string text = files ? ReadFromStart(output) : "";
  if (input >= 0) close(input);
  if (output >= 0) close(output);
  *answer = model::Json::parse(text, nullptr, false);
  if (status == 0 && answer->is_object()) return {};
  return {kExitFailed,
          "--engine vllm asks gpuroom's plug-in where weights go, and python3 did not run it; install "
          "python3, or take "
          "--engine transformers"};
}

// What the plug-in answered.
void Apply(const model::Json& answer, const PlanDemand& demand, PlanLayout* layout) {
  for (const model::Json& number : answer.value("host", model::Json::array())) {
    const auto index = number.get<size_t>();
    if (index < layout->tensors.size()) layout->tensors[index].host = layout->tensors[index].bytes;
  }
  layout->ring = answer.value("ring", uint64_t{0});
  layout->short_of = answer.value("short", uint64_t{0});
  const uint64_t host = layout->OnHost();
  if (host > demand.host) layout->short_of += host - demand.host;
}

Failure LayOutByPlugin(const Model& model, const PlanDemand& demand, PlanLayout* layout) {
  *layout = SizesOf(model, demand);
  model::Json answer;
  const Failure failure = AskPlugin(
      model::Json{{"weights", WeightsOf(model, *layout)}, {"room", RoomOf(demand, *layout)}}.dump(), &answer);
  if (!failure.failed()) Apply(answer, demand, layout);
  return failure;
}

}  // namespace

uint64_t PlanLayout::OnHost() const {
  uint64_t bytes = cache.host;
  for (const PlacedPart& part : tensors) bytes += part.host;
  return bytes;
}

uint64_t PlanLayout::InHbm() const {
  uint64_t bytes = cache.bytes - cache.host;
  for (const PlacedPart& part : tensors) bytes += part.bytes - part.host;
  return bytes;
}

uint64_t CacheOnOneGpu(const Model& model, const PlanDemand& demand) {
  model::CacheFormat format;
  format.element_bytes = demand.cache_element;
  format.expands_latent = demand.engine == Engine::kTransformers;
  const uint64_t bytes = model::CacheBytes(model.cache, demand.context, format) * demand.batch;
  if (model.kv_heads == 0) return bytes;  // latent: every GPU has all of it
  const uint64_t heads = (model.kv_heads + demand.tensor_parallel - 1) / demand.tensor_parallel;
  return bytes / model.kv_heads * heads;
}

Failure LayOut(const Model& model, const PlanDemand& demand, PlanLayout* layout) {
  if (demand.engine == Engine::kVllm) return LayOutByPlugin(model, demand, layout);
  *layout = LayOutByAge(model, demand);
  return {};
}

}  // namespace gpuroom
