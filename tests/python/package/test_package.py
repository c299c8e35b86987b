"""The Debian package and `cmake --install`: built, unpacked into a clean folder, and used there by somebody at home."""

import os
import pathlib
import re
import subprocess

import pytest

SOURCE = pathlib.Path(os.environ["SWITCHYARD_SOURCE_DIR"])
BUILD = pathlib.Path(os.environ["SWITCHYARD_BIN"]).parent
TEXT = SOURCE / "tests/python/support/austen.txt"


def call(*command, cwd=None, env=None):
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package")
    call("cmake", "--build", BUILD, "--target", "switchyard_help")
    call("cpack", "--config", BUILD / "CPackConfig.cmake", "-B", folder,
         "-D", "CPACK_DEBIAN_PACKAGE_MAINTAINER=A Packager <packager@debian.org>")
    [found] = folder.glob("*.deb")
    return found


@pytest.fixture(scope="module")
def root(package, tmp_path_factory):
    """The package's files, under a folder that is not /."""
    folder = tmp_path_factory.mktemp("root")
    call("dpkg-deb", "--extract", package, folder)
    return folder


@pytest.fixture
def home(root, tmp_path):
    """Somebody's environment, with nothing of the source tree in it, and a folder to stand in."""
    (tmp_path / "work").mkdir()
    return {"PATH": f"{root}/usr/bin:/usr/bin:/bin", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1",
            "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def test_name_and_dependencies(package):
    assert re.fullmatch(r"switchyard_\d+\.\d+\.\d+_\w+\.deb", package.name)
    field = {name: call("dpkg-deb", "--field", package, name).strip()
             for name in ("Package", "Version", "Architecture", "Description", "Depends", "Maintainer")}
    assert field["Package"] == "switchyard" and field["Version"] in package.name
    assert field["Architecture"] == call("dpkg", "--print-architecture").strip()
    needed = {re.split(r"[ (]", entry.strip())[0] for entry in field["Depends"].split(",")}
    assert {"openmpi-bin", "libopenmpi3", "libyaml-cpp0.7", "libxxhash0", "libpcre2-8-0", "libc6", "libstdc++6"} <= needed
    assert not any("torch" in name for name in needed) and "LibTorch" in field["Description"]


def test_what_is_in_it(root):
    usr = root / "usr"
    for name in ("bin/switchyard", "share/switchyard/configs/tiny.yaml", "share/switchyard/configs/presets/mixtral_8x7b.yaml",
                 "share/switchyard/launch.sh", "share/bash-completion/completions/switchyard",
                 "share/zsh/vendor-completions/_switchyard", "share/fish/vendor_completions.d/switchyard.fish",
                 "share/man/man1/switchyard.1.gz", "share/man/man1/switchyard-train.1.gz", "share/doc/switchyard/README.md",
                 "share/doc/switchyard/docs/tutorial.md", "share/doc/switchyard/copyright",
                 "share/doc/switchyard/changelog.gz"):
        assert (usr / name).is_file(), name
    assert (usr / "lib/switchyard/torch").readlink().is_absolute()
    assert "[$ORIGIN/../lib/switchyard/torch]" in call("readelf", "-d", usr / "bin/switchyard")


def test_it_is_used_away_from_the_source(root, home, tmp_path):
    work, configs = tmp_path / "work", root / "usr/share/switchyard/configs"
    assert re.fullmatch(r"switchyard \d+\.\d+\.\d+\n", call("switchyard", "--version", cwd=work, env=home))
    (work / "novel.txt").write_text(TEXT.read_text())
    call("switchyard", "prepare", "--text", "novel.txt", "--out", "data/tiny", cwd=work, env=home)
    told = call("mpirun", "-n", "2", "--oversubscribe", "--bind-to", "none", "switchyard", "train", configs / "tiny.yaml",
                "--set", "parallel.expert=2", "--set", "train.steps=4", "--set", "train.eval_interval=0",
                "--set", "train.threads=1", cwd=work, env=home)
    assert "step 4/4 | loss" in told and (work / "runs/tiny/checkpoints/step-00000004").is_dir()
    assert "whole" in call("switchyard", "verify", "runs/tiny", cwd=work, env=home)


def test_completion_and_man_page(root, home):
    script = root / "usr/share/bash-completion/completions/switchyard"
    program = f'source {script}; COMP_LINE="switchyard ver" COMP_POINT=14; _switchyard; echo "${{COMPREPLY[*]}}"'
    assert call("bash", "--norc", "-c", program, env=home) == "verify\n"
    assert "switchyard train [CONFIG.yaml]" in call("man", "--manpath", root / "usr/share/man", "switchyard-train", env=home)


def test_lintian_has_no_objections(package):
    """But two, that are right: the source has no licence yet, and the copyright file says so; and who made this
    package is not said to the build, from which the changelog is."""
    found = subprocess.run(["lintian", "--allow-root", "--fail-on", "error,warning", "--suppress-tags",
                            "copyright-without-copyright-notice,bogus-mail-host-in-debian-changelog",
                            package], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_install_into_a_folder_of_ones_own(home, tmp_path):
    prefix = tmp_path / "own"
    call("cmake", "--install", BUILD, "--prefix", prefix)
    assert "switchyard" in call(prefix / "bin/switchyard", "--version", env=home)
    assert (prefix / "share/switchyard/configs/quickstart.yaml").is_file()
