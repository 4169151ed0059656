"""The conversion tool: there and back, with fewer weights, and what it refuses."""

import json
import re

import pytest
import timm
import torch
from tool_runs import run

import odebackbones
from engine.weights.load import load_network
from odebackbones import InputError, ODEBlock


@pytest.fixture
def checkpoint(tmp_path):
    """Weights of a ResNet-20 for 3 classes, as a training script leaves them."""
    torch.manual_seed(0)
    model = timm.create_model("resnet20_cifar", num_classes=3, zero_init_last=False)
    torch.save({"state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}}, tmp_path / "w.th")
    return model.eval(), tmp_path / "w.th"


def load(folder):
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def test_a_checkpoint_becomes_an_ode_model_and_comes_back(checkpoint, tmp_path):
    model, file = checkpoint
    done = run("convert", "resnet20_cifar", f"--checkpoint={file}", "--num-classes=3", "--out=ode", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "to: 269,267 parameters, ODE blocks of [2, 2, 2] euler steps with [2, 2, 2] weights over time" in done.stdout
    back = run("convert", f"local-dir:{tmp_path / 'ode'}", "--out=plain", cwd=tmp_path)
    assert back.returncode == 0, back.stderr
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(load(tmp_path / "ode")(x), model(x), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(load(tmp_path / "plain")(x), model(x), rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, ODEBlock) for module in load(tmp_path / "plain").modules())


def test_weights_of_ones_own_have_no_origin_of_timms(tmp_path):
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet18", num_classes=3).state_dict(), tmp_path / "own.pt")
    arguments = ["--checkpoint=own.pt", "--num-classes=3", "--out=ode"]
    done = run("convert", "resnet18.a1_in1k", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "ode" / "config.json").read_text())["pretrained_cfg"]
    assert not {"tag", "license", "origin_url", "paper_ids", "url", "hf_hub_id"} & told.keys()
    plain = tmp_path / "plain"
    plain.write_text("")
    assert (tmp_path / "ode" / "model.safetensors").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_the_names_of_the_program_that_trained_the_network_are_known(tmp_path, prefix):
    torch.manual_seed(0)
    model = timm.create_model("resnet20_cifar", num_classes=3, zero_init_last=False).eval()
    weights = {prefix + key.replace("fc.", "linear."): value for key, value in model.state_dict().items()}
    torch.save({"state_dict": weights, "best_prec1": 92.6}, tmp_path / "akamaster.th")
    found = load_network("resnet20_cifar", checkpoint=tmp_path / "akamaster.th", num_classes=3).eval()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(found(x), model(x))


PREFIXES = {
    "Lightning": ("state_dict", "model."),
    "mmcv": ("state_dict", "backbone."),
    "torchvision's detectors": (None, "backbone.body."),
    "a wrapped model": ("model", "module.net."),
}


@pytest.mark.parametrize(("container", "prefix"), PREFIXES.values(), ids=PREFIXES)
def test_names_may_have_a_prefix_and_images_one_channel(tmp_path, container, prefix):
    torch.manual_seed(0)
    model = timm.create_model("resnet20_cifar", num_classes=3, in_chans=1, zero_init_last=False).eval()
    weights = {prefix + key: value for key, value in model.state_dict().items()}
    torch.save({container: weights, "epoch": 3} if container else weights, tmp_path / "w.pth")
    sizes = {"num_classes": 3, "in_chans": 1}
    found = load_network("resnet20_cifar", checkpoint=tmp_path / "w.pth", **sizes).eval()
    x = torch.randn(2, 1, 32, 32)
    assert torch.equal(found(x), model(x))


def test_of_a_contrastive_training_the_query_encoder_is_taken(tmp_path, capsys):
    torch.manual_seed(0)
    query, momentum = (timm.create_model("resnet20_cifar", num_classes=0, zero_init_last=False).eval() for _ in "qk")
    parts = {"module.encoder_q.": query, "module.encoder_k.": momentum}
    weights = {prefix + key: value for prefix, part in parts.items() for key, value in part.state_dict().items()}
    weights |= {"module.encoder_q.fc.0.weight": torch.zeros(8, 64), "module.queue": torch.zeros(4, 8)}
    torch.save({"state_dict": weights}, tmp_path / "moco.pth")
    with pytest.raises(InputError, match=r"lacks fc.weight, fc.bias of .*; --num-classes 0 leaves the classifier out"):
        load_network("resnet20_cifar", checkpoint=tmp_path / "moco.pth")
    found = load_network("resnet20_cifar", checkpoint=tmp_path / "moco.pth", num_classes=0).eval()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(found(x), query(x))
    assert "not used: encoder_k.conv1.weight, " in capsys.readouterr().out


@pytest.mark.slow
def test_what_it_writes_is_a_start_for_a_training(checkpoint, tmp_path, colors):
    _, file = checkpoint
    done = run("convert", "resnet20_cifar", f"--checkpoint={file}", "--num-classes=3", "--out=ode", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    network = ("--model.backbone=ode_resnet20_cifar", "--model.backbone_args={bases: [2, 2, 2], duration: [2, 2, 2]}")
    settings = ("--data.workers=0", "--optim.epochs=1", "--optim.batch_size=8", "--data.augment=none")
    start = ("--model.pretrained=ode", f"--data.root={colors}")
    done = run("train", "classification", *network, *settings, *start, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [(taken, total)] = re.findall(r"pretrained: ode: (\d+) of (\d+) tensors taken", done.stdout)
    assert taken == total


def test_fewer_weights_over_time_and_another_basis(checkpoint, tmp_path):
    _, file = checkpoint
    options = ["--num-classes=3", "--out=ode", "--bases", "1", "--gradient=backprop"]
    done = run("convert", "resnet20_cifar", f"--checkpoint={file}", *options, cwd=tmp_path)
    assert done.returncode == 0
    assert "this is another function" in done.stdout
    model = load(tmp_path / "ode")
    assert sum(p.numel() for p in model.parameters()) == 172_051
    assert {block.solver.gradient for block in odebackbones.ode_blocks(model)} == {"backprop"}
    options = ["--num-classes=3", "--out=linear", "--basis=linear"]
    done = run("convert", "resnet20_cifar", f"--checkpoint={file}", *options, cwd=tmp_path)
    assert done.returncode == 0 and "with [2, 2, 2] weights over time" in done.stdout
    assert "another function" not in done.stdout  # two weights for two evaluations


@pytest.mark.slow
def test_fewer_weights_are_fitted_on_images(checkpoint, tmp_path, colors):
    model, file = checkpoint
    images = torch.randn(8, 3, 32, 32)
    differences = {}
    for name, options in (
        ("fitted", [f"--fit={colors / 'train'}", "--fit-images=20", "--steps=1"]),
        ("projected", []),
    ):
        arguments = [f"--checkpoint={file}", "--num-classes=3", f"--out={name}", "--bases=1", *options]
        done = run("convert", "resnet20_cifar", *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        with torch.inference_mode():
            differences[name] = float((load(tmp_path / name)(images) - model(images)).norm())
    assert [block.solver.steps for block in odebackbones.ode_blocks(load(tmp_path / "fitted"))] == [1, 1, 1]
    assert differences["fitted"] < differences["projected"]


@pytest.mark.slow
def test_bad_input_is_refused_and_nothing_is_written(checkpoint, tmp_path):
    _, file = checkpoint
    model = run("convert", "resnet20_cifar", f"--checkpoint={file}", "--num-classes=3", "--out=ode", cwd=tmp_path)
    assert model.returncode == 0
    (tmp_path / "broken.th").write_bytes(b"no weights")
    deeper = tmp_path / "deeper.th"
    torch.save(timm.create_model("resnet32_cifar", num_classes=3).state_dict(), deeper)
    own = [f"--checkpoint={file}", "--num-classes=3"]
    for arguments, words in (
        (["resnet57"], "unknown model 'resnet57'; did you mean 'resnet50'"),
        (["resnet20_cifar", "--checkpoint=none.th"], "--checkpoint none.th: no such file"),
        (
            ["resnet20_cifar", f"--checkpoint={file}"],
            "fc.weight is [3, 64] in it and [10, 64] in resnet20_cifar; set --n",
        ),
        (
            ["resnet20_cifar", *own, "--in-chans=1"],
            "conv1.weight is [16, 3, 3, 3] in it and [16, 1, 3, 3] in resnet20_",
        ),
        (["resnet32_cifar", *own], "lacks layer1.3.conv1.weight, "),
        (["resnet20_cifar", f"--checkpoint={deeper}", "--num-classes=3"], "has also layer1.3.conv1.weight, "),
        (["resnet20_cifar", *own, "--in-chans=0"], "in_chans=0: expected a whole number"),
        (["resnet20_cifar", "--in-chans=1"], "--in-chans belongs to a --checkpoint, and none is given"),
        (["resnet20_cifar", f"--checkpoint={file}", "--num-classes=3", "--bases", "1", "2"], "bases=[1, 2]: expected"),
        (
            [f"local-dir:{tmp_path / 'ode'}", "--bases=1"],
            "for the way to an ODE model; this one has",
        ),
        (["resnet50d"], "resnet50d: no ODE model takes its place in timm's registry, only those of caffe_resnet101, "),
        (["resnet20_cifar", "--num-classes=3"], "--num-classes belongs to a --checkpoint"),
        (["resnet20_cifar", "--checkpoint=broken.th"], "--checkpoint='broken.th': no weights, or damaged ones"),
        (["resnet20_cifar", *own, "--steps=1"], "--steps: fewer steps take a fit"),
        (["resnet20_cifar", *own, "--fit=."], "--fit: say how many weights"),
        (["resnet20_cifar", *own, "--fit=none", "--bases=1"], "none: no such folder; expected none/CLASS/*.png"),
        (["resnet20_cifar", *own, "--fit=.", "--bases=1", "--fit-images=0"], "--fit-images 0: expected at least 1"),
    ):
        done = run("convert", *arguments, "--out=never", cwd=tmp_path)
        assert done.returncode == 2 and words in done.stderr, (arguments, done.stderr)
        assert not (tmp_path / "never").exists()


def test_a_whole_model_in_a_file_is_refused_with_what_to_do(tmp_path):
    torch.save(timm.create_model("resnet20_cifar"), tmp_path / "whole.pt")
    done = run("convert", "resnet20_cifar", "--checkpoint=whole.pt", "--out=never", cwd=tmp_path)
    assert done.returncode == 2 and "holds more than tensors, such as a whole model; load it" in done.stderr
