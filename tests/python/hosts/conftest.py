"""What the tests of launching share: data, and the flags of a small run."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
from runs import *  # noqa: E402, F403
from runs import TEXT, TINY, prepare, sets  # noqa: E402

LAUNCH = str(pathlib.Path(os.environ["SWITCHYARD_SOURCE_DIR"]) / "scripts/launch.sh")


def training(folder, name, data, **settings):
    """The words after the launcher: `train configs/tiny.yaml` into folder/name."""
    plain = {"run__dir": folder, "run__name": name, "data__path": data, "train__threads": 1, "train__eval_interval": 0,
             "train__micro_batch_size": 1}
    return ["train", str(TINY), *sets({**plain, **settings})]


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder of byte tokens, for configs/tiny.yaml."""
    return prepare(TEXT, tmp_path_factory.mktemp("data") / "tiny")
