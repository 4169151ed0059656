"""Convert a trained ResNet into its ODE model, or back: ``python tools/convert.py resnet50 --out ode_resnet50``."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import torch
from timm.data import resolve_model_data_config
from timm.models import model_entrypoint
from torch import nn

from classification.data.dataset import LabeledImages
from classification.data.sources import FolderImages
from classification.data.transforms import build_transform
from engine.measure.profile import count_parameters
from engine.runs.cli import load_with_own_settings, run_tool
from engine.runs.convert import Conversion, convert_run
from engine.weights.checkpoint import load_checkpoint, weights_of
from engine.weights.load import load_network
from odebackbones import change_bases, fit_bases, from_resnet, model_arguments, save_pretrained, solver_stats, to_resnet
from odebackbones.block import has_ode_blocks
from odebackbones.errors import InputError
from odebackbones.fields.basis import BASES
from tools.tasks import TASKS

IMAGES = 4
"""Number of noise images on which the two models are compared."""


def options() -> ArgumentParser:
    """Return the parser of the command line."""
    parser = ArgumentParser(prog="tools/convert.py", description="Convert a ResNet into an ODE model, or back.")
    parser.add_argument(
        "model",
        nargs="?",
        help="timm's name, with or without a tag (torchvision's weights have tv_in1k and tv2_in1k), hf-hub:... or "
        "local-dir:...; one with ODE blocks, solved by projected Euler steps, is converted back",
    )
    parser.add_argument("--run", type=Path, help="in place of a model: a run's folder, or its best.pt or last.pt")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for config.json and model.safetensors, or for the new run"
    )
    parser.add_argument("--checkpoint", type=Path, help="file with weights; by default those that come with the name")
    parser.add_argument(
        "--num-classes", type=int, help="of the checkpoint, if not those of the name; 0 for no classifier"
    )
    parser.add_argument("--in-chans", type=int, help="of the checkpoint, if not 3")
    parser.add_argument("--bases", type=int, nargs="+", help="weights over time, one number or one a stage")
    parser.add_argument("--basis", choices=BASES, help="how the weight at a time is made of them; by default constant")
    parser.add_argument(
        "--fit",
        nargs="?",
        const="",
        help="fit fewer weights on images of this folder of folders; with --run, without a folder, on the run's own",
    )
    parser.add_argument("--fit-images", type=int, help="how many of them, at random: 1000, with --run 100")
    parser.add_argument("--steps", type=int, nargs="+", help="with --fit: Euler steps, one number or one a stage")
    parser.add_argument("--gradient", help="gradient mode of the ODE model; by default checkpoint")
    return parser


def main(arguments: list[str]) -> None:
    """Convert, compare the outputs, and save."""
    given = options().parse_args(arguments)
    if (given.run is None) == (given.model is None):
        raise InputError("give a model's name, or --run with a run's folder, and not both")
    if given.fit_images is not None and given.fit is None:
        raise InputError("--fit-images says how many images --fit takes; give --fit, too")
    if given.run is not None:
        print("\n".join([*convert_trained(given), f"saved: {given.out}, a run like those of tools/train.py"]))
        return
    sizes = {"num_classes": given.num_classes, "in_chans": given.in_chans}
    sizes = {name: size for name, size in sizes.items() if size is not None}
    if sizes and not given.checkpoint:
        option = next(iter(sizes)).replace("_", "-")
        raise InputError(f"--{option} belongs to a --checkpoint, and none is given")
    model = load_network(given.model, checkpoint=given.checkpoint, **sizes).eval()
    if has_ode_blocks(model):
        if given.bases or given.basis or given.gradient or given.fit is not None or given.steps:
            raise InputError(
                "--bases, --basis, --fit, --steps and --gradient are for the way to an ODE model; this one has ODE "
                "blocks"
            )
        converted = to_resnet(model)
    else:
        converted = to_ode(model, given)
    lines = report(model, converted)
    save_pretrained(converted, given.out)
    print("\n".join(lines))
    after = 'after "import odebackbones", ' if is_ours(converted) else ""
    print(f'saved: {after}timm.create_model("local-dir:{given.out}", pretrained=True)')


def convert_trained(given: Namespace) -> list[str]:
    """Convert a run of any task."""
    for name in ("checkpoint", "num_classes", "in_chans", "basis"):
        if getattr(given, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} is for a model's name, not for --run")
    if given.fit:
        raise InputError(f"--fit {given.fit}: with --run it takes no folder, but the run's training images")
    checkpoint = weights_of(given.run)
    task = TASKS[load_checkpoint(checkpoint)["task"]]
    conversion = Conversion(
        bases=given.bases and one_or_all(given.bases),
        steps=given.steps and one_or_all(given.steps),
        images=number_of(given.fit_images, 100) if given.fit is not None else 0,
        gradient=given.gradient or "checkpoint",
    )
    return convert_run(load_with_own_settings(task, checkpoint, "cpu"), given.out, conversion)


def is_ours(model: Any) -> bool:
    """Whether this package registers the model in timm."""
    return model_entrypoint(model.pretrained_cfg["architecture"]).__module__.startswith("odebackbones")


def to_ode(model: nn.Module, given: Namespace) -> nn.Module:
    """Build the ODE model, with fewer weights over time or in another basis if asked for."""
    converted = from_resnet(model, gradient=given.gradient or "checkpoint")
    if given.fit is not None:
        return fit_to_images(model, converted, given)
    if given.steps:
        raise InputError("--steps: fewer steps take a fit of the weights; give --fit FOLDER, too")
    if given.bases or given.basis:
        bases = given.bases or model_arguments(converted)["steps"]
        return change_bases(converted, one_or_all(bases), basis=given.basis)
    return converted


def fit_to_images(model: nn.Module, converted: nn.Module, given: Namespace) -> nn.Module:
    """Build the ODE model with fewer weights over time, fitted on images."""
    if not given.fit:
        raise InputError(
            "--fit: give a folder with a folder of images for each class (only --run has images of its own)"
        )
    bases = given.bases or given.steps
    if not bases or given.basis not in (None, "constant"):
        raise InputError("--fit: say how many weights with --bases (or --steps); they are constant in pieces")
    number = number_of(given.fit_images, 1000)
    images = LabeledImages(FolderImages(Path(given.fit)), build_transform(resolve_model_data_config(model)))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:number]
    pixels = torch.stack([images[i][0] for i in order.tolist()])
    return fit_bases(converted, one_or_all(bases), pixels, steps=given.steps and one_or_all(given.steps))


def number_of(images: int | None, usual: int) -> int:
    """Return how many images a fit takes.

    Raises:
        InputError: Less than one.
    """
    if images is not None and images < 1:
        raise InputError(f"--fit-images {images}: expected at least 1")
    return images or usual


def one_or_all(numbers: list[int]) -> int | list[int]:
    """Return one number for all stages, or one for each."""
    return numbers[0] if len(numbers) == 1 else numbers


def report(model: nn.Module, converted: nn.Module) -> list[str]:
    """Describe the conversion, in lines of text."""
    lines = [
        f"{title}: {count_parameters(m):,} parameters, {describe(m)}"
        for title, m in (("from", model), ("to", converted))
    ]
    size: Any = model.pretrained_cfg["input_size"]  # pyright: ignore[reportIndexIssue, reportArgumentType, reportCallIssue]
    images = torch.randn(IMAGES, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, after = model(images), converted(images)
    difference, largest = (float(tensor.abs().max()) for tensor in (after - before, before))
    noise = f"largest difference of the logits on {IMAGES} images of noise: {difference:.3g} (they reach {largest:.3g})"
    is_other = difference > 1e-3 * largest
    return [*lines, noise, *(["this is another function: it has to be trained further"] if is_other else [])]


def describe(model: nn.Module) -> str:
    """Describe the ODE blocks of all stages."""
    if not solver_stats(model):
        return "no ODE blocks"
    options = model_arguments(model)
    return f"ODE blocks of {options['steps']} {options['solver']} steps with {options['bases']} weights over time"


if __name__ == "__main__":
    run_tool(main)
