#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset_meta.h"

namespace switchyard {

/// What `switchyard prepare` is asked for.
struct PrepareOptions {
  std::vector<std::string> text;   // each file is one document
  std::vector<std::string> jsonl;  // each line is one document, after all of `text`
  std::string field = "text";      // of a line's object
  std::string tokenizer = "bytes";
  std::string out;
  std::string name;  // of the domain; empty: the last part of `out`
  double val_fraction = 0.05;
};

struct PrepareSummary {
  DatasetMeta meta;  // as it was written: tokens and text bytes per split are in it
  int64_t empty_documents = 0;
  double seconds = 0;
};

/// Turns text into out/{train,val}.{bin,idx}, out/meta.json and a copy of the
/// tokenizer. The documents, in the order given, each with the tokenizer's
/// end-of-text id behind it, are one stream; its last val_fraction is the validation
/// split, cut inside a document if need be (and without it there is no val). An empty
/// text is no document.
///
/// Files are mapped and tokens go to the disk as they are made: memory is 16 bytes
/// per document. The folder is filled by renames at the very end, meta.json last, so
/// a failure leaves what was there.
///
/// Throws ConfigError for impossible options, DataError as FILE:LINE for a missing
/// or empty file, invalid UTF-8 (except for `bytes`), a line that is not a JSON
/// object or has no string `field`.
PrepareSummary prepare(const PrepareOptions& options);

}  // namespace switchyard
