#include "data/chat_template.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace switchyard {
namespace {

TEST(ChatPrompt, ChatMlWithItsDefaultSystem) {
  // SmolLM2's, as its tokenizer_config.json has it.
  const std::string jinja =
      "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
      "'<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
      "Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
      "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
      "'<|im_start|>assistant\n' }}{% endif %}";
  const std::string rendered =
      "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
      "Face<|im_end|>\n<|im_start|>user\nHello?<|im_end|>\n<|im_start|>assistant\n";
  EXPECT_EQ(chat_prompt(jinja, "Hello?"), rendered);
  std::string escaped = jinja;  // as chat_template.jinja files write line ends
  for (size_t at = 0; (at = escaped.find('\n', at)) != std::string::npos; ++at)
    escaped.replace(at, 1, "\\n");
  EXPECT_EQ(chat_prompt(escaped, "Hello?"), rendered);
}

TEST(ChatPrompt, ChatMlWithoutSystem) {
  EXPECT_EQ(chat_prompt("{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
                        "'<|im_end|>' + '\n'}}",
                        "a 'quoted' {word}"),
            "<|im_start|>user\na 'quoted' {word}<|im_end|>\n<|im_start|>assistant\n");
}

TEST(ChatPrompt, OtherFormats) {
  EXPECT_EQ(chat_prompt("... '<|start_header_id|>' + message['role'] ...", "x"),
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nx<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n");
  EXPECT_EQ(chat_prompt("{{ '<|user|>\n' + message['content'] }}", "x"),
            "<|user|>\nx</s>\n<|assistant|>\n");
  EXPECT_EQ(chat_prompt("{{ '[INST] ' + message['content'] }}", "x"), "<s>[INST] x [/INST]");
  EXPECT_THROW(chat_prompt("{{ message['content'] }}", "x"), DataError);
}

}  // namespace
}  // namespace switchyard
