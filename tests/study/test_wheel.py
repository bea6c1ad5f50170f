"""A wheel is built, installed in an environment of its own, and runs a study of phantoms there."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUDY = (
    *(
        "study",
        "--cohort",
        "phantom-xray",
        "--limit",
        "20",
        "--test-limit",
        "4",
        "--model",
        "vgg16",
        "--preset",
        "sound",
    ),
    *("--epsilons", "1/255", "--visibility", "none", "--epochs", "1", "--engine", "torch", "--quiet"),
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as a wheel, built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    kept = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", folder / "tree" / "src", ignore=kept)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "tree" / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), "."]
    done = subprocess.run(command, cwd=folder / "tree", capture_output=True, text=True, timeout=600, check=False)
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("needs a package registry, for setuptools")
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = folder.glob("*.whl")
    return found


@pytest.mark.slow  # a build in an environment of its own
def test_a_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("dosimeter/")}
    source = ROOT / "src"
    files = {
        path.relative_to(source).as_posix()
        for path in (source / "dosimeter").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == files


@pytest.mark.slow  # an installation and a whole study
def test_an_installed_wheel_runs_the_phantom_study(wheel: Path, tmp_path: Path) -> None:
    """The environment has the wheel alone; what it depends on is this environment's: nothing is fetched again."""
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False, symlinks=True)
    site = next((environment / "lib").glob("python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (site / "dependencies.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n", encoding="utf-8")
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DOSIMETER_DATA")}
    variables |= {"OMP_NUM_THREADS": "1"}
    cache = Path.home() / ".cache" / "dosimeter"
    if not list((cache / "weights").glob("vgg16*")):
        pytest.skip("needs VGG16's weights in the user's cache: dosimeter weights fetch vgg16")
    variables["DOSIMETER_CACHE"] = str(cache)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(environment / "bin" / "python"), "-m", "dosimeter", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=1200, check=False
        )

    where = subprocess.run(
        [str(environment / "bin" / "python"), "-c", "import dosimeter; print(dosimeter.__file__)"],
        cwd=tmp_path, env=variables, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert str(environment) in where
    assert call("doctor", "--out", str(tmp_path)).returncode == 0
    done = call(*STUDY, "--out", "run")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "PHANTOM DATA" in done.stdout
    assert (tmp_path / "run" / "report.html").is_file()
    assert call("gate", "run", "--rule", "clean_accuracy >= 0").returncode == 0
    assert call("tables", "run", "--format", "md").returncode == 0
