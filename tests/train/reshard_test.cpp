#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <sstream>
#include <thread>

#include "base/file.h"
#include "base/random.h"
#include "checkpoint/step_folder.h"
#include "config/load_config.h"
#include "data/prepare.h"
#include "distributed/mpi_communicator.h"
#include "support/mpi_main.h"
#include "support/peak_bytes.h"
#include "train/snapshot.h"
#include "train/train_step.h"

// Runs on 8 ranks. Whatever layout saved a run, any other goes on with it: every tensor
// to the bit, the losses up to rounding, the samples without a gap. Worlds of 1, 2 and 4
// are the first ranks of the job. SWITCHYARD_TORTURE=1 takes every pair of layouts.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int kJobRanks = 8;

struct Layout {
  int ranks;
  int64_t expert;
  int zero_stage;

  std::string name() const {
    return std::to_string(ranks) + "x" + std::to_string(expert) + "z" + std::to_string(zero_stage);
  }
  bool has_this_rank() const { return test_runtime().rank() < ranks; }
};

std::vector<Layout> all_layouts() {
  std::vector<Layout> layouts;
  for (const int ranks : {1, 2, 4, 8}) {
    for (int64_t expert = 1; expert <= ranks; expert *= 2) {
      for (const int zero_stage : {0, 1, 2}) layouts.push_back({ranks, expert, zero_stage});
    }
  }
  return layouts;
}

bool is_torture() {
  const char* torture = std::getenv("SWITCHYARD_TORTURE");
  return torture != nullptr && std::string(torture) == "1";
}

/// The groups of a world of the job's first ranks; the other ranks get groups of their
/// own that nobody uses. Collective over the job.
Mesh first_ranks(const Layout& layout) {
  const int rank = test_runtime().rank(), EP = static_cast<int>(layout.expert);
  const bool inside = layout.has_this_rank();
  const auto group = [&](int color, int key, const char* name) {
    return make_mpi_communicator(MPI_COMM_WORLD, inside ? color : kJobRanks, inside ? key : rank,
                                 name);
  };
  return {group(0, rank, "world"), group(rank / EP, rank % EP, "expert parallel"),
          group(rank % EP, rank / EP, "expert data parallel")};
}

