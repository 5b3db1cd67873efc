// Arrays, pools that are shared or belong to a place, what graphs say of themselves, and which GPUs a process
// and the children of one that only asked can use.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "probe.h"

namespace gpuroom::conformance {
namespace {

using Body = std::function<std::string(Session&, Scope&)>;

void AddObject(ProbeList& list, const std::string& name, Body body,
               Isolation isolation = Isolation::kShared) {
  list.push_back({name,
                  [body](Session& s) {
                    Scope scope(s);
                    return body(s, scope);
                  },
                  isolation});
}

CUDA_ARRAY3D_DESCRIPTOR Floats(size_t width, size_t height, size_t depth, unsigned flags = 0) {
  CUDA_ARRAY3D_DESCRIPTOR description = {};
  description.Width = width;
  description.Height = height;
  description.Depth = depth;
  description.Format = CU_AD_FORMAT_FLOAT;
  description.NumChannels = 1;
  description.Flags = flags;
  return description;
}

CUarray MakeArray(Session& s, Scope& scope, const CUDA_ARRAY3D_DESCRIPTOR& description) {
  CUarray array = nullptr;
  Need(s.cu().Array3DCreate(&array, &description), "cuArray3DCreate");
  scope.AtEnd([&s, array] { s.cu().ArrayDestroy(array); });
  return array;
}

void AddArrayMaking(ProbeList& list) {
  CUDA_ARRAY3D_DESCRIPTOR channels = Floats(8, 8, 0);
  channels.NumChannels = 3;
  const std::pair<const char*, CUDA_ARRAY3D_DESCRIPTOR> kinds[] = {
      {"1d", Floats(8, 0, 0)},
      {"2d", Floats(8, 8, 0)},
      {"3d", Floats(8, 8, 8)},
      {"no_width", Floats(0, 0, 0)},
      {"depth_without_height", Floats(8, 0, 8)},
      {"layered_1d", Floats(8, 0, 8, CUDA_ARRAY3D_LAYERED)},
      {"layered_without_layers", Floats(8, 8, 0, CUDA_ARRAY3D_LAYERED)},
      {"cube", Floats(8, 8, 6, CUDA_ARRAY3D_CUBEMAP)},
      {"cube_not_square", Floats(8, 4, 6, CUDA_ARRAY3D_CUBEMAP)},
      {"three_channels", channels}};
  for (const auto& [name, description] : kinds) {
    AddObject(list, std::string("array.create_") + name, [description = description](Session& s, Scope&) {
      CUarray array = nullptr;
      const CUresult result = s.cu().Array3DCreate(&array, &description);
      if (result == CUDA_SUCCESS) s.cu().ArrayDestroy(array);
      return Name(result);
    });
  }
  AddObject(
      list, "array.destroy_twice",
      [](Session& s, Scope&) {
        const CUDA_ARRAY3D_DESCRIPTOR description = Floats(8, 0, 0);
        CUarray array = nullptr;
        Need(s.cu().Array3DCreate(&array, &description), "cuArray3DCreate");
        Need(s.cu().ArrayDestroy(array), "cuArrayDestroy");
        return Name(s.cu().ArrayDestroy(array));
      },
      Isolation::kIsolated);
  AddObject(list, "array.descriptor_of_3d_as_2d", [](Session& s, Scope& scope) {
    CUDA_ARRAY_DESCRIPTOR flat = {};
    const CUresult result = s.cu().ArrayGetDescriptor(&flat, MakeArray(s, scope, Floats(8, 4, 2)));
    return Name(result) + ", " + std::to_string(flat.Width) + " x " + std::to_string(flat.Height);
  });
}

void AddArrayCopies(ProbeList& list) {
  AddObject(list, "array.row_there_and_back", [](Session& s, Scope& scope) {
    const CUarray array = MakeArray(s, scope, Floats(8, 0, 0));
    const float out[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    float in[8] = {};
    Need(s.cu().MemcpyHtoA(array, 0, out, sizeof out), "cuMemcpyHtoA");
    Need(s.cu().MemcpyAtoH(in, array, 4, sizeof in - 4), "cuMemcpyAtoH");
    return std::string(in[0] == 2 && in[6] == 8 ? "right" : "wrong");
  });
  AddObject(list, "array.row_beyond_its_end", [](Session& s, Scope& scope) {
    const float out[8] = {};
    return Name(s.cu().MemcpyHtoA(MakeArray(s, scope, Floats(8, 0, 0)), 4, out, sizeof out));
  });
  AddObject(list, "array.row_copy_into_2d", [](Session& s, Scope& scope) {
    const float out[8] = {};
    return Name(s.cu().MemcpyHtoA(MakeArray(s, scope, Floats(8, 4, 0)), 0, out, sizeof out));
  });
  AddObject(list, "array.box_there_and_back", [](Session& s, Scope& scope) {
    float out[8 * 4 * 2];
    float in[8 * 4 * 2] = {};
    for (int i = 0; i < 64; ++i) out[i] = static_cast<float>(i);
    CUDA_MEMCPY3D copy = {};
    copy.srcMemoryType = CU_MEMORYTYPE_HOST;
    copy.srcHost = out;
    copy.srcPitch = 8 * sizeof(float);
    copy.srcHeight = 4;
    copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
    copy.dstArray = MakeArray(s, scope, Floats(8, 4, 2));
    copy.WidthInBytes = 8 * sizeof(float);
    copy.Height = 4;
    copy.Depth = 2;
    Need(s.cu().Memcpy3D(&copy), "cuMemcpy3D to the array");
    CUDA_MEMCPY3D back = copy;
    std::swap(back.srcMemoryType, back.dstMemoryType);
    back.srcHost = nullptr;
    back.srcArray = copy.dstArray;
    back.dstArray = nullptr;
    back.dstHost = in;
    back.dstPitch = 8 * sizeof(float);
    back.dstHeight = 4;
    Need(s.cu().Memcpy3D(&back), "cuMemcpy3D from the array");
    copy.dstZ = 1;
    return std::string(in[63] == 63 && in[32] == 32 ? "right" : "wrong") + ", beyond its end " +
           Name(s.cu().Memcpy3D(&copy));
  });
}

CUmemoryPool MakePool(Session& s, Scope& scope, CUmemAllocationHandleType share) {
  CUmemPoolProps props = {};
  props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.handleTypes = share;
  props.location = s.Location(Place::kDevice);
  CUmemoryPool pool = nullptr;
  Need(s.cu().MemPoolCreate(&pool, &props), "cuMemPoolCreate");
  scope.AtEnd([&s, pool] { s.cu().MemPoolDestroy(pool); });
  return pool;
}

constexpr auto kPosix = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;

int ExportPool(Session& s, CUmemoryPool pool) {
  int fd = -1;
  Need(s.cu().MemPoolExportToShareableHandle(&fd, pool, kPosix, 0), "cuMemPoolExportToShareableHandle");
  return fd;
}

void* AsHandle(int fd) { return reinterpret_cast<void*>(static_cast<intptr_t>(fd)); }

void AddPoolSharing(ProbeList& list) {
  AddObject(list, "pool.export_not_asked_for", [](Session& s, Scope& scope) {
    int fd = -1;
    return Name(
        s.cu().MemPoolExportToShareableHandle(&fd, MakePool(s, scope, CU_MEM_HANDLE_TYPE_NONE), kPosix, 0));
  });
  AddObject(list, "pool.export_default", [](Session& s, Scope&) {
    CUmemoryPool pool = nullptr;
    int fd = -1;
    Need(s.cu().DeviceGetDefaultMemPool(&pool, s.device()), "cuDeviceGetDefaultMemPool");
    return Name(s.cu().MemPoolExportToShareableHandle(&fd, pool, kPosix, 0));
  });
  AddObject(list, "pool.import_in_the_same_process", [](Session& s, Scope& scope) {
    const int fd = ExportPool(s, MakePool(s, scope, kPosix));
    CUmemoryPool imported = nullptr;
    const CUresult result = s.cu().MemPoolImportFromShareableHandle(&imported, AsHandle(fd), kPosix, 0);
    close(fd);
    if (result != CUDA_SUCCESS) return Name(result);
    CUdeviceptr p = 0;
    const CUresult allocated = s.cu().MemAllocFromPoolAsync(&p, kChunk, imported, nullptr);
    return Name(result) + ", allocate " + Name(allocated) + ", destroy " +
           Name(s.cu().MemPoolDestroy(imported));
  });
  AddObject(
      list, "pool.import_of_something_else",
      [](Session& s, Scope&) {
        CUmemoryPool imported = nullptr;
        return Name(s.cu().MemPoolImportFromShareableHandle(&imported, AsHandle(0), kPosix, 0));
      },
      Isolation::kIsolated);
  AddObject(list, "pool.pointer_in_the_same_process", [](Session& s, Scope& scope) {
    const CUmemoryPool pool = MakePool(s, scope, kPosix);
    CUdeviceptr p = 0;
    Need(s.cu().MemAllocFromPoolAsync(&p, kChunk, pool, nullptr), "cuMemAllocFromPoolAsync");
    scope.AtEnd([&s, p] { s.cu().MemFree(p); });
    CUmemPoolPtrExportData data;
    Need(s.cu().MemPoolExportPointer(&data, p), "cuMemPoolExportPointer");
    const int fd = ExportPool(s, pool);
    CUmemoryPool imported = nullptr;
    Need(s.cu().MemPoolImportFromShareableHandle(&imported, AsHandle(fd), kPosix, 0), "import of the pool");
    close(fd);
    CUdeviceptr seen = 0;
    const CUresult result = s.cu().MemPoolImportPointer(&seen, imported, &data);
    std::string answer = Name(result) + (seen == p ? ", the same address" : ", another address");
    if (result == CUDA_SUCCESS) answer += ", free " + Name(s.cu().MemFree(seen));
    s.cu().MemPoolDestroy(imported);
    return answer;
  });
  AddObject(list, "pool.export_pointer_of_cuMemAlloc", [](Session& s, Scope& scope) {
    CUmemPoolPtrExportData data;
    return Name(s.cu().MemPoolExportPointer(&data, scope.Alloc(kChunk)));
  });
}

void AddPlacePools(ProbeList& list) {
  for (const auto& [name, place] :
       {std::pair{"device", Place::kDevice}, {"node", Place::kNode}, {"HOST", Place::kHost}}) {
    const Place where = place;
    for (const auto& [kind, type] :
         {std::pair{"pinned", CU_MEM_ALLOCATION_TYPE_PINNED}, {"managed", CU_MEM_ALLOCATION_TYPE_MANAGED}}) {
      const CUmemAllocationType of = type;
      AddObject(list, std::string("pool.of_") + name + "_" + kind, [where, of](Session& s, Scope&) {
        CUmemLocation location = s.Location(where);
        CUmemoryPool standard = nullptr;
        CUmemoryPool current = nullptr;
        const CUresult first = s.cu().MemGetDefaultMemPool(&standard, &location, of);
        const CUresult second = s.cu().MemGetMemPool(&current, &location, of);
        return Name(first) + ", " + Name(second) + (standard == current ? ", the same" : ", another");
      });
    }
  }
}

CUgraph CapturedMemsets(Session& s, Scope& scope, int count) {
  const CUstream stream = scope.Stream();
  const CUdeviceptr p = scope.Alloc(4096);
  CUgraph graph = nullptr;
  Need(s.cu().StreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL), "cuStreamBeginCapture");
  for (int i = 0; i < count; ++i) Need(s.cu().MemsetD8Async(p, 1, 16, stream), "cuMemsetD8Async");
  Need(s.cu().StreamEndCapture(stream, &graph), "cuStreamEndCapture");
  scope.AtEnd([&s, graph] { s.cu().GraphDestroy(graph); });
  return graph;
}

void AddGraphQueries(ProbeList& list) {
  AddObject(list, "graph.edges", [](Session& s, Scope& scope) {
    const CUgraph graph = CapturedMemsets(s, scope, 3);
    CUgraphNode from[4] = {};
    CUgraphNode to[4] = {};
    CUgraphEdgeData data[4] = {};
    size_t wanted = 0;
    size_t count = 4;
    Need(s.cu().GraphGetEdges(graph, nullptr, nullptr, nullptr, &wanted), "cuGraphGetEdges");
    const CUresult result = s.cu().GraphGetEdges(graph, from, to, data, &count);
    return Name(result) + ", " + std::to_string(wanted) + " and " + std::to_string(count) +
           (to[0] == from[1] || to[1] == from[0] ? ", a chain" : ", no chain") +
           (from[2] == nullptr ? ", cleared" : "");
  });
  AddObject(list, "graph.edges_data_alone", [](Session& s, Scope& scope) {
    CUgraphEdgeData data[4] = {};
    size_t count = 4;
    return Name(s.cu().GraphGetEdges(CapturedMemsets(s, scope, 2), nullptr, nullptr, data, &count));
  });
  AddObject(list, "graph.neighbours", [](Session& s, Scope& scope) {
    const CUgraph graph = CapturedMemsets(s, scope, 2);
    CUgraphNode nodes[2] = {};
    size_t count = 2;
    Need(s.cu().GraphGetNodes(graph, nodes, &count), "cuGraphGetNodes");
    std::string answer;
    for (const CUgraphNode node : nodes) {
      size_t before = 9;
      size_t after = 9;
      const CUresult first = s.cu().GraphNodeGetDependencies(node, nullptr, nullptr, &before);
      const CUresult second = s.cu().GraphNodeGetDependentNodes(node, nullptr, nullptr, &after);
      answer += Name(first) + " " + std::to_string(before) + ", " + Name(second) + " " +
                std::to_string(after) + "; ";
    }
    return answer;
  });
}

void AddGraphMemory(ProbeList& list) {
  AddObject(list, "graph_memory.attributes", [](Session& s, Scope&) {
    std::string answer;
    for (int attribute = 0; attribute < 5; ++attribute) {
      cuuint64_t value = 0;
      const auto which = static_cast<CUgraphMem_attribute>(attribute);
      answer += Name(s.cu().DeviceGetGraphMemAttribute(s.device(), which, &value)) + "/" +
                Name(s.cu().DeviceSetGraphMemAttribute(s.device(), which, &value)) + " ";
    }
    cuuint64_t one = 1;
    return answer + "high to 1 " +
           Name(s.cu().DeviceSetGraphMemAttribute(s.device(), CU_GRAPH_MEM_ATTR_USED_MEM_HIGH, &one)) +
           ", trim " + Name(s.cu().DeviceGraphMemTrim(s.device())) + ", trim of none " +
           Name(s.cu().DeviceGraphMemTrim(-1));
  });
  AddObject(
      list, "graph_memory.of_a_captured_allocation",
      [](Session& s, Scope& scope) {
        const CUstream stream = scope.Stream();
        CUdeviceptr p = 0;
        CUgraph graph = nullptr;
        CUgraphExec exec = nullptr;
        Need(s.cu().StreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL), "cuStreamBeginCapture");
        Need(s.cu().MemAllocAsync(&p, 4 * kMiB, stream), "cuMemAllocAsync");
        Need(s.cu().MemFreeAsync(p, stream), "cuMemFreeAsync");
        Need(s.cu().StreamEndCapture(stream, &graph), "cuStreamEndCapture");
        const auto used = [&s] {
          cuuint64_t value = 0;
          s.cu().DeviceGetGraphMemAttribute(s.device(), CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, &value);
          return std::to_string(value / kMiB) + " MiB";
        };
        std::string answer = "captured " + used();
        Need(s.cu().GraphInstantiate(&exec, graph, 0), "cuGraphInstantiateWithFlags");
        answer += ", instantiated " + used();
        Need(s.cu().GraphLaunch(exec, stream), "cuGraphLaunch");
        Need(s.cu().StreamSynchronize(stream), "cuStreamSynchronize");
        answer += ", launched " + used();
        s.cu().GraphExecDestroy(exec);
        s.cu().GraphDestroy(graph);
        return answer + ", destroyed " + used();
      },
      Isolation::kIsolated);
}

// In a process of its own, before anything has used CUDA.
std::string Seen(Session& s, const std::string& visible) {
  setenv("CUDA_VISIBLE_DEVICES", visible.c_str(), 1);
  int count = 0;
  const CUresult result = s.cu().Init(0);
  const CUresult counted = s.cu().DeviceGetCount(&count);
  return Name(result) + ", " + Name(counted) + " " + std::to_string(count);
}

void AddVisible(ProbeList& list) {
  const std::pair<const char*, const char*> values[] = {{"first", "0"},
                                                        {"none", ""},
                                                        {"minus_one", "-1"},
                                                        {"twice", "0,0"},
                                                        {"then_none", "0,99"},
                                                        {"then_minus", "0,-1"},
                                                        {"then_word", "0,word"},
                                                        {"word", "word"},
                                                        {"number_and_word", "0gpu"},
                                                        {"spaces", " 0"},
                                                        {"any_uuid_prefix", "GPU-"},
                                                        {"unknown_uuid", "GPU-zz"}};
  for (const auto& [name, value] : values) {
    list.push_back({std::string("visible.") + name, [value = value](Session& s) { return Seen(s, value); },
                    Isolation::kBare});
  }
}

std::string InitInChild(Session& s) {
  const pid_t child = fork();
  if (child == 0) _exit(static_cast<int>(s.cu().Init(0)));
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? Name(static_cast<CUresult>(WEXITSTATUS(status))) : std::string("crash");
}

void AddForks(ProbeList& list) {
  list.push_back({"fork.after_the_version",
                  [](Session& s) {
                    int version = 0;
                    Need(s.cu().DriverGetVersion(&version), "cuDriverGetVersion");
                    return InitInChild(s);
                  },
                  Isolation::kBare});
  list.push_back({"fork.after_init",
                  [](Session& s) {
                    Need(s.cu().Init(0), "cuInit");
                    return InitInChild(s);
                  },
                  Isolation::kBare});
}

}  // namespace

void AddObjectProbes(ProbeList& list) {
  AddArrayMaking(list);
  AddArrayCopies(list);
  AddPoolSharing(list);
  AddPlacePools(list);
  AddGraphQueries(list);
  AddGraphMemory(list);
  AddVisible(list);
  AddForks(list);
}

}  // namespace gpuroom::conformance
