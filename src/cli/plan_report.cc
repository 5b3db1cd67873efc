#include "cli/plan_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "base/size.h"
#include "cli/exit_codes.h"

namespace gpuroom {
namespace {

using model::Role;
using OrderedJson = nlohmann::ordered_json;

// What one GPU holds of one kind, and what a step reads of it.
struct PartRow {
  std::string name;
  uint64_t bytes = 0;
  uint64_t host = 0;
  double read_hbm = 0;
  double read_host = 0;
};

std::vector<PartRow> RowsOf(const PlanReport& report) {
  std::vector<PartRow> rows;
  for (const Role role : {Role::kEmbedding, Role::kDense, Role::kExperts, Role::kHead, Role::kVision}) {
    PartRow row;
    row.name = model::RoleName(role);
    for (size_t i = 0; i < report.model.tensors.size(); ++i) {
      if (report.model.tensors[i].role != role) continue;
      const PlacedPart& part = report.layout.tensors[i];
      const double share = ReadShare(report.model, report.model.tensors[i], report.demand.batch);
      row.bytes += part.bytes;
      row.host += part.host;
      row.read_hbm += static_cast<double>(part.bytes - part.host) * share;
      row.read_host += static_cast<double>(part.host) * share;
    }
    if (row.bytes > 0) rows.push_back(row);
  }
  const PlacedPart& cache = report.layout.cache;
  rows.push_back(
      {"KV cache", cache.bytes, cache.host, report.prediction.cache.hbm, report.prediction.cache.host});
  return rows;
}

const char* EngineName(Engine engine) { return engine == Engine::kVllm ? "vllm" : "transformers"; }

std::string Verdict(const PlanReport& report) {
  if (!report.layout.fits()) return "does_not_fit";
  return report.layout.OnHost() > 0 ? "fits_with_host_memory" : "fits_in_hbm";
}

std::string VerdictText(const PlanReport& report) {
  if (!report.layout.fits()) {
    return fmt::format(
        "It does not fit: {} of a GPU's part find no room. Lower --context or --batch, split it with --tp, "
        "or "
        "take weights of fewer bits.",
        FormatSize(report.layout.short_of));
  }
  if (report.layout.OnHost() == 0) return "It fits in HBM.";
  return fmt::format("It fits with host memory: {} in HBM and {} on the host{}.",
                     FormatSize(report.layout.InHbm()), FormatSize(report.layout.OnHost()),
                     report.demand.tensor_parallel > 1 ? ", for each GPU" : "");
}

// Where the host's memory is the same memory, there is nothing to bound by a link.
std::string BoundText(const PlanReport& report) {
  if (!report.prediction.decode_is_bound) return "";
  if (report.demand.engine == Engine::kTransformers) return ", an upper bound: Python may set the pace";
  if (report.demand.tensor_parallel > 1)
    return ", an upper bound: what passes between the GPUs is not counted";
  return ", an upper bound: little is outside HBM, so small kernels may set the pace";
}

std::string ModelText(const PlanReport& report) {
  const model::Model& m = report.model;
  std::string text = fmt::format("model    {}, {}: {:.2f} billion parameters", Printable(report.path),
                                 Printable(m.architecture), static_cast<double>(LoadedParameters(m)) / 1e9);
  if (m.experts > 0)
    text += fmt::format(", {:.2f} for a token", static_cast<double>(ActiveParameters(m)) / 1e9);
  text += fmt::format("; {} of weights{}\n", FormatSize(LoadedBytes(m)),
                      m.quantization.empty() ? "" : fmt::format(" ({})", Printable(m.quantization)));
  text += fmt::format("         sizes from {}\n", m.source);
  for (const std::string& remark : m.remarks) text += fmt::format("         {}\n", remark);
  const uint64_t draft = Bytes(m, Role::kDraft);
  if (draft > 0)
    text += fmt::format("         {} predict further tokens and are left out\n", FormatSize(draft));
  return text;
}

std::string MachineText(const PlanReport& report) {
  const PlanMachine& machine = report.machine;
  std::string text = fmt::format(
      "machine  {}: {} x {} with {} of HBM, of which {} are used\n", Printable(machine.where), machine.gpus,
      machine.gpu.empty() ? "GPU" : machine.gpu, FormatSize(machine.hbm), FormatSize(report.demand.hbm));
  text += fmt::format("         host memory {} for each GPU ({})\n", FormatSize(report.demand.host),
                      machine.host_is);
  text += fmt::format("         kernels read HBM at {:.0f} and host memory at {:.0f} GB/s ({})\n",
                      static_cast<double>(machine.speeds.device) / 1e9,
                      static_cast<double>(machine.speeds.host) / 1e9, machine.speeds_are);
  return text;
}

std::string DemandText(const PlanReport& report) {
  const PlanDemand& demand = report.demand;
  return fmt::format(
      "asked    {}, {} sequence{} of {} tokens, KV cache of {} byte{} a number{}\n",
      EngineName(demand.engine), demand.batch, demand.batch == 1 ? "" : "s", demand.context,
      demand.cache_element, demand.cache_element == 1 ? "" : "s",
      demand.tensor_parallel > 1 ? fmt::format(", split over {} GPUs", demand.tensor_parallel) : "");
}

std::string Amount(double bytes) { return FormatSize(static_cast<uint64_t>(bytes)); }

std::string TableText(const PlanReport& report) {
  std::string text = fmt::format("\n{:<14} {:>10} {:>10} {:>10}   {:>12} {:>12}\n", "", "bytes", "in HBM",
                                 "on host", "read in HBM", "on host");
  for (const PartRow& row : RowsOf(report)) {
    text += fmt::format("{:<14} {:>10} {:>10} {:>10}   {:>12} {:>12}\n", row.name, FormatSize(row.bytes),
                        FormatSize(row.bytes - row.host), FormatSize(row.host), Amount(row.read_hbm),
                        Amount(row.read_host));
  }
  const PlanLayout& layout = report.layout;
  text += fmt::format("{:<14} {:>10} {:>10}\n", "activations", FormatSize(layout.activations),
                      FormatSize(layout.activations));
  text += fmt::format("{:<14} {:>10} {:>10}\n", "reserve", FormatSize(layout.reserve),
                      FormatSize(layout.reserve));
  if (layout.ring > 0)
    text +=
        fmt::format("{:<14} {:>10} {:>10}\n", "staging", FormatSize(layout.ring), FormatSize(layout.ring));
  return text +
         "Of one GPU. Read: by a step that makes one token for each sequence. Activations and reserve are "
         "estimates.\n\n";
}

std::string SpeedText(const PlanReport& report) {
  const Prediction& p = report.prediction;
  std::string text = fmt::format("decode   {:.4g} tokens/s, {:.4g} ms a step{}\n", p.decode_tokens,
                                 p.decode_seconds * 1e3, BoundText(report));
  if (p.prefill_tokens == 0)
    return text + "prefill  not known: how fast this GPU multiplies is not known here\n";
  if (p.prefill_compute == 0) {
    return text + fmt::format(
                      "prefill  at most {:.4g} tokens/s, by the link alone: how fast this GPU multiplies is "
                      "not known here\n",
                      p.prefill_tokens);
  }
  return text + fmt::format(
                    "prefill  {:.4g} tokens/s: {} x {} tokens in {:.3g} s, of which products {:.3g} s "
                    "({:.0f} Tflop/s at 60%) "
                    "and the link {:.3g} s{}\n",
                    p.prefill_tokens, report.demand.batch, report.demand.context, p.prefill_seconds,
                    p.prefill_compute, report.machine.bf16_flops / 1e12, p.prefill_link,
                    report.demand.engine == Engine::kVllm ? ", side by side" : "");
}

std::string TargetText(const PlanReport& report) {
  if (!report.target) return "";
  if (report.target->hbm == 0) {
    return fmt::format("target   {:.4g} tokens/s are not reached on this GPU with everything in HBM\n",
                       report.target->tokens);
  }
  return fmt::format("target   {:.4g} tokens/s take {} of HBM{}; here {} are used\n", report.target->tokens,
                     FormatSize(report.target->hbm), report.demand.tensor_parallel > 1 ? " on each GPU" : "",
                     FormatSize(report.demand.hbm));
}

OrderedJson ModelJson(const PlanReport& report) {
  const model::Model& m = report.model;
  return {{"path", report.path},
          {"architecture", m.architecture},
          {"quantization", m.quantization.empty() ? OrderedJson(nullptr) : OrderedJson(m.quantization)},
          {"source", m.source},
          {"remarks", m.remarks},
          {"parameters", LoadedParameters(m)},
          {"active_parameters", ActiveParameters(m)},
          {"bytes", LoadedBytes(m)},
          {"draft_bytes", Bytes(m, Role::kDraft)},
          {"experts", m.experts},
          {"experts_per_token", m.experts_per_token}};
}

OrderedJson MachineJson(const PlanMachine& machine) {
  return {{"where", machine.where},
          {"gpu", machine.gpu},
          {"gpus", machine.gpus},
          {"hbm_bytes", machine.hbm},
          {"host_bytes", machine.host},
          {"host_is", machine.host_is},
          {"integrated", machine.integrated},
          {"device_bytes_per_second", machine.speeds.device},
          {"host_bytes_per_second", machine.speeds.host},
          {"speeds_are", machine.speeds_are},
          {"bf16_flops_per_second", static_cast<uint64_t>(machine.bf16_flops)}};
}

OrderedJson PartsJson(const PlanReport& report) {
  OrderedJson parts = OrderedJson::array();
  for (const PartRow& row : RowsOf(report)) {
    parts.push_back({{"part", row.name},
                     {"bytes", row.bytes},
                     {"hbm_bytes", row.bytes - row.host},
                     {"host_bytes", row.host},
                     {"step_hbm_bytes", static_cast<uint64_t>(row.read_hbm)},
                     {"step_host_bytes", static_cast<uint64_t>(row.read_host)}});
  }
  return parts;
}

OrderedJson SpeedJson(const PlanReport& report) {
  const Prediction& p = report.prediction;
  const auto known = [](double value) { return value > 0 ? OrderedJson(value) : OrderedJson(nullptr); };
  return {{"decode",
           {{"tokens_per_second", p.decode_tokens},
            {"step_seconds", p.decode_seconds},
            {"upper_bound", p.decode_is_bound}}},
          {"prefill",
           {{"tokens_per_second", known(p.prefill_tokens)},
            {"seconds", known(p.prefill_seconds)},
            {"products_seconds", known(p.prefill_compute)},
            {"link_seconds", p.prefill_link},
            {"step_tokens", report.layout.step_tokens},
            {"upper_bound", p.prefill_compute == 0}}}};
}

}  // namespace

std::string PlanText(const PlanReport& report) {
  return ModelText(report) + MachineText(report) + DemandText(report) + TableText(report) +
         VerdictText(report) + "\n" + (report.layout.fits() ? SpeedText(report) : "") + TargetText(report) +
         (report.layout.fits() ? fmt::format("run      {}\n", Printable(report.command)) : "");
}

std::string PlanJson(const PlanReport& report) {
  const PlanLayout& layout = report.layout;
  const PlanDemand& demand = report.demand;
  OrderedJson out = {{"version", 1}, {"model", ModelJson(report)}, {"machine", MachineJson(report.machine)}};
  out["asked"] = {{"engine", EngineName(demand.engine)},
                  {"context", demand.context},
                  {"batch", demand.batch},
                  {"tensor_parallel", demand.tensor_parallel},
                  {"kv_element_bytes", demand.cache_element},
                  {"hbm_bytes", demand.hbm},
                  {"host_bytes", demand.host}};
  out["verdict"] = Verdict(report);
  out["short_bytes"] = layout.short_of;
  out["parts"] = PartsJson(report);
  out["beside"] = {{"activation_bytes", layout.activations},
                   {"reserve_bytes", layout.reserve},
                   {"staging_bytes", layout.ring}};
  const OrderedJson speed = SpeedJson(report);
  out["decode"] = layout.fits() ? speed["decode"] : OrderedJson(nullptr);
  out["prefill"] = layout.fits() ? speed["prefill"] : OrderedJson(nullptr);
  if (report.target) {
    out["target"] = {
        {"tokens_per_second", report.target->tokens},
        {"hbm_bytes", report.target->hbm > 0 ? OrderedJson(report.target->hbm) : OrderedJson(nullptr)}};
  }
  out["command"] = layout.fits() ? OrderedJson(report.command) : OrderedJson(nullptr);
  // File names need not be UTF-8; JSON must be.
  return out.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

}  // namespace gpuroom
