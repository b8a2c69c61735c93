"""The command-line flags that all runners of the pipeline share, and files of settings."""

import argparse
import dataclasses
import difflib
import functools
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from keras_ae import storage
from keras_ae.datasets.sources import base
from keras_ae.datasets.sources.names import expand
from keras_ae.errors import ConfigurationError, first_line
from keras_ae.storage import PathOrUri
from pipeline.runtime import paths, run_config
from pipeline.runtime.run_config import RunConfig

CONFIG = "--config"


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, but neither None, which the help of a flag describes, nor an empty list."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, []) else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that knows its options, of which argparse has no public list.

    Attributes:
        options: the option that sets each attribute of the parsed namespace, by that name.
    """

    def __init__(self, **kwargs: Any) -> None:
        # Here, because argparse adds `--help` while it is initialized.
        self.options: dict[str, str] = {}
        super().__init__(formatter_class=_HelpFormatter, **kwargs)

    def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
        action = super().add_argument(*args, **kwargs)
        self.options[action.dest] = action.option_strings[-1]
        return action

    def error(self, message: str) -> NoReturn:
        """Ends the program with one line, without the list of all flags before it."""
        prefix, unknown = "unrecognized arguments: ", message.partition(": ")[2].partition(" ")[0]
        close = difflib.get_close_matches(unknown.partition("=")[0], self.options.values(), 1)
        hint = f"; did you mean {close[0]}?" if message.startswith(prefix) and close else ""
        self.exit(2, f"{self.prog}: error: {message}{hint} (--help lists the flags)\n")


def add_arguments(parser: Parser) -> None:
    """Adds the settings of `RunConfig`, and `--config` for a file of settings."""
    what = (
        "settings from a YAML or JSON file, by the names of these flags; flags on the command line "
        "take precedence"
    )
    parser.add_argument(CONFIG, metavar="FILE", help=what)
    for name, (default, flag) in run_config.flags().items():
        add = functools.partial(parser.add_argument, _option(name), help=flag.help)
        if isinstance(default, bool):
            add(action="store_true")
        elif flag.repeated:
            add(
                type=checked(flag.read),
                action="append",
                default=list(default),
                metavar=flag.metavar,
            )
        else:
            shown = _text(default) if isinstance(default, tuple) else default
            add(type=checked(flag.read), default=shown, metavar=flag.metavar)


def parse(parser: Parser, words: Iterable[str]) -> argparse.Namespace:
    """Parses a command line with the settings of its `--config` file.

    `config` of the result is the `RunConfig` of the flags that belong to it. An error ends the
    program as in argparse, with a line and status 2.
    """
    words = list(words)
    only_config = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    # The real parser reports a missing file name.
    only_config.add_argument(CONFIG, nargs="?")
    first, _ = only_config.parse_known_args(words)
    try:
        arguments = parser.parse_args([*_from_file(parser, first.config, words), *words])
        if arguments.config != first.config:
            raise ConfigurationError(f"{CONFIG} needs its whole name and a file")
        settings: dict[str, Any] = {
            name: tuple(getattr(arguments, name)) if flag.repeated else getattr(arguments, name)
            for name, (_, flag) in run_config.flags().items()
        }
        arguments.config = RunConfig(**settings)
    except ConfigurationError as error:
        parser.error(str(error))
    return arguments


def command(
    program: str,
    defaults: argparse.Namespace,
    arguments: argparse.Namespace,
    excluded: Collection[str] = (),
) -> str:
    """The command line that gives these arguments, without those that are defaults or excluded."""
    words = ["python", program]
    for name, value in _changed(defaults, arguments, excluded).items():
        for each in value if isinstance(value, list) else [value]:
            words.append(_option(name))
            if each is not True:
                words.append(_text(each))
    return shlex.join(words)


def is_path(data: str) -> bool:
    """Whether data is a path: neither a URI, nor the sample, nor a TensorFlow dataset."""
    return not (data == base.SAMPLE or data.startswith(base.TFDS_PREFIX) or storage.is_uri(data))


def resolve_data(data: str) -> str:
    """The absolute path of data on this machine; other data is returned as it is."""
    return str(Path(data).expanduser().resolve()) if is_path(data) else data


def own_folders(
    parser: argparse.ArgumentParser, data: str, folders: Mapping[str, PathOrUri]
) -> dict[str, str]:
    """See `paths.inside`; empty for data that are no folder, and an error ends the program."""
    if not (is_path(data) or storage.is_uri(data)):
        return {}
    try:
        return paths.inside(data, folders)
    except ConfigurationError as error:
        parser.error(str(error))


def as_yaml(
    defaults: argparse.Namespace, arguments: argparse.Namespace, excluded: Collection[str] = ()
) -> str:
    """The content of a file that gives these arguments to `--config`.

    It has all settings of `RunConfig`, and others that differ from their defaults, but not those
    that are excluded, and nothing that follows a bare `--`.
    """
    import yaml

    settings = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(arguments.config).items()
        if value is not None and name not in excluded
    }
    others = _changed(defaults, arguments, {*excluded, *settings})
    settings |= {
        name: value if isinstance(value, list | bool | int | float) else _text(value)
        for name, value in others.items()
    }
    return str(yaml.safe_dump(settings, sort_keys=False))


def checked(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Makes an argument type of a function that raises ConfigurationError."""

    def convert(text: str) -> Any:
        try:
            return read(text)
        except ConfigurationError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _changed(
    defaults: argparse.Namespace, arguments: argparse.Namespace, excluded: Collection[str]
) -> dict[str, Any]:
    """The arguments that differ from their defaults; a file of settings counts as its content."""
    return {
        name: getattr(arguments, name)
        for name, default in vars(defaults).items()
        if name not in {"config", *excluded} and getattr(arguments, name) != default
    }


