"""Runs the probe programs that CMake built, on tensors handed over as safetensors files."""

import os
import pathlib
import subprocess
import sys

import pytest
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
BUILD = pathlib.Path(os.environ["SWITCHYARD_BIN"]).parent


def run_program(program, *arguments):
    command = [str(BUILD / "tests" / "parity" / program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def write_case(folder, config, tensors):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(config)
    save_file({name: x.contiguous() for name, x in tensors.items()}, folder / "in.safetensors")


@pytest.fixture
def probe_model(tmp_path):
    """probe_model(config text, tensors) -> what model_probe computed."""

    def run(config, tensors):
        write_case(tmp_path, config, tensors)
        files = ("config.yaml", "in.safetensors", "out.safetensors")
        run_program("model_probe", *(tmp_path / name for name in files))
        return load_file(tmp_path / "out.safetensors")

    return run


@pytest.fixture
def probe_routers(tmp_path):
    """probe_routers([(config text, tensors), ...]) -> what router_probe computed, case by case."""

    def run(cases):
        folders = [tmp_path / str(i) for i in range(len(cases))]
        for folder, case in zip(folders, cases):
            write_case(folder, *case)
        run_program("router_probe", *folders)
        return [load_file(folder / "out.safetensors") for folder in folders]

    return run
