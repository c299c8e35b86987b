#pragma once

#include <string>

namespace switchyard {

/// The text that makes a chat model answer `message`: one user's turn and the opening of
/// the assistant's, in the format that `chat_template` (Hugging Face's Jinja text) is of:
///
///   ChatML   <|im_start|>user ...                   SmolLM, Qwen, Yi
///   Llama 3  <|start_header_id|>user ...            Llama 3.x
///   Zephyr   <|user|> ...                           Zephyr, TinyLlama, StableLM
///   Mistral  [INST] ... [/INST]                     Mistral, Mixtral, Llama 2
///
/// told by the markers in it, as llama.cpp tells them: the Jinja program is not run. A
/// system text that the template puts first when none is given is put there, too. Throws
/// DataError for any other format.
std::string chat_prompt(const std::string& chat_template, const std::string& message);

}  // namespace switchyard
