#include "cli/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/size.h"
#include "cli/help.h"
#include "cli/parser.h"
#include "cli/plan_report.h"
#include "cli/shell_word.h"
#include "cli/suggest.h"
#include "model/folder.h"
#include "tier/chunk.h"

namespace gpuroom {
namespace {

using model::Model;

constexpr uint64_t kUsualContext = 8192;
constexpr uint64_t kMostContext = 100'000'000;
constexpr uint64_t kMostBatch = 65'536;
constexpr uint64_t kMostGpus = 64;
constexpr double kMostTarget = 1e7;
// What the driver and libraries take of a GPU beside a program's allocations.
constexpr uint64_t kContextBytes = 512 * kMiB;

Failure ParseWhole(const std::string& option, const std::string& text, uint64_t most, uint64_t* number) {
  if (text.empty()) return {};
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, *number);
  if (error == std::errc() && at == end && *number >= 1 && *number <= most) return {};
  return Usage(fmt::format("{} '{}' is not a whole number from 1 to {}", option, text, most));
}

Failure ParseTarget(const std::string& text, std::optional<double>* target) {
  if (text.empty()) return {};
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, number);
  // Not a number is not greater than anything.
  if (error != std::errc() || at != end || !(number > 0) || number > kMostTarget)
    return Usage(fmt::format("--target-tps '{}' is not a number of tokens a second, such as 20", text));
  *target = number;
  return {};
}

Failure ParseWord(const std::string& option, const std::string& text, const std::vector<std::string>& known) {
  if (std::find(known.begin(), known.end(), text) != known.end()) return {};
  return Usage(fmt::format("{} '{}' is not known{}", option, text,
                           DidYouMean(text, known, fmt::format("; take {}", fmt::join(known, ", ")))));
}

// As typed; empty: not given.
struct PlanTexts {
  std::string context, batch, tensor_parallel, engine, target, hbm, host;
};

Failure ParseNumbers(const PlanTexts& texts, PlanOptions* options) {
  uint64_t context = 0;
  Failure failure = ParseWhole("--context", texts.context, kMostContext, &context);
  if (context > 0) options->context = context;
  if (!failure.failed()) failure = ParseWhole("--batch", texts.batch, kMostBatch, &options->batch);
  if (!failure.failed())
    failure = ParseWhole("--tp", texts.tensor_parallel, kMostGpus, &options->tensor_parallel);
  if (!failure.failed()) failure = ParseTarget(texts.target, &options->target_tokens);
  if (!failure.failed() && !texts.hbm.empty())
    failure = ParseLimitOrPart("--hbm-limit", texts.hbm, kSmallestLimit, &options->hbm_limit);
  if (!failure.failed() && !texts.host.empty())
    failure = ParseSizeOrZero("--host-limit", texts.host, &options->host_limit);
  return failure;
}

Failure ParseWords(const PlanTexts& texts, PlanOptions* options) {
  Failure failure;
  if (!texts.engine.empty()) failure = ParseWord("--engine", texts.engine, {"vllm", "transformers"});
  if (texts.engine == "transformers") options->engine = Engine::kTransformers;
  if (!failure.failed())
    failure = ParseWord("--dtype", options->dtype, {"auto", "bfloat16", "float16", "float32"});
  if (!failure.failed())
    failure = ParseWord("--kv-dtype", options->kv_dtype,
                        {"auto", "bfloat16", "float16", "float32", "fp8", "fp8_e4m3", "fp8_e5m2"});
  return failure;
}

// --- from options to a demand ---

uint64_t FloatBytes(const std::string& dtype) { return dtype == "float32" ? 4 : 2; }

uint64_t CacheElement(const PlanOptions& options) {
  if (options.kv_dtype.starts_with("fp8")) return 1;
  return FloatBytes(options.kv_dtype == "auto" ? options.dtype : options.kv_dtype);
}

// Engines convert what is plain floating point to the dtype that they are told.
void Convert(const std::string& dtype, Model* model) {
  if (dtype == "auto") return;
  for (model::Tensor& tensor : model->tensors) {
    if (tensor.floating) tensor.bytes = tensor.parameters * FloatBytes(dtype);
  }
}

Failure ResolveContext(const PlanOptions& options, const Model& model, uint64_t* context) {
  const uint64_t most = model.longest_context;
  *context = options.context.value_or(most > 0 ? std::min(kUsualContext, most) : kUsualContext);
  if (most == 0 || *context <= most) return {};
  return Usage(
      fmt::format("--context {} is more than the {} tokens that the model was made for; give at most as many",
                  *context, most));
}

