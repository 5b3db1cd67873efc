#include "cli/process_json.h"

#include "cli/stats_json.h"

namespace gpuroom {
namespace {

using Json = nlohmann::ordered_json;

Json Bytes(const gpuroom_tag_state& sum) {
  return {{"ranges", sum.ranges},   {"awake_bytes", sum.awake},     {"awake_on_gpu_bytes", sum.awake_on_gpu},
          {"kept_bytes", sum.kept}, {"on_disk_bytes", sum.on_disk}, {"dropped_bytes", sum.dropped}};
}

}  // namespace

Json ProcessJson(const ProcessRow& row) {
  Json out = {{"pid", row.pid},
              {"user", row.info.uid ? Json(UserName(*row.info.uid)) : Json(nullptr)},
              {"command", row.info.command},
              {"state", StateOf(row)}};
  if (row.failure.failed()) {
    out["error"] = row.failure.text;
    return out;
  }
  if (*ShareStateOf(row) != '\0') out["share"] = ShareStateOf(row);
  out["version"] = row.reply.version;
  out["fresh"] = row.reply.fresh;
  out.update(Bytes(row.sum));
  out["tags"] = Json::array();
  for (const gpuroom_tag_state& tag : row.reply.tags) {
    Json entry = {{"tag", tag.tag}, {"state", StateOf(tag)}};
    entry.update(Bytes(tag));
    out["tags"].push_back(entry);
  }
  if (row.reply.stats) out["stats"] = StatsJson(*row.reply.stats);
  return out;
}

}  // namespace gpuroom
