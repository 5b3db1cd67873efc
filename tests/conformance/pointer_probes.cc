// Pointer attributes, address ranges and legacy IPC handles of every kind of
// memory: one probe a kind and attribute.
#include <cstdlib>

#include "probe.h"

namespace gpuroom::conformance {
namespace {

constexpr size_t kAllocBytes = 4 * kMiB;

struct Kind {
  const char* name;
  std::function<CUdeviceptr(Session&, Scope&)> make;
};

CUdeviceptr Freed(Scope& scope, CUdeviceptr p) {
  Need(scope.Free(p), "cuMemFree");
  return p;
}

CUdeviceptr OneMapping(Scope& scope, Place place, size_t bytes) {
  const CUdeviceptr va = scope.Reserve(2 * bytes);
  scope.Map(va, bytes, scope.Create(place, bytes));
  scope.Access(va, bytes);
  return va;
}

std::vector<Kind> Kinds() {
  return {
      {"alloc", [](Session&, Scope& c) { return c.Alloc(kAllocBytes); }},
      {"alloc_middle", [](Session&, Scope& c) { return c.Alloc(kAllocBytes) + 5000; }},
      {"alloc_1000_bytes", [](Session&, Scope& c) { return c.Alloc(1000); }},
      {"device_chunk", [](Session&, Scope& c) { return OneMapping(c, Place::kDevice, kChunk); }},
      {"device_chunk_of_8MiB_middle",
       [](Session&, Scope& c) { return OneMapping(c, Place::kDevice, 8 * kMiB) + 3 * kMiB; }},
      {"node_chunk", [](Session&, Scope& c) { return OneMapping(c, Place::kNode, kChunk); }},
      {"HOST_chunk", [](Session&, Scope& c) { return OneMapping(c, Place::kHost, kChunk); }},
      {"mixed_first", [](Session&, Scope& c) { return c.Mixed(4); }},
      {"mixed_second_middle", [](Session&, Scope& c) { return c.Mixed(4) + kChunk + 4096; }},
      {"node_chunk_with_host_access",
       [](Session&, Scope& c) {
         const CUdeviceptr va = OneMapping(c, Place::kNode, kChunk);
         c.Access(va, kChunk, Place::kHost);
         return va;
       }},
      {"mapped_without_access",
       [](Session&, Scope& c) {
         const CUdeviceptr va = c.Reserve(kChunk);
         c.Map(va, kChunk, c.Create(Place::kDevice));
         return va;
       }},
      {"reserved", [](Session&, Scope& c) { return c.Reserve(kChunk); }},
      {"unmapped",
       [](Session&, Scope& c) {
         const CUdeviceptr va = c.Range({Place::kDevice});
         Need(c.Unmap(va, kChunk), "cuMemUnmap");
         return va;
       }},
      {"async", [](Session&, Scope& c) { return c.AllocAsync(kAllocBytes, c.Stream()); }},
      {"async_middle", [](Session&, Scope& c) { return c.AllocAsync(kAllocBytes, c.Stream()) + 5000; }},
      {"async_freed",
       [](Session& s, Scope& c) {
         const CUstream stream = c.Stream();
         const CUdeviceptr p = c.AllocAsync(kAllocBytes, stream);
         Need(c.FreeAsync(p, stream), "cuMemFreeAsync");
         Need(s.cu().StreamSynchronize(stream), "cuStreamSynchronize");
         return p;
       }},
      {"managed", [](Session&, Scope& c) { return c.Managed(kAllocBytes); }},
      {"freed", [](Session&, Scope& c) { return Freed(c, c.Alloc(64 * kMiB)); }},
      {"pinned", [](Session&, Scope& c) { return reinterpret_cast<CUdeviceptr>(c.Pinned(kAllocBytes)); }},
      {"registered",
       [](Session& s, Scope& c) {
         void* p = std::aligned_alloc(4096, kMiB);
         c.AtEnd([p] { std::free(p); });
         Need(s.cu().MemHostRegister(p, kMiB, 0), "cuMemHostRegister");
         c.AtEnd([&s, p] { s.cu().MemHostUnregister(p); });
         return reinterpret_cast<CUdeviceptr>(p);
       }},
      {"malloc",
       [](Session&, Scope& c) {
         void* p = std::aligned_alloc(4096, kMiB);
         c.AtEnd([p] { std::free(p); });
         return reinterpret_cast<CUdeviceptr>(p);
       }},
      {"null", [](Session&, Scope&) { return CUdeviceptr{0}; }},
      {"unknown", [](Session&, Scope&) { return CUdeviceptr{0x10000}; }},
  };
}

enum class Show { kNumber, kPointer, kContext, kNonzero, kPool, kSigned };

struct Attribute {
  const char* name;
  CUpointer_attribute which;
  Show show;
};

constexpr Attribute kAttributes[] = {
    {"context", CU_POINTER_ATTRIBUTE_CONTEXT, Show::kContext},
    {"memory_type", CU_POINTER_ATTRIBUTE_MEMORY_TYPE, Show::kNumber},
    {"device_pointer", CU_POINTER_ATTRIBUTE_DEVICE_POINTER, Show::kPointer},
    {"host_pointer", CU_POINTER_ATTRIBUTE_HOST_POINTER, Show::kPointer},
    {"sync_memops", CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, Show::kNumber},
    {"buffer_id", CU_POINTER_ATTRIBUTE_BUFFER_ID, Show::kNonzero},
    {"is_managed", CU_POINTER_ATTRIBUTE_IS_MANAGED, Show::kNumber},
    {"device_ordinal", CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, Show::kSigned},
    {"legacy_ipc_capable", CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE, Show::kNumber},
    {"range_start", CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, Show::kPointer},
    {"range_size", CU_POINTER_ATTRIBUTE_RANGE_SIZE, Show::kNumber},
    {"mapped", CU_POINTER_ATTRIBUTE_MAPPED, Show::kNumber},
    {"allowed_handle_types", CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES, Show::kNumber},
    {"access_flags", CU_POINTER_ATTRIBUTE_ACCESS_FLAGS, Show::kNumber},
    {"mempool_handle", CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, Show::kPool},
    {"mapping_size", CU_POINTER_ATTRIBUTE_MAPPING_SIZE, Show::kNumber},
    {"mapping_base", CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR, Show::kPointer},
    {"memory_block_id", CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID, Show::kNonzero},
};

// A pointer as its distance from the one asked about: "the pointer", "the pointer - 5000".
std::string Relative(CUdeviceptr p, uint64_t value) {
  if (value == 0) return "null";
  if (value == p) return "the pointer";
  return value < p ? "the pointer - " + std::to_string(p - value)
                   : "the pointer + " + std::to_string(value - p);
}

std::string Text(Session& s, CUdeviceptr p, Show show, uint64_t value) {
  switch (show) {
    case Show::kNumber: return std::to_string(value);
    case Show::kSigned: return std::to_string(static_cast<int32_t>(value));
    case Show::kPointer: return Relative(p, value);
    case Show::kNonzero: return value == 0 ? "0" : "not 0";
    case Show::kContext:
      if (value == 0) return "null";
      return value == reinterpret_cast<uint64_t>(s.context()) ? "the current one" : "another";
    case Show::kPool: {
      if (value == 0) return "null";
      CUmemoryPool pool = nullptr;
      Need(s.cu().DeviceGetDefaultMemPool(&pool, 0), "cuDeviceGetDefaultMemPool");
      return value == reinterpret_cast<uint64_t>(pool) ? "the default pool" : "another";
    }
  }
  return "";
}

void AddSingle(ProbeList& list, const Kind& kind) {
  for (const Attribute& attribute : kAttributes) {
    list.push_back(
        {std::string("pointer.") + kind.name + "." + attribute.name, [kind, attribute](Session& s) {
           Scope scope(s);
           const CUdeviceptr p = kind.make(s, scope);
           uint64_t value[2] = {0, 0};  // some attributes may be wider than expected
           const CUresult result = s.cu().PointerGetAttribute(value, attribute.which, p);
           return result == CUDA_SUCCESS ? Text(s, p, attribute.show, value[0]) : Name(result);
         }});
  }
}

// What cudaPointerGetAttributes is made of. Each value starts as 77, to show what is left unwritten.
std::string Plural(Session& s, CUdeviceptr p) {
  constexpr uint64_t kUnwritten = 77;
  uint64_t context = kUnwritten;
  uint64_t device_pointer = kUnwritten;
  uint64_t host_pointer = kUnwritten;
  uint64_t start = kUnwritten;
  uint64_t size = kUnwritten;
  int type = kUnwritten;
  int managed = kUnwritten;
  int ordinal = kUnwritten;
  CUpointer_attribute which[] = {CU_POINTER_ATTRIBUTE_CONTEXT,          CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                 CU_POINTER_ATTRIBUTE_DEVICE_POINTER,   CU_POINTER_ATTRIBUTE_HOST_POINTER,
                                 CU_POINTER_ATTRIBUTE_IS_MANAGED,       CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                                 CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, CU_POINTER_ATTRIBUTE_RANGE_SIZE};
  void* values[] = {&context, &type, &device_pointer, &host_pointer, &managed, &ordinal, &start, &size};
  const CUresult result = s.cu().PointerGetAttributes(8, which, values, p);
  const auto pointer = [p](uint64_t value) {
    return value == kUnwritten ? std::string("unwritten") : Relative(p, value);
  };
  return Name(result) + ": context " +
         (context == kUnwritten ? "unwritten" : Text(s, p, Show::kContext, context)) + ", type " +
         std::to_string(type) + ", device " + pointer(device_pointer) + ", host " + pointer(host_pointer) +
         ", managed " + std::to_string(managed & 0xff) + ", ordinal " + std::to_string(ordinal) + ", start " +
         pointer(start) + ", size " + std::to_string(size);
}

void AddOfKind(ProbeList& list, const Kind& kind) {
  const auto add = [&](const char* topic, std::function<std::string(Session&, CUdeviceptr)> ask) {
    list.push_back({std::string(topic) + "." + kind.name, [kind, ask](Session& s) {
                      Scope scope(s);
                      return ask(s, kind.make(s, scope));
                    }});
  };
  add("attributes", Plural);
  add("address_range", [](Session& s, CUdeviceptr p) {
    CUdeviceptr base = 0;
    size_t bytes = 0;
    const CUresult result = s.cu().MemGetAddressRange(&base, &bytes, p);
    if (result != CUDA_SUCCESS) return Name(result);
    return "start " + Relative(p, base) + ", size " + std::to_string(bytes);
  });
  add("legacy_ipc", [](Session& s, CUdeviceptr p) {
    CUipcMemHandle handle = {};
    return Name(s.cu().IpcGetMemHandle(&handle, p));
  });
  add("set_sync_memops", [](Session& s, CUdeviceptr p) {
    const unsigned on = 1;
    return Name(s.cu().PointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p));
  });
}

}  // namespace

void AddPointerProbes(ProbeList& list) {
  for (const Kind& kind : Kinds()) {
    AddSingle(list, kind);
    AddOfKind(list, kind);
  }
  list.push_back({"pointer.null_data", [](Session& s) {
                    Scope scope(s);
                    return Name(s.cu().PointerGetAttribute(nullptr, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                                           scope.Alloc(4096)));
                  }});
  list.push_back({"pointer.unknown_attribute", [](Session& s) {
                    Scope scope(s);
                    uint64_t value = 0;
                    return Name(s.cu().PointerGetAttribute(&value, static_cast<CUpointer_attribute>(999),
                                                           scope.Alloc(4096)));
                  }});
  list.push_back({"address_range.null_outputs", [](Session& s) {
                    Scope scope(s);
                    const CUdeviceptr p = scope.Alloc(4096);
                    CUdeviceptr base = 0;
                    size_t bytes = 0;
                    return Name(s.cu().MemGetAddressRange(nullptr, &bytes, p)) + ", " +
                           Name(s.cu().MemGetAddressRange(&base, nullptr, p));
                  }});
}

}  // namespace gpuroom::conformance
