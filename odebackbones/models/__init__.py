"""The models; importing this registers them in timm."""

from odebackbones.models.ode_resnet import ODEResNet

__all__ = ["ODEResNet"]
