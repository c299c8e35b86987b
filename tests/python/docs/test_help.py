"""--help of every command: what it tells, how wide it is, and whether its examples are commands."""

import re
import shlex

import pytest
from conftest import switchyard

HELP = switchyard("--help").stdout
COMMANDS = re.findall(r"^  ([a-z]+) ", HELP.split("\nOptions:")[0], re.MULTILINE)


def help_of(command):
    done = switchyard(command, "--help")
    assert done.returncode == 0 and done.stderr == ""
    return done.stdout


def examples(text):
    """Its commands, with the lines of one joined."""
    part = text.split("\nExamples:\n")[1].split("\n\n")[0]
    return [re.sub(r"\s*\\\n\s*", " ", e).strip() for e in re.split(r"\n(?=  \S)", part.rstrip("\n"))]


def test_the_commands_are_in_groups():
    assert {"prepare", "plan", "train", "parity", "eval", "generate", "inspect", "probe", "upcycle", "import", "export",
            "verify", "diff", "gc", "bench", "completion"} <= set(COMMANDS)
    assert "parity-worker" not in HELP and "Subcommands" not in HELP
    groups = re.findall(r"^([A-Z].*):$", HELP, re.MULTILINE)
    assert groups[:2] == ["Train", "Look at a model"] and groups[-2:] == ["Options", "Examples"]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_help(command, tmp_path):
    text = help_of(command) if command else HELP
    assert all(len(line) <= 96 for line in text.splitlines()), [x for x in text.splitlines() if len(x) > 96]
    # Every option has a meaning beside it or below.
    options = text.split("\nOptions:\n")[1].split("\n\n")[0]
    for entry in re.split(r"\n(?=  -)", options):
        assert re.fullmatch(r"  -.*(  |\n {28})[A-Za-z].*", entry, re.DOTALL), entry
    # CLI11's own words for a type say nothing of the unit; plan has its own.
    assert command == "plan" or not re.search(r"--(?!prompt)\S+ (TEXT|INT|FLOAT|UINT)\b", options)
    # Its examples get past the flags: what stops them here is that there are no files.
    assert examples(text)
    for example in examples(text):
        words = shlex.split(example.split(" > ")[0])
        if words[0] == "mpirun":
            assert words[1] == "-n" and words[2].isdigit()
            words = words[3:]
        assert words[0] == "switchyard" and (not command or words[1] == command)
        done = switchyard(*words[1:], cwd=tmp_path)
        assert done.returncode in (0, 3), f"{example}\n{done.stderr}"
        assert "Run with --help" not in done.stderr, done.stderr


def test_defaults_units_and_words():
    text = re.sub(r"\s+", " ", help_of("eval"))
    assert "--split val|train Which part of the data. Default: val." in text
    assert "--sequence-length TOKENS Tokens per sequence. Default: the run's data.sequence_length." in text
    assert "--checkpoint CHECKPOINT A step-... folder, a run folder (its latest) or a Hugging Face folder. Required." \
        in text
    assert "--max-new-tokens TOKENS Most tokens to add. Default: 128." in re.sub(r"\s+", " ", help_of("generate"))
    assert "--drop-ratio SHARE With drop: share of inner units drawn anew in each expert. Default: 0.5." in \
        re.sub(r"\s+", " ", help_of("upcycle"))
