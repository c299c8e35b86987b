"""A disk that is full, slow, read-only or broken: known before the first step, or a save that fails on all ranks."""

import re
import subprocess

import pytest
from conftest import TORTURE, acknowledged, newest, records, temporary_folders

LAST_STEPS = {"ranks": 2, "train__steps": 6, "checkpoint__interval": 2}


def test_a_full_disk_ends_the_run_and_keeps_what_was_saved(start, tmp_path):
    job = start("run", faulty=True, file_fault="rank=1:path=step-00000004:enospc@1+", **LAST_STEPS)
    assert job.end() == 3, job.text()
    said = re.search(r"the checkpoint was not saved: rank 1: cannot (create|write).*step-00000004.*No space left on device "
                     r"\((\d+) bytes free\); make room there; this rank's part takes (\d+) bytes; mend that, then the same command", job.text())
    assert said and int(said[3]) > 1000, job.text()
    assert newest(tmp_path / "run").name == "step-00000002" and not temporary_folders(tmp_path / "run")
    again = start("run", **LAST_STEPS)
    assert again.end() == 0 and "step-00000002" in again.text().split("going on from")[1]


@pytest.mark.parametrize("rank, background", [(0, "true"), (1, "false")])
def test_a_run_may_go_on_and_save_once_there_is_space(rank, background, start, tmp_path):
    job = start("run", faulty=True, file_fault=f"rank={rank}:path=step-00000002:enospc@3", checkpoint__on_failure="continue",
                checkpoint__async=background, **LAST_STEPS)
    assert job.end() == 0, job.text()
    assert "warning: step 2: the checkpoint was not saved: rank" in job.text() and "training goes on" in job.text()
    assert sorted(p.name for p in (tmp_path / "run/checkpoints").glob("step*")) == ["step-00000004", "step-00000006"]
    assert [r["step"] for r in records(tmp_path / "run")[0]] == list(range(1, 7))


@pytest.mark.parametrize("space", [0.0, 0.3, 0.6, 0.9, 0.99] if TORTURE else [0.0, 0.6])
def test_a_file_system_of_that_share_of_a_checkpoint(space, start, tmp_path):
    """A real one, mounted; where mounting is not allowed, a limit on the size of files."""
    probe = start("probe", ranks=2, train__steps=1, checkpoint__interval=1)
    assert probe.end() == 0
    size = sum(path.stat().st_size for path in newest(tmp_path / "probe").iterdir())
    run = tmp_path / "small"
    (run / "checkpoints").mkdir(parents=True)
    kib = max(8, int(size * space / 1024))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", run / "checkpoints"],
                             capture_output=True).returncode == 0
    before = () if mounted else ("prlimit", f"--fsize={int(size * space / 4)}")
    settings = {"ranks": 2, "train__steps": 3, "checkpoint__interval": 1}
    try:
        job = start("small", before=before, checkpoint__on_failure="continue", **settings)
        code = job.end()
        assert code == 0, job.text()
        assert job.text().count("was not saved") >= 1 and "bytes free" in job.text() or not mounted, job.text()
        assert acknowledged(job.text()) == 0 and not temporary_folders(run)
        if mounted:
            subprocess.run(["mount", "-o", f"remount,size={size // 256}k", run / "checkpoints"], check=True)
            again = start("small", **settings)
            assert again.end() == 0 and acknowledged(again.text()) == 3, again.text()
    finally:
        if mounted:
            subprocess.run(["umount", "-l", run / "checkpoints"], check=True)


@pytest.mark.parametrize("place, word", [
    ("/proc", "cannot create /proc/run"),
    ("file", "Not a directory"),
    ("loop", "Too many levels of symbolic links"),
    ("n" * 260, "File name too long"),
], ids=["read-only", "a file", "a loop of links", "a long name"])
def test_a_folder_that_cannot_be_written_is_known_before_the_first_step(place, word, start, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    run_dir = place if place.startswith("/") else tmp_path / place
    job = start("run", ranks=2, train__steps=2, **{"run__dir": run_dir})
    assert job.process.wait(timeout=60) == 3, job.text()
    assert word in job.text() and "step 1/" not in job.text(), job.text()


def test_a_slow_disk_is_no_hang_and_the_stall_is_reported(start, tmp_path):
    """Each file operation of one rank's save takes a quarter of a second: longer in all than a hang may last."""
    job = start("run", faulty=True, file_fault="rank=1:path=step-00000002:sleep=250ms@1+", watchdog__timeout_seconds=1,
                watchdog__save_timeout_seconds=60, checkpoint__async="false", ranks=2, train__steps=3,
                checkpoint__interval=2)
    assert job.end() == 0, job.text()
    waited = float(re.search(r"step-00000002 in .*training waited ([\d.]+) s", job.text())[1])
    assert waited > 1.5
    step = next(r for r in records(tmp_path / "run")[0] if r["step"] == 3)
    assert step["checkpoint_ms"] > 1500


def test_behind_training_a_slow_disk_costs_no_steps(start, tmp_path):
    job = start("run", faulty=True, file_fault="rank=1:path=step-00000002:sleep=100ms@1+", ranks=2, train__steps=60,
                checkpoint__interval=2)
    assert job.end() == 0, job.text()
    saved = re.findall(r"^saved .*step-(\d+) in ([\d.]+) s, training waited ([\d.]+) s", job.text(), re.M)
    first = next(s for s in saved if int(s[0]) == 2)
    assert float(first[2]) <= float(first[1])
    assert int(saved[-1][0]) == 60
