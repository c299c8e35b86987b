"""The functions of support/runs.py and support/pages.py."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
from pages import *  # noqa: E402, F403
from runs import *  # noqa: E402, F403
