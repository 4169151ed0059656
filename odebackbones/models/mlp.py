"""The network with one hidden layer that Chen et al. (2018) compare with theirs on MNIST, in timm's registry."""

from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from odebackbones.models.default_cfg import default_cfg
from odebackbones.models.odenet import MNIST, SMALL
from odebackbones.models.pooled_head import PooledHead

SIDE = 28
"""Side length of the image [px]."""


class MLP(PooledHead):
    """A hidden layer that sees the whole image, a ReLU, and a classifier.

    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-Based Learning Applied to Document Recognition, Proceedings of
    the IEEE 86, 1998, section III.C.5 (whose units are tanh)

    Args:
        num_classes: Number of classes.
        in_chans: Number of channels of the images.
        hidden: Number of hidden units.
        global_pool: timm's pooling before the classifier.
        drop_rate: Dropout before the classifier.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Shape:
        ``(B, in_chans, 28, 28) -> (B, num_classes)``; for larger images, a mean over tiles is taken.
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        in_chans: int = 1,
        hidden: int = 300,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(hidden, in_chans=in_chans, drop_rate=drop_rate)
        self.conv1 = nn.Conv2d(
            in_chans, hidden, SIDE, stride=SIDE, device=device, dtype=dtype
        )  # over the whole image: a linear layer
        self.act = nn.ReLU(inplace=True)
        self.feature_info = [{"num_chs": hidden, "reduction": SIDE, "module": "act"}]
        self.reset_classifier(num_classes, global_pool)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's groups of parameters."""
        return {"stem": r"^conv1", "blocks": []}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Do nothing: there is nothing to recompute between the two layers."""

    def forward_features(self, x: Tensor) -> Tensor:
        """Compute the features: ``(B, in_chans, 28, 28) -> (B, hidden, 1, 1)``."""
        return self.act(self.conv1(x))


default_cfgs = generate_default_cfgs({"mlp_mnist": default_cfg(**{**SMALL, **MNIST, "pool_size": (1, 1)})})


@register_model
def mlp_mnist(pretrained: bool = False, **kwargs: Any) -> MLP:
    """MLP with 300 hidden units, 0.24 M parameters."""
    feature_cfg = {"out_indices": kwargs.pop("out_indices", (0,))}
    return build_model_with_cfg(MLP, "mlp_mnist", pretrained, feature_cfg=feature_cfg, **kwargs)
