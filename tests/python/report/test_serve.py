"""`train --serve`: the page of a run, while it runs."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from runs import BINARY, TEXT, TINY, log_of, prepare, sets, switchyard


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare(TEXT, tmp_path_factory.mktemp("data") / "tiny")


class Training:
    """A run that goes on until it is told to stop."""

    def __init__(self, folder, data, *flags, ranks=1):
        settings = {"run__dir": folder, "run__name": "live", "data__path": data, "train__threads": 1,
                    "train__steps": 1_000_000, "train__eval_interval": 50, "checkpoint__interval": 100_000}
        launcher = ["mpirun", "-n", str(ranks), "--oversubscribe", "--bind-to", "none"] if ranks > 1 else []
        self.process = subprocess.Popen([*launcher, BINARY, "train", TINY, *sets(settings), *flags], text=True,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        env={**os.environ, "OMP_NUM_THREADS": "1"})
        self.said = ""
        while not (found := re.search(r"report +(http://\S+)", self.said)):
            line = self.process.stderr.readline()
            assert line, self.said
            self.said += line
        self.url = found[1]
        self.port = int(self.url.rstrip("/").rsplit(":", 1)[1])

    def get(self, path="", **headers):
        request = urllib.request.Request(self.url + path, headers=headers)
        return urllib.request.urlopen(request, timeout=60)

    def step(self):
        return json.load(self.get("data.json"))["runs"][0]["last_step"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def wait_for(condition):
    """Without a limit of its own: CTest has one."""
    while not condition():
        time.sleep(0.2)


def listening(port):
    """Local addresses, in the kernel's hexadecimal, that listen on a port."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in open(f"/proc/net/{name}").read().splitlines()[1:]]
    return {line[1].split(":")[0] for line in lines if line[3] == "0A" and int(line[1].split(":")[1], 16) == port}


def test_the_page_follows_the_run(tmp_path, data, browser):
    with Training(tmp_path, data, "--serve", "0") as training:
        assert listening(training.port) == {"0100007F"}  # 127.0.0.1 alone
        page = training.get()
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "connect-src 'self'" in page.read().decode()
        wait_for(lambda: training.step() > 0)
        first = training.step()
        wait_for(lambda: training.step() > first)

        browser.open(training.url)
        shown = "return Number(document.getElementById('status').textContent.replace(/,/g, '').match(/step (\\d+)/)[1])"
        before = browser.js(shown)
        browser.press("loss", "Home")
        wait_for(lambda: browser.js(shown) > before)
        # What was being read still is; of a long run a point stands for several steps.
        assert re.match(r"steps? 1\b", browser.text("#loss .tip b"))
        assert browser.figures()["load"][0] == "drawn"
        browser.check()
        browser.driver.get("about:blank")

        with pytest.raises(urllib.error.HTTPError) as missing:
            training.get("../config.yaml")
        assert missing.value.code == 404

        training.process.send_signal(signal.SIGTERM)
        training.process.communicate(timeout=60)
        assert training.process.returncode == 85
        assert listening(training.port) == set()


def test_nothing_new_is_not_sent_again(tmp_path, data):
    with Training(tmp_path, data, "--serve", "0", "--set", "train.log_interval=1000000", "--set", "train.eval_interval=0") as training:
        wait_for(lambda: training.step() == 1)  # the only record
        tag = training.get("data.json").headers["ETag"]
        with pytest.raises(urllib.error.HTTPError) as same:
            training.get("data.json", **{"If-None-Match": tag})
        assert same.value.code == 304 and same.value.read() == b""
        assert training.get("data.json", **{"If-None-Match": '"other"'}).status == 200


def test_a_page_from_elsewhere_reads_nothing(tmp_path, data):
    """Whose name was made to lead here."""
    with Training(tmp_path, data, "--serve", "0") as training:
        for host in ("localhost", f"127.0.0.1:{training.port}", f"[::1]:{training.port}"):
            assert training.get("data.json", Host=host).status == 200
        for host in ("elsewhere.example", f"127.0.0.1.example:{training.port}"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                training.get("data.json", Host=host)
            assert refused.value.code == 403 and b"localhost" in refused.value.read()


def test_a_taken_port_stops_the_run_before_it_trains(tmp_path, data):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for ranks in (1, 2):
            done = switchyard("train", TINY, "--serve", port, *sets({"run__dir": tmp_path, "data__path": data}), ranks=ranks)
            assert done.returncode == 2, done.stderr
            assert f"--serve: cannot listen on 127.0.0.1:{port}" in done.stderr
    assert list(tmp_path.iterdir()) == []
    for flags in (["--serve", 70000], ["--serve-host", "0.0.0.0"]):
        done = switchyard("train", TINY, *flags)
        assert done.returncode == 2 and "--serve" in done.stderr


def test_serving_changes_nothing(tmp_path, data):
    """The run with a server ends by itself, and its numbers are those of the run without."""
    for name, flags in (("plain", []), ("served", ["--serve", "0"])):
        done = switchyard("train", TINY, *sets({"run__dir": tmp_path, "run__name": name, "data__path": data,
                                                "train__threads": 1}), *flags)
        assert done.returncode == 0, done.stderr
    losses = [[record["loss"] for record in log_of(tmp_path / name)] for name in ("plain", "served")]
    assert losses[0] == losses[1] and len(losses[0]) > 20


def test_another_address_is_warned_of(tmp_path, data):
    with Training(tmp_path, data, "--serve", "0", "--serve-host", "0.0.0.0", ranks=2) as training:
        assert listening(training.port) == {"00000000"}
        assert "warning: --serve-host 0.0.0.0: whoever reaches this address reads the run" in \
            training.said + training.process.stderr.readline()
