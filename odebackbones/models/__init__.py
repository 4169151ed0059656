"""The models; importing this package registers them in timm."""

from odebackbones.models import mlp, numerical_resnet  # noqa: F401 (register their models)
from odebackbones.models.caffe_resnet import CaffeResNet, ODECaffeResNet
from odebackbones.models.ode_resnet import ODEResNet
from odebackbones.models.ode_vgg import ODEVGG
from odebackbones.models.odenet import ODENet
from odebackbones.models.resnet_cifar import CifarResNet, ODECifarResNet

__all__ = ["ODEVGG", "CaffeResNet", "CifarResNet", "ODECaffeResNet", "ODECifarResNet", "ODENet", "ODEResNet"]
