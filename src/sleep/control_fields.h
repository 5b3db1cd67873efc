// The numbers of a structure as they stand in a line of the control protocol: one list, by which they are
// written and read.
#pragma once

#include <cstdint>

#include "sleep/control_line.h"

namespace gpuroom {

template <typename Struct>
struct ControlField {
  const char* name;
  uint64_t Struct::*member;
};

template <typename Struct, size_t kCount>
void AddFields(const Struct& from, const ControlField<Struct> (&fields)[kCount], ControlLine* line) {
  for (const ControlField<Struct>& field : fields) line->Add(field.name, from.*field.member);
}

template <typename Struct, size_t kCount>
void ReadFields(const ControlLine& line, const ControlField<Struct> (&fields)[kCount], Struct* to) {
  for (const ControlField<Struct>& field : fields) to->*field.member = line.Number(field.name);
}

}  // namespace gpuroom
