"""Vector fields whose weights depend on time: branches of residual blocks, and plain convolutions."""

from odebackbones.fields.base import ConvolutionalField, TimeField
from odebackbones.fields.plain import ConvField, DepthwiseField
from odebackbones.fields.preactivated import PreactivatedField
from odebackbones.fields.residual import BasicField, BottleneckField

__all__ = [
    "BasicField",
    "BottleneckField",
    "ConvField",
    "ConvolutionalField",
    "DepthwiseField",
    "PreactivatedField",
    "TimeField",
]
