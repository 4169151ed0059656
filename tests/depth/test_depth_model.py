import pytest
import torch
from timm.data import resolve_model_data_config

from depth.decoders import DECODERS
from depth.heads import HEADS
from depth.model import ModelConfig, build_depth_model
from odebackbones import InputError

SMALL = {"backbone_args": {"channels": [8, 8, 16, 16]}, "decoder_width": 4}


def build(backbone="ode_resnet18", **kwargs):
    torch.manual_seed(0)
    return build_depth_model(backbone, **{**SMALL, **kwargs})


def images(height=64, width=96, batch=2):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_the_depth_has_the_images_size_and_lies_within_the_bounds(decoder, head):
    model = build(decoder=decoder, head=head, min_depth=0.5, max_depth=10.0).eval()
    with torch.no_grad():
        model.head.conv.weight *= 1e5
        for size in ((64, 96), (33, 70), (20, 20)):
            depth = model(images(*size))
            assert depth.shape == (2, 1, *size)
            assert depth.min() >= 0.5 * 0.999 and depth.max() <= 10 * 1.001
        assert depth.max() > 2 * depth.min(), "the bounds were not tried"


def test_a_head_of_bins_is_the_mean_of_their_logarithms():
    head = HEADS["log_bins"](4, (0.5, 8.0), bins=5)
    with torch.no_grad():
        head.conv.weight.zero_()
        head.conv.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, 100.0]))
        assert head(torch.rand(1, 4, 2, 2)) == pytest.approx(8.0)
        head.conv.bias.zero_()
        assert head(torch.rand(1, 4, 2, 2)) == pytest.approx(2.0)  # the geometric mean of 0.5 and 8


@pytest.mark.parametrize("head", HEADS)
def test_depths_are_in_full_precision_under_autocast(head):
    model = build(head=head).eval().head
    x = torch.randn(2, model.conv.in_channels, 8, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.inference_mode():
        expected = model(x.float())
        with torch.autocast("cpu", torch.bfloat16):
            found = model(x)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_features_in_the_order_of_transformers_are_taken_too():
    model = build_depth_model("swin_tiny_patch4_window7_224", decoder_width=4, backbone_args={"depths": [1, 1, 1, 1]})
    with torch.inference_mode():
        assert model.eval()(images(224, 224, batch=1)).shape == (1, 1, 224, 224)


def test_a_configuration_is_changed_by_the_settings_beside_it():
    model = build_depth_model(ModelConfig("ode_resnet18", **SMALL), max_depth=10.0)
    assert model.head.high == 10.0


def test_padding_repeats_the_edge_and_is_cut_again():
    model = build().eval()
    image = images(50, 70, batch=1)
    padded = torch.nn.functional.pad(image, (0, 96 - 70, 0, 64 - 50), mode="replicate")
    with torch.inference_mode():
        torch.testing.assert_close(model(image), model(padded)[..., :50, :70])


def test_images_are_normalized_as_timm_says_of_the_backbone():
    model = build().eval()
    config = resolve_model_data_config(model.body)
    seen = []
    model.body.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(images())
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
    torch.testing.assert_close(seen[0], (images() - mean) / std)


@pytest.mark.parametrize(
    ("backbone", "strides"),
    [("ode_resnet18", [2, 4, 8, 16, 32]), ("ode_vgg11_bn", [2, 4, 8, 16, 32]), ("convnext_atto", [4, 8, 16, 32])],
)
def test_levels_are_picked_by_their_strides(backbone, strides):
    with torch.device("meta"):
        model = build_depth_model(backbone)
    assert model.body.feature_info.reduction() == strides
    assert [lateral[0].in_channels for lateral in model.decoder.laterals] == model.body.feature_info.channels()


def test_the_light_decoder_has_about_2_million_parameters():
    for backbone in ("ode_vgg16_bn", "ode_resnet101"):
        with torch.device("meta"):
            model = build_depth_model(backbone)
        assert 1.7e6 < sum(p.numel() for p in model.decoder.parameters()) < 2.8e6


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_parameter_learns(decoder):
    model = build(decoder=decoder, backbone_args={**SMALL["backbone_args"], "zero_init_last": False}).train()
    model(images()).log().square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_step_toward_the_truth_lowers_the_error(decoder):
    model, x = build(decoder=decoder).train(), images()
    truth = 5 + 40 * x[:, :1]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    errors = []
    for _ in range(15):
        error = (model(x) - truth).abs().mean()
        errors.append(error.item())
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert min(errors[-3:]) < 0.9 * errors[0]


@pytest.mark.slow
def test_an_exported_model_is_the_same_function():
    model = build().eval()
    with torch.inference_mode():
        program = torch.export.export(model, (images(),))
        torch.testing.assert_close(program.module()(images()), model(images()))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"backbone": "ode_vgg17"}, r"unknown model.backbone 'ode_vgg17'; did you mean 'ode_vgg1"),
        ({"backbone_args": {"step": 2}}, r"unknown argument 'step'; did you mean 'steps'"),
        ({"backbone_args": {"out_indices": [1]}}, r"model.backbone_args: out_indices: set by the task; remove it"),
        ({"decoder": "skipp"}, r"unknown model.decoder 'skipp'; did you mean 'skip'"),
        ({"head": "bins"}, r"unknown model.head 'bins'; did you mean 'log_bins'"),
        ({"bins": 1}, r"model.bins=1: expected at least 2"),
        ({"decoder_width": 0}, r"model.decoder_width=0: expected at least 1"),
        ({"min_depth": 10, "max_depth": 1}, r"model.min_depth=10, model.max_depth=1: expected 0 < least < greatest"),
        ({"backbone": "vit_tiny_patch16_224"}, r"has features at strides \[16\], and the skip decoder wants two"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(kwargs, message):
    with pytest.raises(InputError, match=message):
        build_depth_model(ModelConfig(**{"backbone": "ode_resnet18", **kwargs}))
