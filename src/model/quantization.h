// How the weights of a checkpoint are quantised, as config.json says, and how many bytes a matrix takes so.
// Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "model/model.h"

namespace gpuroom::model {

class Quantization {
 public:
  // Of a config.json without quantization_config: none. A method that is not known here is told by known().
  static Quantization Of(const Config& config);

  const std::string& method() const { return method_; }  // empty: none
  uint64_t bits() const { return bits_; }                // of a number; 0: not known, or not quantised
  bool known() const { return method_.empty() || bits_ > 0; }

  // Bytes of a matrix of `rows` x `columns`, each output one row, in the layer `name` ("...mlp.down_proj");
  // one that is left as it is has `float_bytes` for each number.
  uint64_t MatrixBytes(std::string_view name, uint64_t rows, uint64_t columns, uint64_t float_bytes) const;
  // Whether that layer is left as it is.
  bool Spares(std::string_view name) const;

 private:
  void ReadGroups(const Json& json);
  void ReadSpared(const Json& json);

  std::string method_;
  uint64_t bits_ = 0;        // of a number
  uint64_t group_ = 0;       // numbers of a row with a scale of their own; 0: the whole row
  uint64_t group_rows_ = 1;  // rows that share these scales
  uint64_t scale_bits_ = 0;  // of a group, its zero point with it
  std::vector<std::string> spared_;
};

// Whether `name`, or a later part of it, begins with `pattern` up to a dot or its end. '*' stands for
// anything.
bool MatchesModule(std::string_view name, std::string_view pattern);

}  // namespace gpuroom::model
