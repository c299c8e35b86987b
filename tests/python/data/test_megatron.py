"""Megatron-Core reads what we write."""

import types
import warnings

import numpy as np
from conftest import prepare, prepared_documents, tokens_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that Transformer Engine is not there
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
    from megatron.core.datasets.indexed_dataset import IndexedDataset
    from megatron.core.datasets.utils import Split

DOCUMENTS = ["first", "a longer second document", "x", "the last"]


def test_reads_every_document(tmp_path):
    ours = prepared_documents(DOCUMENTS, "bytes", tmp_path)
    theirs = IndexedDataset(str(tmp_path / "out" / "train"))
    assert theirs.document_indices.tolist() == [0, 1, 2, 3, 4]
    assert [document.tolist() for document in theirs[:]] == [[*ids, 256] for ids in ours]
    assert theirs[0].dtype == np.uint16


def test_reads_both_sides_of_a_cut_document(tmp_path):
    whole = prepared_documents(DOCUMENTS, "bytes", tmp_path)
    done = prepare(tmp_path / "cut", "--jsonl", tmp_path / "in.jsonl", "--val-fraction", 0.4)
    assert done.returncode == 0, done.stderr
    joined = []
    for split in ("train", "val"):
        theirs = IndexedDataset(str(tmp_path / "cut" / split))
        tokens = np.concatenate([theirs[i] for i in range(len(theirs))])
        assert tokens.tolist() == tokens_of(tmp_path / "cut", split).tolist()
        joined += tokens.tolist()
    assert joined == [id for ids in whole for id in [*ids, 256]]


def test_reads_int32(tmp_path):
    import base64

    lines = [base64.b64encode(bytes([byte])) + b" %d" % (65000 + byte * 3) for byte in range(256)]
    (tmp_path / "wide.tiktoken").write_bytes(b"\n".join(lines))
    ours = prepared_documents(DOCUMENTS, f"tiktoken:{tmp_path / 'wide.tiktoken'}", tmp_path)
    theirs = IndexedDataset(str(tmp_path / "out" / "train"))
    assert theirs[1].dtype == np.int32
    assert theirs[1].tolist() == [*ours[1], 65766]


def test_trains_on_the_same_samples(tmp_path):
    """Sample i of a document is the S + 1 tokens from i S on; the order is each trainer's own."""
    prepared_documents(["It is a truth universally acknowledged, that a single man. " * 40], "bytes", tmp_path)
    (tmp_path / "cache").mkdir()
    tokens = tokens_of(tmp_path / "out", "train")
    length = 32
    count = (len(tokens) - 1) // length
    tokenizer = types.SimpleNamespace(eod=256, vocab_size=257, unique_identifiers={})
    config = GPTDatasetConfig(random_seed=1, sequence_length=length, split="1,0,0", tokenizer=tokenizer,
                              path_to_cache=str(tmp_path / "cache"), reset_position_ids=False,
                              reset_attention_mask=False, eod_mask_loss=False)
    indexed = IndexedDataset(str(tmp_path / "out" / "train"))
    theirs = GPTDataset(indexed, str(tmp_path / "out" / "train"), np.arange(len(indexed), dtype=np.int32), count,
                        Split.train, config)
    assert len(theirs) == count
    samples = sorted([*sample["tokens"].tolist(), sample["labels"][-1].item()] for sample in theirs)
    assert samples == sorted(tokens[i * length:(i + 1) * length + 1].tolist() for i in range(count))
