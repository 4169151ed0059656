"""What people install: the library alone, typed, without what training takes."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import odebackbones

ROOT = Path(__file__).parent.parent

BARE = """
import sys
class Blocked:
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in {"cv2", "pycocotools", "jsonargparse", "matplotlib", "engine", "detection", "tools"}:
            raise ImportError(f"{name} is not there")
sys.meta_path.insert(0, Blocked())
import timm, torch, odebackbones
assert odebackbones.__file__.startswith(sys.argv[1]), odebackbones.__file__
model = timm.create_model("ode_resnet18", num_classes=3)
model(torch.rand(2, 3, 64, 64)).sum().backward()
for name in odebackbones.__all__:
    getattr(odebackbones, name)
print(odebackbones.__version__)
"""


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The wheel and the source distribution."""
    pytest.importorskip("hatchling", reason="needs the extra dev")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


@pytest.mark.slow
def test_the_wheel_is_the_library_alone_and_typed(distributions):
    names = zipfile.ZipFile(distributions[0]).namelist()
    assert {name.split("/")[0] for name in names} == {
        "odebackbones",
        f"odebackbones-{odebackbones.__version__}.dist-info",
    }
    assert "odebackbones/py.typed" in names


def test_the_source_has_the_tasks_and_tests_and_no_outputs(distributions):
    with tarfile.open(distributions[1]) as archive:
        names = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert {"odebackbones", "engine", "detection", "depth", "classification", "tools", "tests", "docs"} <= names
    assert not {"runs", "build", ".venv"} & names


@pytest.mark.slow
def test_the_installed_wheel_trains_a_step_without_what_the_tasks_need(distributions, tmp_path):
    zipfile.ZipFile(distributions[0]).extractall(tmp_path)
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{BARE}", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == odebackbones.__version__
