#!/usr/bin/env python3
"""Trains a byte-level BPE on text and writes it as a Hugging Face tokenizer.json.

    scripts/train_tokenizer.py --vocab-size 8192 --out tokenizer.json FILE...

A FILE that ends in .jsonl is one document per line, in its --field; any other is one
document. --text and --jsonl name files of either kind whatever they end in, as
`switchyard prepare` does. The vocabulary is <|endoftext|> as id 0, the 256 bytes, and
merges; text is cut into words by GPT-2's pattern. The same files give the same
tokenizer. Needs the package tokenizers, which scripts/install.sh puts into .venv.
"""

import argparse
import json
import pathlib
import sys

END_OF_TEXT = "<|endoftext|>"


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", metavar="FILE")
    parser.add_argument("--text", nargs="+", default=[], metavar="FILE")
    parser.add_argument("--jsonl", nargs="+", default=[], metavar="FILE")
    parser.add_argument("--field", default="text", help="of a JSON line (default: text)")
    parser.add_argument("--vocab-size", type=int, required=True, help="at least 257")
    parser.add_argument("--out", required=True, type=pathlib.Path, metavar="TOKENIZER.JSON")
    args = parser.parse_args()
    args.text += [name for name in args.files if not name.endswith(".jsonl")]
    args.jsonl += [name for name in args.files if name.endswith(".jsonl")]
    if not args.text and not args.jsonl:
        parser.error("no FILE")
    if args.vocab_size < 257:
        parser.error("--vocab-size must be at least 257: the bytes and the end of text")
    return args


def pieces(name, characters=1 << 20):
    """A file in parts that end with a line, so that memory stays small; only a run of
    white space may be cut."""
    with open(name, encoding="utf-8", newline="") as file:
        while lines := file.readlines(characters):
            yield "".join(lines)


def documents(args):
    for name in args.text:
        yield from pieces(name)
    for name in args.jsonl:
        with open(name, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    yield json.loads(line)[args.field]
                except (ValueError, KeyError, TypeError):
                    sys.exit(f'{name}:{number}: not a JSON object with "{args.field}"')


def main():
    args = arguments()
    try:
        import tokenizers
    except ModuleNotFoundError:
        sys.exit("the package tokenizers is missing: pip install tokenizers, or scripts/install.sh")
    for name in args.text + args.jsonl:
        if not pathlib.Path(name).is_file():
            sys.exit(f"{name}: no such file")

    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=args.vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents(args), trainer)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(args.out))
    size = tokenizer.get_vocab_size()
    print(f"{args.out}: {size} tokens")
    if size < args.vocab_size:
        print(f"the text holds no more than {size - 257} merges", file=sys.stderr)


if __name__ == "__main__":
    main()
