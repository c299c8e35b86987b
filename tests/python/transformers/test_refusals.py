"""What cannot be exported or imported is refused with the reason, and nothing is written."""

import json

import pytest
from hf_folders import ok
from runs import TEXT, prepare, switchyard, train_tiny
from tiny_models import save_tiny


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return prepare(TEXT, tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="session")
def glm(tmp_path_factory):
    return save_tiny("glm4_moe", tmp_path_factory.mktemp("source") / "glm")


def refused(code, *arguments):
    done = switchyard(*arguments)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    return done.stderr
