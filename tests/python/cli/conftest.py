"""The functions of support/runs.py, and a folder of tokens to train on."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
from runs import *  # noqa: E402, F403
from runs import TEXT, prepare, train_tiny  # noqa: E402


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder of byte tokens, for configs/tiny.yaml."""
    return prepare(TEXT, tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture
def train(tmp_path, data):
    """train(name, key=value..., ranks=1, resume="auto") trains configs/tiny.yaml in tmp_path."""

    def run(name, **settings):
        return train_tiny(tmp_path, settings.pop("data__path", data), name, **settings)

    return run
