"""The command line of the tools: a task, a YAML config, dotted overrides, and errors in one line."""

import json
import os
import re
import sys
import time
from argparse import ArgumentError, RawDescriptionHelpFormatter
from argparse import ArgumentParser as PlainParser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from engine.measure.allocator import keep_freed_memory
from engine.old_settings import current_arguments
from engine.runs.run import LoadedRun, load_run
from engine.task import Task
from engine.weights.checkpoint import load_checkpoint, weights_of
from odebackbones.errors import InputError, unknown_name

Tasks = Mapping[str, type[Task]]

UNKNOWN_OPTION = (
    r"unrecognized arguments: --([\w.-]+)",
    r"Group '([\w.-]+)' does not accept option '([\w.-]+)'",
    r"Option '([\w.-]+)' is not accepted",
)
"""Messages of jsonargparse for an unknown option."""

UNKNOWN_CHOICE = r'Parser key "([\w.-]+)": Expected a typing\.Literal\[(.*)\]\. Got value: (\S+)'
"""Message of jsonargparse for a value that is not among an option's choices."""


UNION = r"Does not validate against any of the Union subtypes Subtypes: \[(.*?)\] Errors: .* Given value: (.*)$"
"""Message of jsonargparse for a value that fits none of several types."""

PYTHON_TYPES = {
    "<class 'list'>": "list such as [1, 2]",
    "<class 'dict'>": "dictionary such as {name: value}",
    "<class 'int'>": "whole number",
    "<class 'float'>": "number",
    "<class 'bool'>": "value of true or false",
    "<class 'str'>": "text",
    "<class 'NoneType'>": "null",
    "list[str]": "a list such as [a, b]",
    "tuple[int, int]": "a pair such as [240, 320]",
}
"""Types in jsonargparse's messages, and in plain words."""


def pick_task(arguments: Sequence[str], tasks: Tasks) -> tuple[type[Task], list[str]]:
    """Return the task that the first argument names, and the other arguments."""
    expected = f"the first argument is the task: {', '.join(tasks)} (then --help shows its options)"
    if arguments and arguments[0] in {"-h", "--help"}:
        sys.stdout.write(expected + "\n")
        sys.exit(0)
    if not arguments or arguments[0].startswith("-"):
        raise InputError(expected)
    if arguments[0] not in tasks:
        raise unknown_name("task", arguments[0], tasks)
    return tasks[arguments[0]], list(arguments[1:])


