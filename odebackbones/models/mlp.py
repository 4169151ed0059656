"""The network with one hidden layer that Chen et al. (2018) set beside theirs on MNIST, in timm's registry."""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import create_classifier
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from odebackbones.models.default_cfg import default_cfg
from odebackbones.models.odenet import MNIST, SMALL

SIDE = 28
"""Of the image [px]."""


class MLP(nn.Module):
    """A layer that sees the whole image, a ReLU, and a classifier.

    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-Based Learning Applied to Document Recognition, Proceedings of
    the IEEE 86, 1998, section III.C.4

    Args:
        num_classes: Classes.
        in_chans: Channels of the images.
        hidden: Hidden units.
        global_pool: timm's pooling before the classifier.
        drop_rate: Dropout before the classifier.

    Shape:
        ``(B, in_chans, 28, 28) -> (B, num_classes)``
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        in_chans: int = 1,
        hidden: int = 300,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes, self.in_chans, self.drop_rate = num_classes, in_chans, drop_rate
        self.num_features = self.head_hidden_size = hidden
        self.conv1 = nn.Conv2d(in_chans, hidden, SIDE, stride=SIDE)  # over the whole image: a linear layer
        self.act = nn.ReLU(inplace=True)
        self.feature_info = [{"num_chs": hidden, "reduction": SIDE, "module": "act"}]
        self.reset_classifier(num_classes, global_pool)

    @torch.jit.unused
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's groups of parameters."""
        return {"stem": r"^conv1", "blocks": []}

    @torch.jit.unused
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """There is nothing between the two layers to be evaluated again."""

    @torch.jit.unused
    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        """Another last layer, for ``num_classes``; 0 for none."""
        self.num_classes = num_classes
        self.global_pool, self.fc = create_classifier(self.num_features, num_classes, pool_type=global_pool)  # pyright: ignore[reportAssignmentType]

    def forward_features(self, x: Tensor) -> Tensor:
        """``(B, in_chans, 28, 28) -> (B, hidden, 1, 1)``"""
        return self.act(self.conv1(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """From the features to the logits, or to the pooled features."""
        x = self.global_pool(x)
        if self.drop_rate > 0.0:
            x = F.dropout(x, p=self.drop_rate, training=self.training)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        return self.forward_head(self.forward_features(x))


default_cfgs = generate_default_cfgs({"mlp_mnist": default_cfg(**{**SMALL, **MNIST, "pool_size": (1, 1)})})


@register_model
def mlp_mnist(pretrained: bool = False, **kwargs: Any) -> MLP:
    """300 hidden units, 0.24 M parameters."""
    feature_cfg = {"out_indices": kwargs.pop("out_indices", (0,))}
    return build_model_with_cfg(MLP, "mlp_mnist", pretrained, feature_cfg=feature_cfg, **kwargs)
