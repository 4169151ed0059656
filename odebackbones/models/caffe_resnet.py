"""He et al.'s own ResNets: the layout of their published weights, and of Detectron2's from MSRA."""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import Bottleneck, ResNet
from torch import nn

from odebackbones.models.default_cfg import default_cfg
from odebackbones.models.ode_resnet import ODEResNet

LAYERS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Depth -> number of blocks per stage."""


class CaffeResNet(ResNet):
    """timm's ResNet of bottlenecks with the strides and the pooling of He et al.'s Caffe models.

    A stage strides in its first 1 x 1 convolution, timm's and torchvision's in the 3 x 3 convolution ("v1.5").

    K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385

    Args:
        **kwargs: Arguments of :class:`timm.models.resnet.ResNet`.

    Shape:
        ``(B, in_chans, H, W) -> (B, num_classes)``; features at strides 2, 4, 8, 16, 32.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        use_caffe_layout(self)


class ODECaffeResNet(ODEResNet):
    """An :class:`~odebackbones.ODEResNet` with the strides and the pooling of He et al.'s Caffe models.

    Args:
        **kwargs: Arguments of :class:`~odebackbones.ODEResNet`.

    Shape:
        ``(B, in_chans, H, W) -> (B, num_classes)``; features at strides 2, 4, 8, 16, 32.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        use_caffe_layout(self)


def use_caffe_layout(resnet: ResNet) -> None:
    """Move the strides to the first convolution of every stage, and pool without padding, in place."""
    resnet.maxpool = nn.MaxPool2d(3, 2, padding=0, ceil_mode=True)
    stages: Any = (resnet.layer2, resnet.layer3, resnet.layer4)
    for first in (stage[0] for stage in stages):
        first.conv1.stride, first.conv2.stride = first.conv2.stride, first.conv1.stride


default_cfgs = generate_default_cfgs(
    {f"{prefix}caffe_resnet{depth}": default_cfg() for depth in LAYERS for prefix in ("", "ode_")}
)


@register_model
def caffe_resnet50(pretrained: bool = False, **kwargs: Any) -> CaffeResNet:
    """ResNet-50 in Caffe's layout."""
    return build(CaffeResNet, 50, pretrained=pretrained, **kwargs)


@register_model
def caffe_resnet101(pretrained: bool = False, **kwargs: Any) -> CaffeResNet:
    """ResNet-101 in Caffe's layout."""
    return build(CaffeResNet, 101, pretrained=pretrained, **kwargs)


@register_model
def caffe_resnet152(pretrained: bool = False, **kwargs: Any) -> CaffeResNet:
    """ResNet-152 in Caffe's layout."""
    return build(CaffeResNet, 152, pretrained=pretrained, **kwargs)


@register_model
def ode_caffe_resnet50(pretrained: bool = False, **kwargs: Any) -> ODECaffeResNet:
    """ODE-ResNet-50 in Caffe's layout: ODE blocks for 2, 3, 5 and 2 identity blocks."""
    return build(ODECaffeResNet, 50, pretrained=pretrained, **kwargs)


@register_model
def ode_caffe_resnet101(pretrained: bool = False, **kwargs: Any) -> ODECaffeResNet:
    """ODE-ResNet-101 in Caffe's layout: ODE blocks for 2, 3, 22 and 2 identity blocks."""
    return build(ODECaffeResNet, 101, pretrained=pretrained, **kwargs)


@register_model
def ode_caffe_resnet152(pretrained: bool = False, **kwargs: Any) -> ODECaffeResNet:
    """ODE-ResNet-152 in Caffe's layout: ODE blocks for 2, 7, 35 and 2 identity blocks."""
    return build(ODECaffeResNet, 152, pretrained=pretrained, **kwargs)


def build(model: type[ResNet], depth: int, *, pretrained: bool, **kwargs: Any) -> Any:
    """Build a model of this depth by timm's factory."""
    name = f"{'ode_' if issubclass(model, ODEResNet) else ''}caffe_resnet{depth}"
    return build_model_with_cfg(model, name, pretrained, block=Bottleneck, **{"layers": LAYERS[depth], **kwargs})
