#include "model/folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>

#include "base/size.h"
#include "model/architecture.h"
#include "model/cache.h"
#include "model/gguf.h"
#include "model/names.h"
#include "model/safetensors.h"

namespace gpuroom::model {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostFiles = 4096;
constexpr uint64_t kMostIndexBytes = 64 * kMiB;
constexpr char kConfig[] = "config.json";
constexpr char kIndex[] = "model.safetensors.index.json";

Mistake Of(const fs::path& file, const Mistake& mistake) {
  return mistake.empty() ? "" : fmt::format("'{}' {}", file.string(), mistake);
}

// Files of `folder` whose names end so, sorted.
std::vector<fs::path> FilesOf(const fs::path& folder, const std::string& ending) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end && files.size() < kMostFiles;
       it.increment(error)) {
    if (it->path().filename().string().ends_with(ending)) files.push_back(it->path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

// What config.json says of the model beside its tensors.
void Describe(const Config& config, Model* model) {
  model->architecture = config.architecture();
  model->quantization = Quantization::Of(config).method();
  model->hidden = config.hidden();
  model->vocabulary = config.vocabulary();
  model->experts = config.experts();
  model->experts_per_token = model->experts > 0 ? config.experts_per_token() : 0;
  const uint64_t dense = config.Number({"intermediate_size_mlp", "intermediate_size", "ffn_hidden_size"});
  const uint64_t expert = config.Number({"moe_intermediate_size", "intermediate_size"});
  model->intermediate = std::max(dense, expert * model->experts_per_token);
  model->query_width = config.heads() * config.head_size();
  model->kv_heads = config.latent() ? 0 : config.kv_heads();
  model->longest_context = config.longest_context();
  model->tied = TiesEmbedding(config);
  model->cache = CacheOf(config);
}

// Scales, zero points and the like, which are no parameters.
bool IsBesideNumbers(std::string_view name) {
  const std::string_view last = name.substr(name.rfind('.') + 1);
  return last.find("scale") != std::string_view::npos || last.find("zero") != std::string_view::npos ||
         last == "g_idx" || last == "weight_shape" || last.find("absmax") != std::string_view::npos ||
         last.find("quant_map") != std::string_view::npos;
}

uint64_t ParametersOf(const StoredTensor& stored, const Quantization& quantization) {
  if (IsBesideNumbers(stored.name)) return 0;
  if (!stored.packed || quantization.bits() == 0 || quantization.bits() >= 8) return stored.elements;
  return stored.bytes * 8 / quantization.bits();
}

// Puts those together that engines load as one tensor, in the order of the layers.
void Fuse(const std::vector<StoredTensor>& stored, const Config& config, Model* model) {
  const Quantization quantization = Quantization::Of(config);
  std::map<std::string, size_t> places;
  for (const StoredTensor& each : stored) {
    const TensorName name = ReadName(each.name, config.layers());
    const auto [at, fresh] = places.emplace(name.fused, model->tensors.size());
    if (fresh) model->tensors.push_back({name.fused, name.role, name.layer, 0, 0, each.floating});
    Tensor& tensor = model->tensors[at->second];
    tensor.parameters += ParametersOf(each, quantization);
    tensor.bytes += each.bytes;
    tensor.floating = tensor.floating && each.floating;
  }
  const auto order = [](const Tensor& tensor) {
    if (tensor.role == Role::kEmbedding) return -1;
    return tensor.layer >= 0 ? tensor.layer : INT32_MAX;
  };
  std::stable_sort(model->tensors.begin(), model->tensors.end(),
                   [&order](const Tensor& a, const Tensor& b) { return order(a) < order(b); });
}

Mistake CheckSizes(const Model& model) {
  if (model.tensors.size() > kMostTensors) return "names more tensors than any model; download it again";
  const bool large = std::any_of(model.tensors.begin(), model.tensors.end(),
                                 [](const Tensor& tensor) { return tensor.bytes > kMostTensorBytes; });
  return large ? "gives a tensor more than 64 TiB; download it again" : "";
}

Mistake FromHeaders(const Config& config, const std::vector<fs::path>& files, Model* model) {
  std::vector<StoredTensor> stored;
  for (const fs::path& file : files) {
    FileSource source;
    Mistake mistake = source.Open(file.string());
    if (mistake.empty()) mistake = ReadSafetensors(&source, &stored);
    if (mistake.empty() && stored.size() > 16 * kMostTensors)
      mistake = "names more tensors than any model; download it again";
    if (!mistake.empty()) return Of(file, mistake);
  }
  Describe(config, model);
  Fuse(stored, config, model);
  model->tied = model->tied || Bytes(*model, Role::kHead) == 0;
  model->source =
      fmt::format("the headers of {} safetensors file{}", files.size(), files.size() == 1 ? "" : "s");
  return Of(files.front(), CheckSizes(*model));
}

struct Index {
  std::set<std::string> files;
  uint64_t bytes = 0;  // 0: it does not say
};

Mistake ReadIndex(const fs::path& file, Index* index) {
  std::string text;
  Json json;
  Mistake mistake = ReadText(file.string(), kMostIndexBytes, &text);
  if (mistake.empty()) mistake = ParseJson(text, &json);
  if (!mistake.empty()) return Of(file, mistake);
  const Json* map = Find(json, "weight_map");
  if (map == nullptr || !map->is_object()) return Of(file, "has no \"weight_map\"; download it again");
  for (const auto& [name, part] : map->items()) {
    // A name of another folder is none that an index has.
    if (part.is_string() && part.get<std::string>().find('/') == std::string::npos)
      index->files.insert(part.get<std::string>());
  }
  if (const Json* about = Find(json, "metadata")) {
    const Json* size = Find(*about, "total_size");
    if (size != nullptr && size->is_number())
      index->bytes = static_cast<uint64_t>(std::clamp(size->get<double>(), 0.0, 1e15));
  }
  return "";
}

// The formula's tensors, so large that together they are what the index says.
void Scale(uint64_t bytes, Model* model) {
  const uint64_t known = LoadedBytes(*model);
  if (bytes == 0 || known == 0) return;
  const double ratio = static_cast<double>(bytes) / static_cast<double>(known);
  if (ratio > 0.98 && ratio < 1.02) return;
  for (Tensor& tensor : model->tensors)
    tensor.bytes = static_cast<uint64_t>(static_cast<double>(tensor.bytes) * ratio);
  model->remarks.push_back(fmt::format(
      "The index says {} in all, and the formula of the architecture {}: the parts are scaled to the index.",
      FormatSize(bytes), FormatSize(known)));
}

Mistake FromConfig(const fs::path& file, const Config& config, uint64_t index_bytes, Model* model) {
  const Mistake mistake = ModelOfConfig(config, model);
  if (!mistake.empty()) return Of(file, mistake);
  Scale(index_bytes, model);
  if (index_bytes > 0) model->source += ", with the sum of model.safetensors.index.json";
  return "";
}

// The headers decide where all are there, else the formula, and the index's sum.
Mistake ReadFolder(const fs::path& folder, Model* model) {
  const fs::path file = folder / kConfig;
  std::string text;
  Config config;
  Mistake mistake = ReadText(file.string(), kMostConfigBytes, &text);
  if (mistake.empty()) mistake = ParseConfig(text, &config);
  if (!mistake.empty()) return Of(file, mistake);
  Index index;
  std::error_code error;
  if (!fs::exists(folder / kIndex, error)) {
    const std::vector<fs::path> files = FilesOf(folder, ".safetensors");
    return files.empty() ? FromConfig(file, config, 0, model) : FromHeaders(config, files, model);
  }
  mistake = ReadIndex(folder / kIndex, &index);
  if (!mistake.empty()) return mistake;
  std::vector<fs::path> files;
  for (const std::string& name : index.files) {
    if (fs::exists(folder / name, error)) files.push_back(folder / name);
  }
  if (files.size() == index.files.size() && !files.empty()) return FromHeaders(config, files, model);
  mistake = FromConfig(file, config, index.bytes, model);
  if (mistake.empty() && !files.empty())
    model->remarks.push_back(fmt::format("{} of {} safetensors files are there, so none is read.",
                                         files.size(), index.files.size()));
  return mistake;
}

// "name-00001-of-00003.gguf" and its other parts; a file without a number is alone.
std::vector<fs::path> GgufParts(const fs::path& file) {
  const std::string name = file.filename().string();
  const size_t of = name.rfind("-of-");
  if (of == std::string::npos || of < 6) return {file};
  const std::string stem = name.substr(0, of - 5);
  const std::string tail = name.substr(of);
  std::vector<fs::path> parts;
  for (const fs::path& other : FilesOf(file.parent_path().empty() ? "." : file.parent_path(), tail)) {
    if (other.filename().string().starts_with(stem)) parts.push_back(other);
  }
  return parts.empty() ? std::vector<fs::path>{file} : parts;
}

Mistake ReadGgufFile(const fs::path& file, Model* model) {
  GgufHeader whole;
  const std::vector<fs::path> parts = GgufParts(file);
  for (const fs::path& part : parts) {
    FileSource source;
    GgufHeader header;
    Mistake mistake = source.Open(part.string());
    source.ReadAhead();
    if (mistake.empty()) mistake = ReadGguf(&source, &header);
    if (!mistake.empty()) return Of(part, mistake);
    for (auto& [key, value] : header.values) whole.values.emplace(key, std::move(value));
    std::move(header.tensors.begin(), header.tensors.end(), std::back_inserter(whole.tensors));
  }
  const uint64_t expected = whole.Number("split.count", 1);
  if (expected > parts.size())
    return Of(file, fmt::format("is one of {} parts, and {} are there; download the others", expected,
                                parts.size()));
  model->quantization = "gguf";
  model->source = fmt::format("the header of {}",
                              parts.size() == 1 ? "a GGUF file" : fmt::format("{} GGUF files", parts.size()));
  const Mistake mistake = ModelOfGguf(whole, model);
  return Of(file, mistake.empty() ? CheckSizes(*model) : mistake);
}

Mistake ReadDirectory(const fs::path& folder, Model* model) {
  std::error_code error;
  if (fs::exists(folder / kConfig, error)) return ReadFolder(folder, model);
  const std::vector<fs::path> gguf = FilesOf(folder, ".gguf");
  if (gguf.empty())
    return Of(
        folder,
        "has no config.json and no .gguf file; name the folder of a model, or download its config.json");
  if (GgufParts(gguf.front()).size() < gguf.size())
    return Of(folder,
              fmt::format("holds several models in GGUF; name one, such as '{}'", gguf.front().string()));
  return ReadGgufFile(gguf.front(), model);
}

}  // namespace

Mistake ModelOfConfig(const Config& config, Model* model) {
  if (!IsKnownArchitecture(config.type()))
    return fmt::format(
        "names the architecture '{}', whose sizes are not known here; put the model's .safetensors files "
        "beside it",
        config.type().substr(0, 64));
  const Quantization quantization = Quantization::Of(config);
  if (!quantization.known())
    return fmt::format(
        "is quantised by '{}', whose sizes are not known here; put the model's .safetensors files beside it",
        quantization.method().substr(0, 64));
  Describe(config, model);
  model->source = "config.json, by the formula of its architecture";
  if (config.multimodal())
    model->remarks.emplace_back("What sees and hears is counted where safetensors files are there alone.");
  return TensorsByFormula(config, quantization, &model->tensors);
}

Mistake ReadModel(const std::string& path, Model* model) {
  std::error_code error;
  const fs::path file(path);
  const fs::file_status status = fs::status(file, error);
  if (!fs::exists(status))
    return fmt::format(
        "there is no file or folder '{}'; download the model, or its config.json alone, and name its folder",
        path);
  if (fs::is_directory(status)) return ReadDirectory(file, model);
  if (file.extension() == ".gguf") return ReadGgufFile(file, model);
  if (file.extension() == ".safetensors")
    return ReadFolder(file.parent_path().empty() ? "." : file.parent_path(), model);
  if (file.extension() != ".json")
    return Of(file, "is no model that can be read; name a folder with config.json, or a .gguf file");
  std::string text;
  Config config;
  Mistake mistake = ReadText(path, kMostConfigBytes, &text);
  if (mistake.empty()) mistake = ParseConfig(text, &config);
  return mistake.empty() ? FromConfig(file, config, 0, model) : Of(file, mistake);
}

}  // namespace gpuroom::model
