from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from classification.distillation import ClassifierDistillationConfig, Distillation, require_same_classes
from classification.losses import LossConfig
from classification.model import ModelConfig, build_classifier, input_config, is_run
from engine.weights.checkpoint import save_checkpoint
from odebackbones.errors import InputError

TEACHER = ModelConfig("resnet20_cifar")
STUDENT = ModelConfig("ode_resnet20_cifar", {"solver": "euler", "projected": True})
INPUT = input_config(STUDENT)
CONFIG = ClassifierDistillationConfig(TEACHER, temperature=2.0, weight=0.75, feature_weight=0.5)


def network(config, seed):
    torch.manual_seed(seed)
    return build_classifier(config, setting="model", num_classes=10).eval()


@pytest.fixture
def teacher_file(tmp_path):
    teacher = network(TEACHER, 1)
    for parameter in teacher.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    save_file(teacher.state_dict(), tmp_path / "teacher.safetensors")
    return str(tmp_path / "teacher.safetensors")


def losses(config, student, teacher_file, *, batch=6):
    teacher = replace(config.teacher, checkpoint=teacher_file)
    distillation = Distillation(replace(config, teacher=teacher), student, student_input=INPUT, num_classes=10)
    torch.manual_seed(2)
    images, labels = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
    return distillation, distillation.losses(student, student, images, labels), images, labels


def test_the_losses_are_those_of_the_formulae(teacher_file):
    student = network(STUDENT, 0)
    distillation, found, images, labels = losses(CONFIG, student, teacher_file)
    found = {name: loss.item() for name, loss in found.items()}
    with torch.no_grad():
        z, target = student(images), distillation.teacher(images)
        p, q = (target / 2).softmax(1), (z / 2).softmax(1)
        kl = (p * (p.log() - q.log())).sum(1).mean()
        own, wanted = (model.forward_intermediates(images)[1][1:4] for model in (student, distillation.teacher))
        errors = sum((a - b).square().sum() / b.square().sum() for a, b in zip(own, wanted, strict=True))
    assert found["loss_labels"] == pytest.approx(0.25 * float(F.cross_entropy(z, labels)), rel=1e-5)
    assert found["loss_scores"] == pytest.approx(0.75 * 4 * float(kl), rel=1e-4)
    assert found["loss_features"] == pytest.approx(0.5 * float(errors), rel=1e-4)


def test_a_teacher_may_come_from_a_file_that_has_all_its_weights(teacher_file):
    student, teacher = network(STUDENT, 0), replace(TEACHER, pretrained=teacher_file)
    config = replace(CONFIG, teacher=teacher)
    found = Distillation(config, student, student_input=INPUT, num_classes=10).teacher
    image = images_of_noise()
    expected = build_classifier(teacher, setting="model", num_classes=10).eval()
    torch.testing.assert_close(found(image), expected(image), rtol=1e-3, atol=1e-3)
    with pytest.raises(InputError, match=r"lacks trained weights, .* \(fc\.bias 10, fc\.weight 10x64\)"):
        Distillation(config, student, student_input=INPUT, num_classes=7)


def images_of_noise():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_the_smoothing_of_labels_holds_beside_a_teacher(teacher_file):
    student = network(STUDENT, 0)
    teacher = replace(TEACHER, checkpoint=teacher_file)
    loss = LossConfig(label_smoothing=0.3)
    distillation = Distillation(
        replace(CONFIG, teacher=teacher), student, student_input=INPUT, num_classes=10, loss=loss
    )
    image, labels = images_of_noise(), torch.tensor([3, 4])
    found = distillation.losses(student, student, image, labels)["loss_labels"]
    expected = 0.25 * F.cross_entropy(student(image), labels, label_smoothing=0.3)
    torch.testing.assert_close(found, expected)


def test_a_student_that_is_the_teacher_has_but_the_labels_to_learn(teacher_file):
    student = build_classifier(replace(TEACHER, checkpoint=teacher_file), setting="model", num_classes=10).eval()
    found = {name: loss.item() for name, loss in losses(CONFIG, student, teacher_file)[1].items()}
    assert found["loss_scores"] == pytest.approx(0.0, abs=1e-5)
    assert found["loss_features"] == pytest.approx(0.0, abs=1e-5)
    assert found["loss_labels"] > 0.01


def test_gradients_reach_the_student_and_not_the_teacher(teacher_file):
    student = network(STUDENT, 0)
    distillation, found, *_ = losses(CONFIG, student, teacher_file)
    torch.stack(list(found.values())).sum().backward()
    assert all(p.grad is not None for p in student.parameters())
    assert all(p.grad is None and not p.requires_grad for p in distillation.teacher.parameters())


def test_without_a_weight_the_features_may_be_others(teacher_file):
    student = network(ModelConfig("odenet_cifar"), 0)
    assert losses(replace(CONFIG, feature_weight=0.0), student, teacher_file)[1].keys() == {
        "loss_labels",
        "loss_scores",
    }
    with pytest.raises(InputError, match=r"set distillation\.feature_weight to 0"):
        losses(CONFIG, student, teacher_file)


def test_a_teacher_of_other_images_is_refused(teacher_file):
    config = replace(CONFIG, teacher=replace(TEACHER, checkpoint=teacher_file))
    given = input_config(ModelConfig("odenet_cifar"))
    with pytest.raises(InputError, match=r"distillation\.teacher takes images of .*0\.485.*, the student of .*0\.4914"):
        Distillation(config, network(STUDENT, 0), student_input=given, num_classes=10)


def test_a_teacher_without_trained_weights_is_refused(teacher_file):
    with pytest.raises(InputError, match="resnet20_cifar has no trained weights"):
        Distillation(CONFIG, network(STUDENT, 0), student_input=INPUT, num_classes=10)
    config = replace(CONFIG, teacher=ModelConfig("resnet32_cifar", checkpoint=teacher_file))
    with pytest.raises(InputError, match=r"teacher\.safetensors: another network's"):
        Distillation(config, network(STUDENT, 0), student_input=INPUT, num_classes=10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0: expected a positive number"),
        ({"weight": 1.5}, "weight=1.5: expected a number from 0 to 1"),
        ({"feature_weight": -1.0}, "feature_weight=-1.0: expected a number of at least 0"),
    ],
)
def test_wrong_weights_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        replace(CONFIG, **changes)


def test_a_weight_file_of_before_is_no_run():
    assert not is_run("")
    assert is_run("best.pt") and is_run("runs/a/last.pt") and not is_run("weights.pt")


def test_a_teacher_of_other_classes_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    config = {"model": {"backbone": "resnet20_cifar", "backbone_args": {}}}
    metadata = {"classes": ["cat", "dog"]}
    save_checkpoint(tmp_path / "a" / "best.pt", task="classification", model={}, config=config, metadata=metadata)
    require_same_classes(str(tmp_path / "a"), ["cat", "dog"])
    with pytest.raises(
        InputError, match="was trained on the classes cat, dog in this order, and the data have dog, cat"
    ):
        require_same_classes(str(tmp_path / "a"), ["dog", "cat"])
