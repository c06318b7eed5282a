"""The wheel has all that a run needs and nothing beside `tessera`, and works where only a cache may be written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tessera.common.paths import PROJECT_ROOT

pytestmark = pytest.mark.slow
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of the tree, so that no earlier build leaves anything in it."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(PROJECT_ROOT, folder / "tree", symlinks=True, ignore=LEFT_OUT)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "-w", folder, folder / "tree"], check=True, capture_output=True)
    (made,) = folder.glob("tessera-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A new environment with the wheel, and this environment's packages behind it; its packages are read-only."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    with zipfile.ZipFile(wheel) as content:
        content.extractall(packages)
    # A path file, unlike PYTHONPATH, does not run this environment's own path files, which name the checkout.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for path in (packages / "tessera").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder
    for path in (packages / "tessera").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def python(environment: Path, *arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TESSERA_", "XDG_"))}
    command = [str(environment / "bin" / "python"), *arguments]
    return subprocess.run(command, cwd=folder, env={**kept, **variables}, capture_output=True, text=True)


def test_the_wheel_offers_one_name(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"tessera"}
    assert not [name for name in names if "test" in Path(name).parts]


def test_it_says_its_version_and_is_no_part_of_its_users_repository(installed, tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    shown = python(installed, "-m", "tessera", "--version", folder=tmp_path)
    assert shown.stdout.startswith("tessera 0.1.0 (v0.1.0)"), shown.stdout + shown.stderr


def test_a_run_from_any_folder_writes_nothing_but_results_and_the_users_cache(installed, tmp_path):
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(installed)}))
    before = sorted(packages.rglob("*"))
    home, here = tmp_path / "home", tmp_path / "here"
    here.mkdir()
    variables = {"HOME": str(home), "TESSERA_QUICK_BUILDS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    for arguments in (
        ["doctor"],
        ["run", "--model", "pico", "--preset", "tiny", "--out", "o"],
        ["compile", "-o", "p.safetensors"],
    ):
        result = python(installed, "-m", "tessera", *arguments, folder=here, **variables)
        assert result.returncode == 0, result.stdout + result.stderr
    assert {path.name for path in here.iterdir()} == {"o", "p.safetensors"}
    assert (home / ".cache" / "tessera" / "cache").is_dir()
    assert sorted(packages.rglob("*")) == before


def test_a_variable_moves_the_cache(installed, tmp_path):
    code = "from tessera.common.paths import cache_folder; print(cache_folder())"
    shown = python(installed, "-c", code, folder=tmp_path, TESSERA_CACHE=str(tmp_path / "elsewhere"))
    assert shown.stdout.strip() == str(tmp_path / "elsewhere" / "cache"), shown.stderr
