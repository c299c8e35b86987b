"""Hugging Face folders: exported, compared byte for byte, and loaded by both versions of transformers."""

import json
import os
import pathlib
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from runs import switchyard
from safetensors.torch import load_file

TRANSFORMERS_4 = pathlib.Path(sys.prefix) / "transformers4"  # scripts/install.sh puts it there
VERSIONS = {"4.57.6": TRANSFORMERS_4, "5.23.0": None}
LOADER = pathlib.Path(__file__).with_name("load_folders.py")


def ok(*arguments, **options):
    done = switchyard(*arguments, **options)
    assert done.returncode == 0, done.stderr
    return done


def side_by_side(function, items):
    """function(item) of each, two at a time: what they do is in other processes."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(function, items))


def raw_tensors(folder):
    """{name: (dtype, shape, bytes)} of all safetensors files of a folder, which hold no name twice."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        content = path.read_bytes()
        size = struct.unpack("<Q", content[:8])[0]
        header, data = json.loads(content[8:8 + size]), content[8 + size:]
        assert header.pop("__metadata__") == {"format": "pt"}
        for name, entry in header.items():
            assert name not in tensors
            begin, end = entry["data_offsets"]
            tensors[name] = (entry["dtype"], entry["shape"], data[begin:end])
    return tensors


def load_with(version, models, out):
    """load_folders.py on {name: job} under a version: its report and its logits."""
    out.mkdir(parents=True, exist_ok=True)
    job = {"out": str(out), "models": {name: {**model, "folder": str(model["folder"])} for name, model in models.items()}}
    (out / "job.json").write_text(json.dumps(job))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONNOUSERSITE": "1"}
    environment.pop("PYTHONPATH", None)
    if VERSIONS[version]:
        environment["PYTHONPATH"] = str(VERSIONS[version])
    done = subprocess.run([sys.executable, LOADER, version, out / "job.json"], capture_output=True, text=True,
                          timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "report.json").read_text()), load_file(out / "logits.safetensors")


def assert_every_key_fits(report):
    assert {"missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"} <= set(report), report
    assert not any(report[key] for key in report if key.endswith(("_keys", "_msgs"))), report
