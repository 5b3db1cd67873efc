// What `gpuroom plan` prints, as text and as JSON. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cli/plan_layout.h"
#include "cli/plan_machine.h"
#include "cli/plan_predict.h"
#include "model/model.h"

namespace gpuroom {

// How much HBM of each GPU a speed takes.
struct PlanTarget {
  double tokens = 0;  // a second
  uint64_t hbm = 0;   // 0: it is not reached with everything in HBM
};

struct PlanReport {
  std::string path;
  model::Model model;
  PlanMachine machine;
  PlanDemand demand;
  PlanLayout layout;
  Prediction prediction;
  std::optional<PlanTarget> target;
  std::string command;
};

std::string PlanText(const PlanReport& report);
std::string PlanJson(const PlanReport& report);

}  // namespace gpuroom
