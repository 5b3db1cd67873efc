// Doctor's report for people: what is wrong and what to do first, then the rest, with GPUs that are alike in
// one line. Pure functions, but for the terminal's width.
#pragma once

#include <string>

#include "cli/doctor_report.h"

namespace gpuroom {

struct TextLayout {
  bool problems_only = false;  // leave out what is as it should be
  int width = 0;               // columns at which lines are wrapped between words; 0: nowhere
};

// Columns of the terminal that standard output is; 0: it is none.
int TerminalWidth();

// Problems, failures before warnings; the next step; what is well, a heading a group; the counts.
std::string DoctorText(const DoctorReport& report, const TextLayout& layout);

}  // namespace gpuroom
