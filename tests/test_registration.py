"""The engine alone imports torch alone; the models are in timm's registry in whatever order both are imported."""

import subprocess
import sys

import pytest

ORDERS = {
    "the engine, then a part of timm": "import odebackbones.ode\n"
    "assert not {'timm', 'torchvision', 'scipy'} & set(sys.modules)\n"
    "from timm.models import is_model\nassert is_model('ode_vgg16')",
    "a submodule as an attribute": "import odebackbones\nodebackbones.ode.TensorTime, odebackbones.block",
    "timm's own files": "import odebackbones, timm, importlib.resources, pkgutil\n"
    "assert importlib.resources.files('timm').joinpath('version.py').read_text()\n"
    "assert pkgutil.get_data('timm', 'version.py')",
    "timm, then the engine": "import timm, odebackbones.ode\nassert timm.is_model('odenet_mnist')",
    "the fields, a look for timm, timm": "from odebackbones.fields import BasicField\n"
    "assert 'timm' not in sys.modules\n"
    "import importlib.util\nassert importlib.util.find_spec('timm')\n"
    "import timm\nassert timm.is_model('ode_resnet18')",
    "a function, its module": "import odebackbones\nfrom odebackbones import *\nassert callable(odebackbones.fuse)\n"
    "import odebackbones.inference.fuse, timm\nassert callable(odebackbones.fuse) and timm.is_model('ode_resnet18')",
}


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_the_models_are_registered_and_nothing_is_imported_before_its_time(order):
    done = subprocess.run([sys.executable, "-c", f"import sys\n{order}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_other_names_are_no_attributes():
    import odebackbones

    with pytest.raises(AttributeError, match="module 'odebackbones' has no attribute 'fused'"):
        _ = odebackbones.fused  # pyright: ignore[reportAttributeAccessIssue]
    assert {"from_resnet", "ODEBlock"} <= set(dir(odebackbones))