def config_parser(task: type[Task], description: str) -> ArgumentParser:
    """Build a parser with ``--config FILE.yaml`` and an option for every field of the task's configuration."""
    parser = ArgumentParser(
        usage=f"%(prog)s {task.name} [--config FILE.yaml] [--GROUP.OPTION VALUE ...]",
        description=description,
        formatter_class=Help,
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below")
    parser.add_class_arguments(task.config_class)
    return parser


class Help(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """jsonargparse's help formatter, which keeps the description's line breaks."""


def parse(parser: ArgumentParser, task: type[Task], arguments: list[str]) -> tuple[Any, Namespace]:
    """Parse the arguments; return the task's validated configuration, and all values.

    Raises:
        InputError: A key is unknown, or a value has the wrong type.
    """
    try:
        values = parser.instantiate(with_homes(parser.parse_args(current_arguments(arguments))))
    except ArgumentError as error:
        raise explain(error, parser) from error
    except UnicodeDecodeError as error:
        raise InputError(f"--config: not a text file in UTF-8 ({error})") from error
    return task.config_class(**{name: values[name] for name in task.config_class.__dataclass_fields__}), values


def with_homes(values: Namespace) -> Namespace:
    """Replace ``~/`` in the values by the home folder, as YAML may contain it."""
    for name, value in list(values.items()):
        if isinstance(value, str):
            values[name] = at_home(value)
    return values


def at_home(value: str) -> str:
    """Replace ``~/`` by the home folder in a value, or in an argument after ``=``, where shells leave it."""
    option, mark, path = value.rpartition("=")
    return f"{option}{mark}{Path(path).expanduser()}" if path.startswith("~/") else value


def explain(error: ArgumentError, parser: ArgumentParser) -> InputError:
    """Convert an error of jsonargparse to one line, with similar names if an option or a choice is unknown."""
    message = " ".join(str(error).split())
    for pattern in UNKNOWN_OPTION:
        if found := re.search(pattern, message):
            name = ".".join(found.groups())
            hint = "" if f"--{name}" in message else " (or is the --config file of another task?)"
            return InputError(f"{unknown_name('option', name, parser.get_defaults().keys())}{hint}")
    if found := re.search(UNKNOWN_CHOICE, message):
        option, choices, value = found.groups()
        return unknown_name(f"value of {option}", value, re.findall(r"'([^']*)'", choices))
    if found := re.search(r"the following arguments are required: (.*)$", message):
        return InputError(
            f"also give {', '.join(f'--{name}' for name in found[1].split(', '))} (--help lists the options)"
        )
    message = re.sub(UNION, r"Expected one of: \1. Got value: \2", message)
    for python, plain in PYTHON_TYPES.items():
        message = message.replace(python, plain)
    return InputError(f"{message} (--help lists the options)")


def parse_for_checkpoint(
    parser: ArgumentParser,
    task: type[Task],
    arguments: list[str],
    *,
    defaults: Callable[[Mapping[str, float]], Mapping[str, Any]] = lambda metrics: {},
) -> tuple[Any, Namespace]:
    """Parse like :func:`parse`, starting from the configuration in the file that ``--checkpoint`` names.

    Args:
        parser: Parser, which gets the option ``--checkpoint``.
        task: Task that the checkpoint must belong to.
        arguments: The user's arguments, which override everything else.
        defaults: Maps the metrics of the checkpoint's evaluation to settings that override its configuration.
    """
    help_text = "a run's folder, or its best.pt or last.pt"
    parser.add_argument("--checkpoint", type=str, required=True, help=help_text)
    peek = PlainParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    peek.add_argument("--checkpoint", type=Path)
    try:
        checkpoint = peek.parse_known_args(arguments)[0].checkpoint
    except ArgumentError as error:
        raise InputError(str(error)) from error
    start: list[str] = []
    if checkpoint:
        content = load_checkpoint(weights_of(checkpoint), task=task.name)
        found = defaults(content.get("metrics") or {})
        start = [*config_arguments(content), *(f"--{name}={value}" for name, value in found.items())]
    config, values = parse(parser, task, [*start, *arguments])
    values.checkpoint = str(weights_of(Path(values.checkpoint)))
    return config, values


def config_arguments(checkpoint: Mapping[str, Any]) -> list[str]:
    """Return arguments that set the configuration to a checkpoint's; later arguments override it."""
    return [f"--config={json.dumps(checkpoint['config'])}"]


def load_with_own_settings(task: type[Task], checkpoint: Path, device: str) -> LoadedRun:
    """Load a run's model, with the run's own configuration."""
    arguments = [*config_arguments(load_checkpoint(checkpoint, task=task.name)), f"--run.device={device}"]
    config, _ = parse(config_parser(task, ""), task, arguments)
    return load_run(task, config, checkpoint)


def run_tool(main: Callable[[list[str]], None], arguments: list[str] | None = None) -> None:
    """Run a tool: bad input becomes one line on stderr and exit status 2; any other error is a bug and is raised.

    Args:
        main: Function that runs the tool with its arguments.
        arguments: Arguments of the tool, by default from the command line.
    """
    keep_freed_memory()
    try:
        main([at_home(argument) for argument in (sys.argv[1:] if arguments is None else arguments)])
    except (InputError, OSError) as error:
        sys.exit(print_error(error))
    except KeyboardInterrupt:
        sys.exit(130)


def print_error(error: Exception) -> int:
    """Print the one line that says what is wrong; from a data-loading process, the last line of its traceback."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = lines[-1].removeprefix(f"{InputError.__module__}.{InputError.__qualname__}: ")
    if report := os.environ.get("TORCHELASTIC_ERROR_FILE"):  # torchrun's file; torchrun then ends with the line, too
        Path(report).write_text(json.dumps({"message": f"error: {line}", "timestamp": int(time.time())}))
    if os.environ.get("RANK", "0") == "0" or not report:
        sys.stderr.write(f"error: {line}\n")
    return 2
