"""The head shared by networks that end with pooled features and a linear classifier, in timm's form."""

from typing import Any

import torch.nn.functional as F
from timm.layers import create_classifier
from torch import Tensor, nn

from odebackbones.models.stage_options import require_channels


class PooledHead(nn.Module):
    """The head of a network with ``forward_features``: pooling, dropout and a linear layer.

    The network creates it by :meth:`reset_classifier`, after its other layers.

    Args:
        num_features: Number of channels of the features.
        in_chans: Number of channels of the images.
        drop_rate: Dropout before the classifier.

    Shape:
        ``(B, in_chans, H, W) -> (B, num_classes)``
    """

    def __init__(self, num_features: int, *, in_chans: int, drop_rate: float) -> None:
        require_channels(in_chans)
        super().__init__()
        self.num_features = self.head_hidden_size = num_features
        self.in_chans, self.drop_rate = in_chans, drop_rate

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        """Replace the last layer by one for ``num_classes`` classes; 0 removes it."""
        self.num_classes = num_classes
        like = next(self.parameters())
        self.global_pool, self.fc = create_classifier(  # pyright: ignore[reportAssignmentType]
            self.num_features, num_classes, pool_type=global_pool, device=like.device, dtype=like.dtype
        )

    def forward_features(self, x: Tensor) -> Any:
        """Compute the features: ``(B, in_chans, H, W) -> (B, num_features, H', W')``."""
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Compute the logits, or the pooled features, from the features."""
        x = self.global_pool(x)
        if self.drop_rate > 0.0:
            x = F.dropout(x, p=self.drop_rate, training=self.training)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits."""
        return self.forward_head(self.forward_features(x))
