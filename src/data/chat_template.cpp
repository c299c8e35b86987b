#include "data/chat_template.h"

#include "base/error.h"

namespace switchyard {
namespace {

bool has(const std::string& text, const char* marker) {
  return text.find(marker) != std::string::npos;
}

/// Jinja writes line ends inside its strings as \n.
std::string with_line_ends(std::string text) {
  for (size_t at = 0; (at = text.find("\\n", at)) != std::string::npos; ++at) {
    text.replace(at, 2, "\n");
  }
  return text;
}

/// The turn of the system that a ChatML template opens with when the first message is
/// another's: literal text from "<|im_start|>system" to "<|im_end|>", no expression in it.
std::string default_system(const std::string& chat_template) {
  const std::string text = with_line_ends(chat_template), open = "<|im_start|>system\n",
                    close = "<|im_end|>\n";
  for (size_t begin = 0; (begin = text.find(open, begin)) != std::string::npos; ++begin) {
    const size_t end = text.find(close, begin);
    if (end == std::string::npos) break;
    const std::string turn = text.substr(begin, end + close.size() - begin);
    if (turn.find_first_of("'\"{}+") == std::string::npos) return turn;
  }
  return "";
}

}  // namespace

std::string chat_prompt(const std::string& chat_template, const std::string& message) {
  if (has(chat_template, "<|im_start|>")) {
    return default_system(chat_template) + "<|im_start|>user\n" + message +
           "<|im_end|>\n<|im_start|>assistant\n";
  }
  if (has(chat_template, "<|start_header_id|>")) {
    return "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n" + message +
           "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";
  }
  if (has(chat_template, "<|user|>")) {
    return "<|user|>\n" + message + "</s>\n<|assistant|>\n";
  }
  if (has(chat_template, "[INST]")) return "<s>[INST] " + message + " [/INST]";
  throw DataError(
      "the model's chat template is of no format that is known here (ChatML, Llama 3, Zephyr, "
      "Mistral); leave --chat out and write the turns into --prompt");
}

}  // namespace switchyard
