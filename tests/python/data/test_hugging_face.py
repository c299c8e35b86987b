"""Our byte-level BPE gives the very ids of Hugging Face tokenizers."""

import json
import subprocess
import sys

import pytest
from conftest import SOURCE, assert_same_ids, prepare, prepared_documents, read_meta, tokens_of
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_2 = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")


def byte_level(**options):
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False, **options})


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


PRE_TOKENIZERS = {
    "gpt2": byte_level(),
    "prefix_space": byte_level(add_prefix_space=True),
    "smollm_digits": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()]),
    "digit_runs_prefix": pre_tokenizers.Sequence([pre_tokenizers.Digits(), byte_level(add_prefix_space=True)]),
    "llama3": pre_tokenizers.Sequence([split(LLAMA_3), byte_level(use_regex=False)]),
    "llama3_removed_invert": pre_tokenizers.Sequence([split(LLAMA_3, "removed", True), byte_level(use_regex=False)]),
    "deepseek": pre_tokenizers.Sequence(
        [
            split(r"[\r\n]"),
            split(r"\s?\p{L}+"),
            split(r"\s?\p{P}+"),
            split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"),
            pre_tokenizers.Digits(individual_digits=True),
            byte_level(use_regex=False),
        ]
    ),
    "literal": pre_tokenizers.Sequence([pre_tokenizers.Split("(e.", "isolated"), byte_level()]),
    "line_ends": pre_tokenizers.Sequence([split(r"^.|\d\D$"), byte_level(use_regex=False)]),
}


def train(texts, pre_tokenizer, normalizer=None, **model_options):
    tokenizer = Tokenizer(models.BPE(**model_options))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=3000,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts[::4], trainer)
    return tokenizer


def assert_parity(tokenizer, texts, folder):
    tokenizer.save(str(folder / "tokenizer.json"))
    ours = prepared_documents(texts, f"hf:{folder / 'tokenizer.json'}", folder)
    theirs = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    assert_same_ids(texts, ours, theirs)


def test_trained_8k_on_whole_novels_and_chapters(texts, english, tmp_path):
    path = tmp_path / "bpe" / "tokenizer.json"
    script = [sys.executable, SOURCE / "scripts" / "train_tokenizer.py", "--vocab-size", "8192", "--out", path]
    subprocess.run([*script, english / "default.jsonl"], check=True)
    tokenizer = Tokenizer.from_file(str(path))
    assert tokenizer.get_vocab_size() == 8192
    ours = prepared_documents(texts, f"hf:{path}", tmp_path)
    theirs = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    assert_same_ids(texts, ours, theirs)

    novels = (english / "austen.txt").read_text(encoding="utf-8")
    done = prepare(tmp_path / "whole", "--text", english / "austen.txt", "--tokenizer", f"hf:{path}", "--val-fraction", 0)
    assert done.returncode == 0, done.stderr
    expected = tokenizer.encode(novels, add_special_tokens=False).ids
    assert tokens_of(tmp_path / "whole").tolist() == expected + [0]


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_pre_tokenizer(name, texts, tmp_path):
    texts = texts[:400]
    assert_parity(train(texts, PRE_TOKENIZERS[name]), texts, tmp_path)


def test_ignore_merges_takes_whole_words(texts, tmp_path):
    texts = texts[:400]
    tokenizer = train(texts, PRE_TOKENIZERS["llama3"])
    saved = json.loads(tokenizer.to_str())
    assert saved["model"]["type"] == "BPE"
    saved["model"]["ignore_merges"] = True
    # A word that no merge reaches.
    saved["model"]["vocab"]["Elizabethan"] = 5000
    ignoring = Tokenizer.from_str(json.dumps(saved))
    texts = texts + ["Elizabethan Elizabethan xElizabethan"]
    assert ignoring.encode(texts[-1]).ids[0] == 5000
    assert_parity(ignoring, texts, tmp_path)


def test_merges_as_strings(texts, tmp_path):
    texts = texts[:400]
    tokenizer = train(texts, byte_level())
    saved = json.loads(tokenizer.to_str())
    saved["model"]["merges"] = [" ".join(merge) for merge in saved["model"]["merges"]]
    path = tmp_path / "old.json"
    path.write_text(json.dumps(saved))
    ours = prepared_documents(texts, f"hf:{path}", tmp_path)
    assert_same_ids(texts, ours, [tokenizer.encode(text).ids for text in texts])