def _from_file(parser: Parser, path: str | None, command_line: list[str]) -> list[str]:
    """A file of settings as a command line, without the flags that are on the command line."""
    if path is None:
        return []
    options = {
        name: option for name, option in parser.options.items() if option not in (CONFIG, "--help")
    }
    flags = {word.split("=")[0] for word in command_line if word.startswith("--")}
    # argparse accepts an unambiguous prefix of an option.
    prefixes = tuple(flags.difference(options.values()))
    words: list[str] = []
    for name, value in _read(path).items():
        option = options.get(str(name).replace("-", "_"))
        if option is None:
            close = difflib.get_close_matches(str(name), options, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigurationError(f"{path}: no setting {str(name)!r}{hint}")
        if option in flags or option.startswith(prefixes) or value is None or value is False:
            continue
        if value is True:
            words.append(option)
        elif _is_numbers(name, value):
            words += [option, ",".join(map(str, value))]
        elif isinstance(value, list):
            words += [f"{option}={each}" for each in value]
        elif isinstance(value, str | int | float):
            words.append(f"{option}={value}")
        else:
            raise ConfigurationError(f"{path}: {name}: expected a value or a list; got {value!r}")
    return words


def _is_numbers(name: Any, value: Any) -> bool:
    """Whether a value is one list of numbers, and not a flag that is given several times."""
    _, flag = run_config.flags().get(str(name).replace("-", "_"), (None, None))
    is_repeated = flag is not None and flag.repeated
    return (
        isinstance(value, list) and not is_repeated and all(isinstance(each, int) for each in value)
    )


def _read(path: str) -> dict[Any, Any]:
    import yaml

    try:
        # JSON is YAML as well.
        text = Path(expand(path)).read_text(encoding="utf-8")
        settings = yaml.safe_load(text)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path} is neither YAML nor JSON: {first_line(error)}") from error
    if not isinstance(settings, dict):
        raise ConfigurationError(f"{path}: expected settings by name, such as 'preset: small'")
    return settings