uint64_t UsableHbm(const PlanOptions& options, const PlanMachine& machine) {
  const uint64_t all = machine.hbm > 2 * kContextBytes ? machine.hbm - kContextBytes : machine.hbm;
  return std::min(all, options.hbm_limit.value_or(Limit()).Of(machine.hbm));
}

Failure ResolveDemand(const PlanOptions& options, const Model& model, const PlanMachine& machine,
                      PlanDemand* demand) {
  const Failure failure = ResolveContext(options, model, &demand->context);
  if (failure.failed()) return failure;
  if (options.tensor_parallel > static_cast<uint64_t>(machine.gpus))
    return Usage(fmt::format("--tp {} asks for more than the {} GPU{} of {}; give at most as many",
                             options.tensor_parallel, machine.gpus, machine.gpus == 1 ? "" : "s",
                             machine.where));
  demand->engine = options.engine;
  demand->batch = options.batch;
  demand->tensor_parallel = options.tensor_parallel;
  demand->cache_element = CacheElement(options);
  demand->hbm = UsableHbm(options, machine);
  const uint64_t host = machine.integrated ? 0 : options.host_limit.value_or(machine.host);
  demand->host = host / demand->tensor_parallel;
  return {};
}

// --- the command to run ---

void AddLimit(const char* option, const std::optional<Limit>& limit, std::vector<std::string>* words) {
  if (!limit) return;
  words->emplace_back(option);
  const bool whole = limit->percent == 0 && limit->bytes % kGiB == 0;
  words->push_back(whole ? fmt::format("{}GiB", limit->bytes / kGiB) : FormatLimit(*limit));
}

void AddVllm(const PlanOptions& options, const PlanReport& report, std::vector<std::string>* words) {
  const auto add = [words](const char* option, const std::string& value) {
    words->emplace_back(option);
    words->push_back(value);
  };
  for (const char* word : {"vllm", "serve"}) words->emplace_back(word);
  words->push_back(options.model);
  add("--max-model-len", std::to_string(report.demand.context));
  add("--max-num-seqs", std::to_string(report.demand.batch));
  if (options.tensor_parallel > 1) add("--tensor-parallel-size", std::to_string(options.tensor_parallel));
  if (options.dtype != "auto") add("--dtype", options.dtype);
  if (options.kv_dtype != "auto") add("--kv-cache-dtype", options.kv_dtype);
  // Where weights leave HBM, the plug-in keeps room for one sequence unless it is told of more.
  if (report.layout.OnHost() > 0 && report.demand.batch > 1)
    add("--kv-cache-memory-bytes", std::to_string(report.layout.cache.bytes));
}

std::string CommandFor(const PlanOptions& options, const PlanReport& report) {
  std::vector<std::string> words = {"gpuroom", "run"};
  AddLimit("--hbm-limit", options.hbm_limit, &words);
  if (options.host_limit) AddLimit("--host-limit", Limit{*options.host_limit, 0}, &words);
  words.emplace_back("--");
  if (options.engine == Engine::kVllm) {
    AddVllm(options, report, &words);
  } else {
    words.insert(words.end(), {"python", "your_program.py"});
  }
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : " ") + ShellWord(word);
  return line;
}

// --- how much HBM a speed takes ---

constexpr int kMostTries = 6;  // vLLM's plug-in takes seconds for the largest models

// An amount of HBM, and how long a step takes in it; infinity where the model does not fit.
struct HbmTrial {
  uint64_t hbm = 0;
  double seconds = INFINITY;
};

Failure TryHbm(const PlanReport& report, uint64_t hbm, HbmTrial* trial) {
  PlanDemand demand = report.demand;
  demand.hbm = hbm;
  PlanLayout layout;
  const Failure failure = LayOut(report.model, demand, &layout);
  if (failure.failed()) return failure;
  trial->hbm = hbm;
  trial->seconds =
      layout.fits() ? Predict(report.model, demand, layout, report.machine).decode_seconds : INFINITY;
  return {};
}

// Between a trial that is too slow and one that is not: where a step would take `wanted`, if it became
// shorter evenly, and a little more.
uint64_t NextHbm(const HbmTrial& slow, const HbmTrial& fast, double wanted) {
  const uint64_t between = fast.hbm - slow.hbm;
  if (slow.seconds == INFINITY || slow.seconds <= fast.seconds) return slow.hbm + between / 2;
  const double part = (slow.seconds - wanted) / (slow.seconds - fast.seconds) + 0.005;
  return slow.hbm + static_cast<uint64_t>(static_cast<double>(between) * std::clamp(part, 0.01, 0.99));
}

