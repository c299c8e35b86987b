#include "train/sample_tokens.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "base/random.h"
#include "data/token_dataset.h"

namespace switchyard {
namespace {

/// Jane Austen, Pride and Prejudice (1813), chapter 1: public domain.
constexpr const char* kPassage =
    R"(It is a truth universally acknowledged, that a single man in possession
of a good fortune, must be in want of a wife.

However little known the feelings or views of such a man may be on his
first entering a neighbourhood, this truth is so well fixed in the minds
of the surrounding families, that he is considered the rightful property
of some one or other of their daughters.

"My dear Mr. Bennet," said his lady to him one day, "have you heard that
Netherfield Park is let at last?"

Mr. Bennet replied that he had not.

"But it is," returned she; "for Mrs. Long has just been here, and she
told me all about it."

Mr. Bennet made no answer.

"Do you not want to know who has taken it?" cried his wife impatiently.

"_You_ want to tell me, and I have no objection to hearing it."

This was invitation enough.

"Why, my dear, you must know, Mrs. Long says that Netherfield is taken
by a young man of large fortune from the north of England; that he came
down on Monday in a chaise and four to see the place, and was so much
delighted with it, that he agreed with Mr. Morris immediately; that he
is to take possession before Michaelmas, and some of his servants are to
be in the house by the end of next week."

"What is his name?"

"Bingley."

"Is he married or single?"

"Oh! Single, my dear, to be sure! A single man of large fortune; four or
five thousand a year. What a fine thing for our girls!"

"How so? How can it affect them?"

"My dear Mr. Bennet," replied his wife, "how can you be so tiresome! You
must know that I am thinking of his marrying one of them."

"Is that his design in settling here?"

"Design! Nonsense, how can you talk so! But it is very likely that he
_may_ fall in love with one of them, and therefore you must visit him as
soon as he comes."

"I see no occasion for that. You and the girls may go, or you may send
them by themselves, which perhaps will be still better, for as you are
as handsome as any of them, Mr. Bingley may like you the best of the
party."

"My dear, you flatter me. I certainly _have_ had my share of beauty, but
I do not pretend to be anything extraordinary now. When a woman has five
grown-up daughters, she ought to give over thinking of her own beauty."

"In such cases, a woman has not often much beauty to think of."

"But, my dear, you must indeed go and see Mr. Bingley when he comes into
the neighbourhood."

"It is more than I engage for, I assure you."

"But consider your daughters. Only think what an establishment it would
be for one of them. Sir William and Lady Lucas are determined to
go, merely on that account, for in general, you know, they visit no
newcomers. Indeed you must go, for it will be impossible for _us_ to
visit him if you do not."

"You are over-scrupulous, surely. I dare say Mr. Bingley will be very
glad to see you; and I will send a few lines by you to assure him of my
hearty consent to his marrying whichever he chooses of the girls; though
I must throw in a good word for my little Lizzy."

"I desire you will do no such thing. Lizzy is not a bit better than the
others; and I am sure she is not half so handsome as Jane, nor half so
good-humoured as Lydia. But you are always giving _her_ the preference."

"They have none of them much to recommend them," replied he; "they are
all silly and ignorant like other girls; but Lizzy has something more of
quickness than her sisters."

"Mr. Bennet, how _can_ you abuse your own children in such a way? You
take delight in vexing me. You have no compassion for my poor nerves."

"You mistake me, my dear. I have a high respect for your nerves. They
are my old friends. I have heard you mention them with consideration
these last twenty years at least."

"Ah, you do not know what I suffer."

"But I hope you will get over it, and live to see many young men of four
thousand a year come into the neighbourhood."

"It will be no use to us, if twenty such should come, since you will not
visit them."

"Depend upon it, my dear, that when there are twenty, I will visit them
all."
)";

SampleTokens of_folder(const ModelSource& model, const std::string& dir, int64_t count) {
  const TokenDataset dataset(dir, has_split(dir, "val") ? "val" : "train");
  if (model.meta && !same_tokenizer(*model.meta, dataset.meta())) {
    throw ConfigError("--data: " + dir +
                      " was prepared with another tokenizer than the model's; prepare it with "
                      "that of " +
                      model.path());
  }
  if (dataset.meta().vocab_size > model.config.model.vocab_size) {
    throw ConfigError("--data: " + dir + ": its vocabulary of " +
                      std::to_string(dataset.meta().vocab_size) + " is larger than the model's " +
                      std::to_string(model.config.model.vocab_size));
  }
  if (dataset.num_tokens() < 2) throw DataError(dir + ": fewer than two tokens");
  SampleTokens sample;
  sample.tokens.resize(std::min(count, dataset.num_tokens()));
  dataset.read(0, static_cast<int64_t>(sample.tokens.size()), sample.tokens.data());
  sample.eos = dataset.meta().eos;
  sample.origin = dir + " (" + dataset.split() + ")";
  return sample;
}

SampleTokens of_passage(const ModelSource& model, int64_t count) {
  const std::unique_ptr<Tokenizer> tokenizer = model_tokenizer(model);
  const std::vector<int32_t> ids = tokenizer->encode(std::string_view(kPassage));
  SampleTokens sample;
  sample.tokens.assign(ids.begin(), ids.end());
  sample.tokens.resize(std::min(sample.tokens.size(), static_cast<size_t>(count)));
  sample.eos = tokenizer->eos();
  sample.origin = "the opening of Pride and Prejudice";
  return sample;
}

SampleTokens of_draws(const ModelSource& model, int64_t count, uint64_t seed) {
  const RandomStream draws(seed, "upcycle/sample");
  const auto vocabulary = static_cast<uint64_t>(model.config.model.vocab_size);
  SampleTokens sample;
  for (uint64_t i = 0; i < static_cast<uint64_t>(count); ++i) {
    sample.tokens.push_back(static_cast<int64_t>(draws.block(i, 0)[0] % vocabulary));
  }
  sample.origin = "random ids (the model has no tokenizer that is built in)";
  return sample;
}

}  // namespace

SampleTokens sample_tokens(const ModelSource& model, const std::string& data_dir, int64_t count,
                           uint64_t seed) {
  if (count == 0) return {};
  if (!data_dir.empty()) return of_folder(model, data_dir, count);
  if (!model.meta) return of_draws(model, count, seed);
  try {
    return of_passage(model, count);
  } catch (const DataError& error) {
    log_warning(std::string(error.what()) + "; the receipt uses random ids");
    return of_draws(model, count, seed);
  }
}

}  // namespace switchyard