/// Meets all ranks of the job; those that have nothing to do sleep, for the others
/// need the cores.
void wait_for_job() {
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Ibarrier(MPI_COMM_WORLD, &request);
  for (int done = 0; MPI_Test(&request, &done, MPI_STATUS_IGNORE), done == 0;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

/// A folder that all ranks of the job see, with prepared text in it; gone with it.
class JobFolder {
 public:
  JobFolder() {
    const Mesh job = first_ranks({kJobRanks, 1, 0});
    std::string made;
    if (job.world->rank() == 0) {
      made = testing::TempDir() + "reshard-XXXXXX";
      TORCH_CHECK(::mkdtemp(made.data()) != nullptr, "mkdtemp ", made);
    }
    path_ = broadcast_text(*job.world, made, 0, "folder");
    if (job.world->rank() == 0) prepare_text();
    wait_for_job();
  }
  ~JobFolder() {
    wait_for_job();
    if (test_runtime().rank() == 0) remove_tree(path_);
  }
  JobFolder(const JobFolder&) = delete;
  JobFolder& operator=(const JobFolder&) = delete;

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  void prepare_text() const {
    const RandomStream letters(5, "letters");
    std::string text;
    for (uint64_t i = 0; i < 6000; ++i)
      text += static_cast<char>('a' + letters.block(i, 0)[0] % 26);
    write_file_atomically(*this / "text.txt", text);
    PrepareOptions options;
    options.text = {*this / "text.txt"};
    options.out = *this / "data";
    prepare(options);
  }

  std::string path_;
};

/// A small model with all that a checkpoint carries along, and sizes of which no shard
/// comes out even: dropout, jitter, selection bias, lagged counts, two micro-batches.
RunConfig config_of(const Layout& layout, const std::string& precision, const JobFolder& folder) {
  RunConfig config;
  config.data.path = {{folder / "data", 1.0, ""}};
  config.data.sequence_length = 9;
  config.model.vocab_size = 259;
  config.model.hidden_size = 12;
  config.model.num_hidden_layers = 2;
  config.model.num_attention_heads = 3;
  config.model.dropout = 0.1;
  config.model.init_std = 0.3;
  config.moe.num_experts = 8;
  config.moe.expert_intermediate_size = 7;
  config.moe.expert_dropout = 0.1;
  config.moe.router.jitter_eps = 0.1;
  config.moe.router.selection_bias = true;
  config.moe.router.bias_update_rate = 0.01;
  config.moe.balance = {{"topk", 0.05, "global_lagged", "mean"}};
  config.moe.shared_experts = {1, 5, true};
  config.parallel.expert = layout.expert;
  config.zero.stage = layout.zero_stage;
  config.optim.lr = 3e-3;
  config.optim.schedule.warmup_steps = 3;
  config.train.steps = 20;
  config.train.threads = 1;
  config.train.global_batch_size = 16;
  config.train.micro_batch_size = 16 / layout.ranks / 2;
  config.train.precision = precision;
  resolve_autos(config.model);
  return config;
}

// ------------------------------------------------------- what a run is known by

/// A sum over elements of a function of (index, bits): the sum over shards is that of
/// the whole.
uint64_t hash_elements(const Tensor& flat, int64_t first_index) {
  const auto mixed = [](uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
  };
  const Tensor bits = flat.view(flat.element_size() == 2   ? at::kShort
                                : flat.element_size() == 8 ? at::kLong
                                                           : at::kInt)
                          .to(at::kLong)
                          .contiguous();
  uint64_t sum = 0;
  for (int64_t i = 0; i < bits.numel(); ++i) {
    const auto index = static_cast<uint64_t>(first_index + i + 1);
    sum += mixed(mixed(index * 0x9e3779b97f4a7c15U) +
                 static_cast<uint64_t>(bits.data_ptr<int64_t>()[i]));
  }
  return sum;
}

using Hashes = std::map<std::string, uint64_t>;

/// The hash of what this rank holds of one kind of state; over the group, of all of it.
void hash_state(const ParameterStore& store, const ParameterStore::Buffer& buffer,
                const Tensor& state, const std::string& suffix, Hashes& hashes) {
  if (!state.defined()) return;
  std::vector<std::string> names;
  std::vector<int64_t> sums;
  for (const PlacedPart& placed : store.parts()) {
    if (placed.kind != buffer.kind) continue;
    const Interval mine = intersect(placed.range, buffer.state);
    const uint64_t hash =
        mine.empty() ? 0
                     : hash_elements(state.narrow(0, mine.begin - buffer.state.begin, mine.size()),
                                     mine.begin - placed.range.begin);
    names.push_back(placed.part.name + suffix);
    sums.push_back(static_cast<int64_t>(hash));
  }
  Tensor total = at::tensor(sums, at::kLong);
  if (buffer.state.size() < buffer.weights.numel()) {
    buffer.group->all_reduce(total, ReduceOp::kSum, "hashes");
  }
  for (size_t i = 0; i < names.size(); ++i) {
    hashes[names[i]] = static_cast<uint64_t>(total[static_cast<int64_t>(i)].item<int64_t>());
  }
}

/// Every logical tensor and number of a run, by name, on every rank; ranks that hold the
/// same must agree. Collective.
Hashes hashes_of(Session& session) {
  Hashes mine;
  const ParameterStore& store = session.store();
  for (const PlacedPart& placed : store.parts()) {
    mine[placed.part.name] = hash_elements(store.weight_of(placed).flatten(), 0);
  }
  for (const ParameterStore::Buffer& buffer : store.buffers()) {
    hash_state(store, buffer, buffer.master, ".master", mine);
    hash_state(store, buffer, buffer.exp_avg, ".exp_avg", mine);
    hash_state(store, buffer, buffer.exp_avg_sq, ".exp_avg_sq", mine);
  }
  for (const auto& [name, state] : session.decoder().router_state()) {
    mine[name] = hash_elements(state, 0);
  }
  const Progress& progress = session.progress();
  mine["lagged.all"] = hash_elements(progress.lagged.all_LE.flatten(), 0);
  mine["lagged.first"] = hash_elements(progress.lagged.first_LE.flatten(), 0);
  mine["lagged.tokens"] = static_cast<uint64_t>(progress.lagged.tokens);
  mine["step"] = static_cast<uint64_t>(progress.step);
  mine["updates"] = static_cast<uint64_t>(progress.updates);
  mine["cursor"] = progress.cursor;
  mine["tokens"] = static_cast<uint64_t>(progress.tokens);

  std::ostringstream text;
  for (const auto& [name, hash] : mine) text << name << ' ' << hash << '\n';
  Hashes all;
  for (const std::string& of_rank : all_gather_text(*session.mesh().world, text.str(), "hashes")) {
    std::istringstream in(of_rank);
    std::string name;
    for (uint64_t hash = 0; in >> name >> hash;) {
      const auto [known, is_new] = all.emplace(name, hash);
      EXPECT_TRUE(is_new || known->second == hash) << name << " differs between ranks";
    }
  }
  return all;
}

/// The course of a run from its checkpoint on, uninterrupted.
struct Course {
  Hashes saved;
  std::vector<double> losses;                 // of the steps after
  std::vector<std::vector<int64_t>> samples;  // that those steps read, in order
  std::string folder;                         // of the checkpoint
};

std::vector<int64_t> samples_of_next_step(const Session& session, const TrainingData& data) {
  const int64_t mine = session.sequences_per_rank();
  Communicator& world = *session.mesh().world;
  const SampleBatch batch =
      data.read(static_cast<int64_t>(session.progress().cursor) + world.rank() * mine, mine);
  Tensor all = at::empty({world.size() * mine}, at::kLong);
  world.all_gather(at::tensor(std::vector<int64_t>(batch.ids.begin(), batch.ids.end()), at::kLong),
                   all, "sample ids");
  return {all.data_ptr<int64_t>(), all.data_ptr<int64_t>() + all.numel()};
}

void take_steps(Session& session, const TrainingData& data, int64_t steps, Course& course) {
  for (int64_t step = 0; step < steps; ++step) {
    course.samples.push_back(samples_of_next_step(session, data));
    course.losses.push_back(train_step(session, read_step(session, data)).loss);
  }
}

/// Trains two steps from the common start, saves, and goes on for `steps`. Collective
/// over the job; the course is known on the layout's ranks.
Course run_from_start(const Layout& layout, const std::string& precision, const JobFolder& folder,
                      int64_t steps) {
  Course course;
  const std::string checkpoints = folder / (precision + "-" + layout.name());
  course.folder = checkpoints + "/" + step_folder_name(2);
  Mesh mesh = first_ranks(layout);
  if (layout.has_this_rank()) {
    const RunConfig config = config_of(layout, precision, folder);
    const TrainingData data(config.data, static_cast<uint64_t>(config.run.seed));
    Session session(std::move(mesh), test_runtime().record(), kJobRanks, config);
    Course before;
    take_steps(session, data, 2, before);
    course.saved = hashes_of(session);
    if (session.is_root()) make_folders(checkpoints);
    session.mesh().world->barrier("folder");
    save_snapshot(session, checkpoints, data.fingerprint(), {});
    take_steps(session, data, steps, course);
  }
  wait_for_job();
  return course;
}

/// Bytes of the tensors that a rank has use for.
uint64_t bytes_held(Session& session) {
  int64_t bytes = 0;
  for (const PlacedPart& placed : session.store().parts()) {
    const ParameterStore::Buffer& buffer = session.store().buffer(placed.kind);
    bytes += placed.range.size() * buffer.weights.element_size();
    bytes += intersect(placed.range, buffer.state).size() * (buffer.master.defined() ? 12 : 8);
  }
  const int64_t LE = session.progress().lagged.all_LE.numel();
  return static_cast<uint64_t>(bytes + LE * 4 + 2 * LE * 8);  // selection biases, counts
}

double relative(double a, double b) { return std::abs(a - b) / std::abs(b); }

/// The worst that was met over many resumes.
struct Worst {
  int64_t pairs = 0, tensors = 0, differing = 0;
  double first_loss = 0, ten_losses = 0;
  int64_t runs_of_ten = 0;
};

/// Goes on in `session` from another layout's checkpoint. Collective over its world.
void resume(Session& session, const TrainingData& data, const Course& from, int64_t steps,
            Worst& worst) {
  const uint64_t read = load_snapshot(session, from.folder, Restore::kRun, Digests::kTrust);
  EXPECT_EQ(read, bytes_held(session));
  const Hashes loaded = hashes_of(session);
  Course here;
  take_steps(session, data, steps, here);
  if (!session.is_root()) return;  // it has been in every world, and knows the courses
  worst.pairs += 1;
  worst.tensors += static_cast<int64_t>(loaded.size());
  for (const auto& [name, hash] : from.saved) {
    const auto found = loaded.find(name);
    const bool equal = found != loaded.end() && found->second == hash;
    worst.differing += equal ? 0 : 1;
    EXPECT_TRUE(equal) << name;
  }
  EXPECT_EQ(loaded.size(), from.saved.size());
  for (size_t step = 0; step < here.losses.size(); ++step) {
    EXPECT_EQ(here.samples[step], from.samples[step]);
    const double apart = relative(here.losses[step], from.losses[step]);
    double& most = step == 0 ? worst.first_loss : worst.ten_losses;
    most = std::max(most, apart);
  }
  worst.runs_of_ten += steps == 10 ? 1 : 0;
}

struct Pair {
  size_t from, to;  // indices of all_layouts()
  int64_t steps;    // after the resume
};

/// Saves once on every layout that a pair starts from, and resumes every pair.
Worst resume_pairs(const std::vector<Pair>& pairs, const std::string& precision,
                   const JobFolder& folder) {
  const std::vector<Layout> layouts = all_layouts();
  std::map<size_t, int64_t> steps_from;
  for (const Pair& pair : pairs) {
    steps_from[pair.from] = std::max(steps_from[pair.from], pair.steps);
  }
  std::map<size_t, Course> courses;
  for (const auto& [from, steps] : steps_from) {
    courses[from] = run_from_start(layouts[from], precision, folder, steps);
  }
  Worst worst;
  for (size_t to = 0; to < layouts.size(); ++to) {
    const auto ends_here = [to](const Pair& pair) { return pair.to == to; };
    if (std::none_of(pairs.begin(), pairs.end(), ends_here)) continue;
    const Layout& layout = layouts[to];
    Mesh mesh = first_ranks(layout);
    if (layout.has_this_rank()) {
      const RunConfig config = config_of(layout, precision, folder);
      const TrainingData data(config.data, static_cast<uint64_t>(config.run.seed));
      Session session(std::move(mesh), test_runtime().record(), kJobRanks, config);
      for (const Pair& pair : pairs) {
        if (pair.to != to) continue;
        SCOPED_TRACE(precision + " from " + layouts[pair.from].name() + " to " + layout.name());
        resume(session, data, courses[pair.from], pair.steps, worst);
      }
    }
    wait_for_job();
  }
  return worst;
}

void print(const char* precision, const Worst& worst) {
  if (test_runtime().rank() != 0) return;
  std::printf(
      "%s: %lld pairs of layouts, %lld tensors and numbers, %lld differ; first loss within "
      "%.1e, ten losses of %lld within %.1e\n",
      precision, static_cast<long long>(worst.pairs), static_cast<long long>(worst.tensors),
      static_cast<long long>(worst.differing), worst.first_loss,
      static_cast<long long>(worst.runs_of_ten), worst.ten_losses);
}

// Each layout is once what is saved from and once what is resumed on; or every pair. One
// in seven goes on for ten steps.
TEST(ReshardTest, AnyLayoutGoesOnFromAnyOther) {
  const JobFolder folder;
  const size_t n = all_layouts().size();
  std::vector<Pair> pairs;
  const auto add = [&](size_t from, size_t to) {
    pairs.push_back({from, to, pairs.size() % 7 == 0 ? 10 : 1});
  };
  for (size_t from = 0; from < n; ++from) {
    if (!is_torture()) add(from, (7 * from + 3) % n);
    for (size_t to = 0; is_torture() && to < n; ++to) add(from, to);
  }
  const Worst worst = resume_pairs(pairs, "fp32", folder);
  print("fp32", worst);
  if (test_runtime().rank() != 0) return;
  EXPECT_EQ(worst.pairs, is_torture() ? 900 : 30);
  EXPECT_LT(worst.first_loss, 1e-6);
  EXPECT_LT(worst.ten_losses, 1e-4);
}

// Tensors to the bit here too; losses up to bfloat16's rounding of activations.
TEST(ReshardTest, InBfloat16Too) {
  const JobFolder folder;
  std::vector<Pair> pairs;
  for (size_t i = 0; i < 10; ++i) {
    pairs.push_back({3 * i + i % 3, 29 - (3 * i + (i + 1) % 3), /*steps=*/1});
  }
  const Worst worst = resume_pairs(pairs, "bf16", folder);
  print("bf16", worst);
  EXPECT_LT(worst.first_loss, 0.01);
}

TEST(ReshardTest, TheMicroBatchMayChange) {
  const JobFolder folder;
  const Layout layout{4, 2, 2};
  const Course course = run_from_start(layout, "fp32", folder, 10);
  Worst worst;
  for (const int64_t micro : {1, 2, 4}) {
    Mesh mesh = first_ranks(layout);
    if (layout.has_this_rank()) {
      RunConfig config = config_of(layout, "fp32", folder);
      config.train.micro_batch_size = micro;
      const TrainingData data(config.data, static_cast<uint64_t>(config.run.seed));
      Session session(std::move(mesh), test_runtime().record(), kJobRanks, config);
      EXPECT_EQ(session.accumulation_steps(), 4 / micro);
      resume(session, data, course, /*steps=*/10, worst);
    }
    wait_for_job();
  }
  print("micro-batch", worst);
  EXPECT_LT(worst.first_loss, 1e-6);
  EXPECT_LT(worst.ten_losses, 1e-4);
}

/// Elements of a stored float32 tensor.
std::vector<float> values_of(CheckpointReader& reader, const std::string& name) {
  std::vector<float> values(c10::multiply_integers(reader.tensor(name).shape));
  reader.read(name, "F32", 0, static_cast<int64_t>(values.size()), values.data());
  return values;
}

// A bug that other trainers have had: all expert ranks save under one rank's names.
TEST(ReshardTest, SavedExpertsDifferFromEachOther) {
  const JobFolder folder;
  for (const Layout& layout : {Layout{8, 8, 0}, Layout{8, 4, 2}}) {
    const Course course = run_from_start(layout, "fp32", folder, 1);
    if (test_runtime().rank() != 0) continue;
    CheckpointReader reader(course.folder);
    for (const char* suffix : {"", ".exp_avg", ".exp_avg_sq"}) {
      std::set<std::vector<float>> experts;
      for (int layer = 0; layer < 2; ++layer) {
        for (int expert = 0; expert < 8; ++expert) {
          experts.insert(values_of(reader, "model.layers." + std::to_string(layer) +
                                               ".mlp.experts." + std::to_string(expert) +
                                               ".down_proj.weight" + suffix));
        }
      }
      EXPECT_EQ(experts.size(), 16U) << layout.name() << suffix;
    }
  }
}

// Peak memory: nothing beside the rank's own tensors where the dtypes are the same, one
// tensor at most where they are not. Digests checked or not.
TEST(ReshardTest, LoadingNeedsNoRoomOfItsOwn) {
  const JobFolder folder;
  std::map<std::string, Course> courses;
  for (const char* precision : {"fp32", "bf16"}) {
    courses[precision] = run_from_start({4, 2, 1}, precision, folder, 1);
  }
  const Layout layout{2, 2, 2};
  for (const std::string stored : {"fp32", "bf16"}) {
    for (const std::string wanted : {"fp32", "bf16"}) {
      PeakBytes peak;
      Mesh mesh = first_ranks(layout);
      if (layout.has_this_rank()) {
        Session session(std::move(mesh), test_runtime().record(), kJobRanks,
                        config_of(layout, wanted, folder));
        const ParameterBytes own = session.store().bytes();
        int64_t largest = 0;
        for (const PlacedPart& placed : session.store().parts()) {
          largest = std::max(largest, placed.range.size() * 4);
        }
        for (const Digests digests : {Digests::kTrust, Digests::kCheck}) {
          peak.restart();
          const uint64_t read =
              load_snapshot(session, courses[stored].folder, Restore::kRun, digests);
          EXPECT_LE(peak.rise(), stored == wanted ? 4096 : largest);
          if (!session.is_root()) continue;
          std::printf(
              "%s from %s, digests %s: rank 0 holds %lld bytes, reads %llu, needs %lld "
              "more; largest tensor %lld\n",
              wanted.c_str(), stored.c_str(), digests == Digests::kCheck ? "checked" : "trusted",
              static_cast<long long>(own.weights + own.optimizer),
              static_cast<unsigned long long>(read), static_cast<long long>(peak.rise()),
              static_cast<long long>(largest));
        }
      }
      wait_for_job();
    }
  }
}

}  // namespace
}  // namespace switchyard