// Narrows what it takes down to a hundredth, or as far as kMostTries lead.
Failure FindHbm(double target, PlanReport* report) {
  const double wanted = static_cast<double>(report->demand.batch) / target;
  const bool fits = report->layout.fits();
  const HbmTrial here{report->demand.hbm, fits ? report->prediction.decode_seconds : INFINITY};
  HbmTrial slow;
  HbmTrial fast;
  const uint64_t all =
      report->layout.InHbm() + report->layout.OnHost() + report->layout.activations + 3 * kGiB;
  Failure failure = TryHbm(*report, all, &fast);
  if (failure.failed() || fast.seconds > wanted) return failure;
  if (here.hbm < fast.hbm) (here.seconds <= wanted ? fast : slow) = here;
  for (int i = 0; i < kMostTries && fast.hbm - slow.hbm > fast.hbm / 100; ++i) {
    HbmTrial trial;
    failure = TryHbm(*report, NextHbm(slow, fast, wanted), &trial);
    if (failure.failed()) return failure;
    (trial.seconds <= wanted ? fast : slow) = trial;
  }
  report->target->hbm = RoundUp(fast.hbm, kGranularity);
  return {};
}

Failure MakeReport(const PlanOptions& options, PlanReport* report) {
  const model::Mistake mistake = model::ReadModel(options.model, &report->model);
  if (!mistake.empty()) return Usage(mistake);
  Convert(options.dtype, &report->model);
  Failure failure = ReadPlanMachine(options.machine, &report->machine);
  if (failure.failed()) return failure;
  failure = ResolveDemand(options, report->model, report->machine, &report->demand);
  if (failure.failed()) return failure;
  failure = LayOut(report->model, report->demand, &report->layout);
  if (failure.failed()) return failure;
  report->path = options.model;
  report->prediction = Predict(report->model, report->demand, report->layout, report->machine);
  report->command = CommandFor(options, *report);
  if (!options.target_tokens) return {};
  report->target = PlanTarget{*options.target_tokens, 0};
  return FindHbm(*options.target_tokens, report);
}

}  // namespace

Failure ParsePlan(const std::vector<std::string>& arguments, PlanOptions* options) {
  PlanTexts texts;
  std::vector<std::string> words;
  Parser parser("plan");
  parser.Words(&words);
  parser.Value("--context", &texts.context);
  parser.Value("--batch", &texts.batch);
  parser.Value("--dtype", &options->dtype);
  parser.Value("--kv-dtype", &options->kv_dtype);
  parser.Value("--engine", &texts.engine);
  parser.Value("--tp", &texts.tensor_parallel);
  parser.Value("--target-tps", &texts.target);
  parser.Value("--machine", &options->machine.machine);
  parser.Value("--sysroot", &options->machine.sysroot);
  parser.Value("--hbm-limit", &texts.hbm);
  parser.Value("--host-limit", &texts.host);
  parser.Flag("--json", &options->json);
  parser.Flag("-h,--help", &options->help);
  Failure failure = parser.Parse(arguments);
  if (failure.failed() || options->help) return failure;
  failure = ParseNumbers(texts, options);
  if (!failure.failed()) failure = ParseWords(texts, options);
  if (failure.failed()) return failure;
  if (!options->machine.machine.empty() && !options->machine.sysroot.empty())
    return Usage("--machine and --sysroot both name a machine; leave one out");
  if (words.empty())
    return Usage("name a model: gpuroom plan MODEL, a folder with config.json or a .gguf file");
  if (words.size() > 1) return Usage(fmt::format("'{}' is a second model; plan one at a time", words[1]));
  options->model = words[0];
  return {};
}

int PlanCommand(const std::vector<std::string>& arguments) {
  PlanOptions options;
  Failure failure = ParsePlan(arguments, &options);
  if (failure.failed()) return Report(failure);
  if (options.help) {
    fmt::print("{}", kPlanHelp);
    return kExitOk;
  }
  PlanReport report;
  failure = MakeReport(options, &report);
  if (failure.failed()) return Report(failure);
  fmt::print("{}", options.json ? PlanJson(report) : PlanText(report));
  return report.layout.fits() ? kExitOk : kExitFailed;
}

}  // namespace gpuroom
