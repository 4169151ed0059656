"""The network with one hidden layer: its size, and that it is two linear layers."""

import timm
import torch
import torch.nn.functional as F


def test_it_has_the_papers_parameters():
    model = timm.create_model("mlp_mnist")
    assert sum(p.numel() for p in model.parameters()) == 784 * 300 + 300 + 300 * 10 + 10  # 0.24 M: their table 1


def test_it_is_two_linear_layers():
    model = timm.create_model("mlp_mnist").eval()
    images = torch.randn(4, 1, 28, 28)
    hidden = F.linear(images.flatten(1), model.conv1.weight.flatten(1), model.conv1.bias).relu()
    torch.testing.assert_close(model(images), model.fc(hidden))
    body = timm.create_model("mlp_mnist", features_only=True)
    assert body.feature_info.channels() == [300] and body.feature_info.reduction() == [28]
    assert [level.shape for level in body(images)] == [(4, 300, 1, 1)]