@pytest.mark.parametrize("normalizer", [normalizers.NFC(), normalizers.Sequence([normalizers.NFC()])])
def test_nfc(normalizer, texts, tmp_path):
    texts = texts[:400]
    pre_tokenizer = pre_tokenizers.Sequence([split(QWEN_2), byte_level(use_regex=False)])
    assert_parity(train(texts, pre_tokenizer, normalizer), texts, tmp_path)


def test_added_tokens(texts, tmp_path):
    tokenizer = train(texts[:400], byte_level(), normalizers.NFC())
    tokenizer.add_tokens(
        [
            AddedToken("  ", normalized=True),
            AddedToken("    ", normalized=True),
            AddedToken("return", normalized=False),
            AddedToken("retur", normalized=False),
            AddedToken("caf\u00e9", normalized=True),
            AddedToken("Emma", lstrip=True, rstrip=True, normalized=False),
        ]
    )
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False, special=True), "<s>", "</s>"])
    tricky = [
        "  a    b     c return retur returns cafe\u0301 caf\u00e9s",
        "x  \u00a0\u3000<mask> y<mask>\n<mask>  <mask>",
        " Emma  Emma\n\nEmma's EmmaEmma Emma",
        "<s>text</s><s></s>",
        "<mask>",
    ]
    assert_parity(tokenizer, tricky + texts[:400], tmp_path)


@pytest.mark.parametrize("fuse", [False, True])
def test_unknown_bytes(fuse, tmp_path):
    words = ["abc", "abd", "bcd"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=fuse))
    tokenizer.pre_tokenizer = byte_level()
    tokenizer.train_from_iterator(words * 5, trainers.BpeTrainer(vocab_size=12, special_tokens=["<unk>", "</s>"], show_progress=False))
    assert_parity(tokenizer, ["abcxyabd", "zz", "\u00e9a", "abc abd zz"], tmp_path)


def test_bytes_missing_from_the_vocabulary_are_dropped_as_there(tmp_path):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = byte_level()
    tokenizer.train_from_iterator(["abc"] * 5, trainers.BpeTrainer(vocab_size=12, special_tokens=["</s>"], show_progress=False))
    assert_parity(tokenizer, ["abcxab", "zza", "\u00e9a"], tmp_path)


def test_eos_of_tokenizer_config(texts, tmp_path):
    tokenizer = train(texts[:50], byte_level())
    tokenizer.add_special_tokens(["<stop>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": {"content": "<stop>"}}')
    (tmp_path / "a.txt").write_text("some text")
    done = prepare(tmp_path / "out", "--text", tmp_path / "a.txt", "--tokenizer", f"hf:{tmp_path}")
    assert done.returncode == 0, done.stderr
    assert read_meta(tmp_path / "out")["eos"] == tokenizer.token_to_id("<stop>")
    assert (tmp_path / "out" / "tokenizer.json").exists()
    assert (tmp_path / "out" / "tokenizer_config.json").exists()


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"normalizer": {"type": "Lowercase"}}, "normalizer Lowercase is not built in"),
        ({"pre_tokenizer": {"type": "Metaspace"}}, "pre_tokenizer Metaspace is not built in"),
        ({"pre_tokenizer": None}, "pre_tokenizer null is not built in"),
        ({"model": {"type": "Unigram", "vocab": []}}, "model Unigram is not built in"),
        ({"added_tokens": []}, "no token that ends a document"),
    ],
)
def test_what_is_not_built_in_is_named(change, complaint, texts, tmp_path):
    saved = json.loads(train(texts[:20], byte_level()).to_str())
    saved.update(change)
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved))
    (tmp_path / "a.txt").write_text("text")
    done = prepare(tmp_path / "out", "--text", tmp_path / "a.txt", "--tokenizer", f"hf:{tmp_path / 'tokenizer.json'}")
    assert done.returncode == 3
    assert complaint in done.stderr
    assert not (tmp_path / "out").exists()


def test_invalid_utf8_is_named_by_line(texts, tmp_path):
    train(texts[:20], byte_level()).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\nthr\xffee\n")
    done = prepare(tmp_path / "out", "--text", tmp_path / "a.txt", "--tokenizer", f"hf:{tmp_path}")
    assert done.returncode == 3
    assert "a.txt:3: byte 11 is not valid UTF-8" in done.stderr
