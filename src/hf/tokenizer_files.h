#pragma once

#include <string>

#include "base/named_files.h"

namespace switchyard {

/// The tokenizer of a Hugging Face folder.
struct TokenizerFiles {
  NamedFiles files;
  std::string missing;  // why there is no tokenizer.json; empty: there is one
};

/// What of a model's files (meta.json and the tokenizer's own) tells transformers 4.57 and
/// 5.23 how its text is made into tokens:
///
///   tokenizer.json            the model's; of the tokenizer `bytes` one made here, a BPE of
///                             256 bytes without merges and the end of text <|endoftext|>:
///                             the same ids for every text without that token in it
///   tokenizer_config.json     the model's, with the class PreTrainedTokenizerFast, which both
///                             know and which takes tokenizer.json as it is; special tokens
///                             under the names that both read
///   special_tokens_map.json, chat_template.jinja    the model's, as they are
///
/// Throws DataError that names the file when one is not what it should be.
TokenizerFiles tokenizer_files(const NamedFiles& model_files);

}  // namespace switchyard
