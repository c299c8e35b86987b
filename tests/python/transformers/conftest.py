"""Runs the probe programs that CMake built, on tensors handed over as safetensors files."""

import os
import pathlib
import subprocess

import pytest
from safetensors.torch import load_file, save_file

SOURCE = pathlib.Path(os.environ["SWITCHYARD_SOURCE_DIR"])
BUILD = pathlib.Path(os.environ["SWITCHYARD_BIN"]).parent


@pytest.fixture
def probe(tmp_path):
    """probe(program, config text, tensors, **settings) -> the tensors that the program wrote."""

    def run(program, config, tensors, **settings):
        (tmp_path / "config.yaml").write_text(config)
        save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / "in.safetensors")
        command = [BUILD / "tests" / "parity" / program]
        command += [tmp_path / name for name in ("config.yaml", "in.safetensors", "out.safetensors")]
        for key, value in settings.items():
            command += ["--set", f"{key.replace('__', '.')}={value}"]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return load_file(tmp_path / "out.safetensors")

    return run
