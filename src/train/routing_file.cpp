#include "train/routing_file.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "metrics/routing_record.h"

namespace switchyard {

void RoutingFile::write(const RoutingCensus& step, const TokenCensus& tokens) {
  constexpr int64_t kMaxCells = 64, kTopTokens = 10;
  const std::vector<int64_t>& layers = session_.decoder().moe_layers();
  if (layers.empty()) return;
  Communicator& world = *session_.mesh().world;
  RoutingRecord record;
  record.step = session_.progress().step;
  record.ranks = world.size();
  record.tokens = tokens.tokens(world);
  for (const int64_t layer : layers) record.layers.push_back({layer});
  if (!step.empty()) {
    record.exchange = exchange_matrix(step.exchanged(session_.mesh()), kMaxCells);
    const std::vector<Histogram> logits = step.router_logits(world);
    for (size_t l = 0; l < logits.size(); ++l) record.layers[l].router_logits = logits[l];
  }
  auto experts = tokens.top(session_.config().moe.num_experts, kTopTokens, world);
  if (!session_.is_root()) return;
  for (size_t l = 0; l < experts.size(); ++l) {
    add_texts(experts[l]);
    record.layers[l].experts = std::move(experts[l]);
  }
  write_file_atomically(path_, routing_record_json(record).dump() + "\n");
}

void RoutingFile::add_texts(std::vector<ExpertTokens>& experts) {
  for (ExpertTokens& expert : experts) {
    for (TokenShare& token : expert.top) token.text = text_of(token.id);
  }
}

/// What stands for no text has its name or number in angle brackets.
std::string RoutingFile::text_of(int64_t id) {
  if (id == data_.eos()) return "<end of text>";
  try {
    if (!tokenizer_) tokenizer_ = load_dataset_tokenizer(data_.source(0).dir(), data_.meta());
    const auto narrow = static_cast<int32_t>(id);
    const std::string bytes = tokenizer_->decode({&narrow, 1});
    if (!bytes.empty()) return as_utf8(bytes);
  } catch (const DataError&) {
    // Tokens can be trained on without a tokenizer that reads them; they have numbers then.
  }
  std::string number = "<";
  return number.append(std::to_string(id)).append(">");
}

}  // namespace switchyard
