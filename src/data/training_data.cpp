#include "data/training_data.h"

#include <cmath>
#include <filesystem>
#include <numeric>

#include "base/checksum.h"
#include "base/error.h"
#include "base/random.h"

namespace switchyard {
namespace {

std::vector<double> weights_of(const DataConfig& config) {
  std::vector<double> weights;
  for (const DataSource& source : config.path) weights.push_back(source.weight);
  return weights;
}

std::string name_of(const DataSource& source, const DatasetMeta& meta) {
  if (!source.name.empty()) return source.name;
  if (!meta.name.empty()) return meta.name;
  const std::filesystem::path path(source.path);
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

}  // namespace

TrainingData::TrainingData(const DataConfig& config, uint64_t seed)
    : length_(config.sequence_length), seed_(seed), blend_(weights_of(config)) {
  if (length_ < 1) throw ConfigError("data.sequence_length: must be at least 1");
  for (const DataSource& source : config.path) add_source(source);
}

void TrainingData::add_source(const DataSource& source) {
  TokenDataset dataset(source.path, "train");
  if (!sources_.empty() && !same_tokenizer(meta(), dataset.meta())) {
    throw ConfigError("data.path: " + sources_.front().dir() + " and " + source.path +
                      " have different tokenizers (" + meta().tokenizer + ", " +
                      dataset.meta().tokenizer + "); prepare them with the same one");
  }
  const int64_t samples = (dataset.num_tokens() - 1) / length_;
  if (samples < 1) {
    throw DataError(source.path + "/train: " + std::to_string(dataset.num_tokens()) +
                    " tokens are too few for one sample of sequence_length + 1 = " +
                    std::to_string(length_ + 1) +
                    "; lower data.sequence_length or prepare more text");
  }
  names_.push_back(name_of(source, dataset.meta()));
  samples_.push_back(samples);
  sources_.push_back(std::move(dataset));
}

SampleBatch TrainingData::read(int64_t first, int64_t count) const {
  SampleBatch batch;
  batch.count = count;
  batch.length = length_;
  batch.tokens.resize(count * (length_ + 1));
  batch.valid.assign(count, length_);
  for (int64_t i = 0; i < count; ++i) {
    const Blend::Place place = blend_.at(first + i);
    const auto samples = static_cast<uint64_t>(samples_[place.source]);
    const auto index = static_cast<uint64_t>(place.index);
    const Permutation shuffle(samples, seed_, "shuffle/" + std::to_string(place.source),
                              index / samples);
    const uint64_t sample = shuffle(index % samples);
    sources_[place.source].read(static_cast<int64_t>(sample) * length_, length_ + 1,
                                batch.tokens.data() + i * (length_ + 1));
    batch.order.push_back(first + i);
    batch.ids.push_back(static_cast<uint64_t>(place.source) << 40 | sample);
    batch.source.push_back(place.source);
  }
  return batch;
}

std::vector<int64_t> TrainingData::blended_counts(
    const std::vector<std::vector<int64_t>>& of_sources) const {
  const auto total = [](const std::vector<int64_t>& counts) {
    return static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
  };
  double tokens = 0;
  for (const std::vector<int64_t>& counts : of_sources) tokens += total(counts);
  std::vector<double> sums(vocab_size(), 0);
  for (size_t i = 0; i < of_sources.size(); ++i) {
    const double share = static_cast<double>(blend_.counts()[i]) / total(blend_.counts());
    const double factor = share * tokens / total(of_sources[i]);
    for (size_t v = 0; v < sums.size(); ++v) {
      sums[v] += factor * static_cast<double>(of_sources[i][v]);
    }
  }
  std::vector<int64_t> rounded;
  for (const double sum : sums) rounded.push_back(std::llround(sum));
  return rounded;
}

std::string TrainingData::fingerprint() const {
  Xxh3Stream hash;
  hash.update(&length_, sizeof(length_));
  for (size_t i = 0; i < sources_.size(); ++i) {
    const uint64_t source = sources_[i].fingerprint();
    hash.update(&source, sizeof(source));
    hash.update(&blend_.counts()[i], sizeof(int64_t));
  }
  return digest_text(hash.digest());
}

}  // namespace switchyard
