"""Loads folders as a user does, with whichever transformers comes first on the path.

    load_folders.py VERSION JOB.json

JOB.json: {"out": FOLDER, "models": {name: {"folder": ..., "tokens": [[...], ...], "text": ... or null}}}
Writes OUT/report.json, per model the keys that were missing, unexpected or of another shape,
the dtype and the tokens of the text, and OUT/logits.safetensors, in float32.
"""

import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer


def tokenizer_report(folder, text):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode(text, add_special_tokens=False)
    return {"ids": ids, "text": tokenizer.decode(ids), "eos": tokenizer.eos_token_id,
            "chat": tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
            if tokenizer.chat_template else None}


def load(job):
    dtype = AutoConfig.from_pretrained(job["folder"]).dtype
    model, info = AutoModelForCausalLM.from_pretrained(job["folder"], dtype=torch.float32, output_loading_info=True)
    with torch.no_grad():
        logits = model.eval()(torch.tensor(job["tokens"])).logits
    report = {"dtype": str(dtype), "class": type(model).__name__,
              **{kind: sorted(map(str, keys)) for kind, keys in info.items() if not isinstance(keys, str)}}
    if job.get("text") is not None:
        report["tokenizer"] = tokenizer_report(job["folder"], job["text"])
    return report, logits.contiguous()


def main():
    version, job_file = sys.argv[1:]
    assert transformers.__version__ == version, transformers.__version__
    job = json.loads(pathlib.Path(job_file).read_text())
    torch.set_num_threads(1)
    reports, logits = {}, {}
    for name, model in job["models"].items():
        reports[name], logits[name] = load(model)
    out = pathlib.Path(job["out"])
    (out / "report.json").write_text(json.dumps(reports))
    save_file(logits, out / "logits.safetensors")


if __name__ == "__main__":
    main()
