"""Options of commands: each follows from a field of settings."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, get_args, get_origin

import typer

from analysis.cli.durations import duration_of
from analysis.config.analysis import AnalysisConfig
from analysis.config.execution import ExecutionConfig
from analysis.config.toml_files import SettingsFile, merge, read_defaults
from repsim.settings import Setting, Settings, UnknownChoice, setting

if TYPE_CHECKING:
    from analysis.execution.progress import Reporter

__all__ = ["DataDir", "Display", "Given", "Output", "analysis_of", "execution_of", "imports_parts", "with_options"]

S = TypeVar("S", bound=Settings)
Command = Callable[..., None]

DataDir = Annotated[Path | None, typer.Option(help="Folder of the IDX files of mnist.")]


@dataclass(frozen=True)
class Given(Generic[S]):
    """The settings of one class that were given on the command line, by field."""

    config: type[S]
    values: dict[str, Any]

    @property
    def flags(self) -> list[str]:
        """The options that were given."""
        return [_flags(each)[0] for each in self.config.settings() if each.name in self.values]

    def merged(self, files: Sequence[SettingsFile], *, check_choices: bool = False) -> S:
        """Return the settings, with those of files where none were given; see ``merge``."""
        return merge(self.config, files, self.values, check_choices=check_choices)


@dataclass(frozen=True, kw_only=True)
class Output(Settings):
    """Form of the output of a command."""

    json: bool = setting(False, help="Print the result as JSON.")


@dataclass(frozen=True, kw_only=True)
class Display(Output):
    """What a command that takes a while shows."""

    quiet: bool = setting(False, help="Hide progress.")

    def reporter(self) -> Reporter:
        """Return the reporter of this command, which shows progress on standard error."""
        return self._reporter

    @contextmanager
    def working(self, name: str) -> Iterator[Reporter]:
        """Show from now on that the command is running; results are printed afterwards."""
        with self._reporter.task(name):
            yield self._reporter

    @cached_property
    def _reporter(self) -> Reporter:
        from analysis.execution.progress import Reporter

        return Reporter(quiet=self.quiet)


def with_options(command: Command) -> Command:
    """Replace the parameters of a command that are settings by one option for each of their fields.

    A parameter annotated as a class of settings gets these, with the defaults of those that were not given. One
    annotated as ``Given[Config]`` gets the given ones, to be merged with those of files.

    Examples
    --------
    >>> @with_options
    ... def command(run: str, execution: Given[ExecutionConfig], display: Display) -> None:
    ...     print(run, execution.values, display)
    >>> list(inspect.signature(command).parameters)
    ['run', 'executor', 'jobs', 'scheduler', 'json', 'quiet']
    >>> command(run="runs/sg", executor=None, jobs="3", scheduler=None, json=None, quiet=True)
    runs/sg {'jobs': 3} Display(json=False, quiet=True)
    """
    parameters = inspect.signature(command, eval_str=True).parameters.values()
    configs = {each.name: _config_of(each.annotation) for each in parameters}

    @wraps(command)
    def with_settings(**arguments: Any) -> None:
        for parameter in parameters:
            if config := configs[parameter.name]:
                given = Given(config, _take(config, arguments))
                arguments[parameter.name] = given if get_origin(parameter.annotation) else config(**given.values)
        command(**arguments)

    options: list[inspect.Parameter] = []
    for parameter in parameters:
        if config := configs[parameter.name]:
            options += [_option(each, command.__name__) for each in config.settings()]
        else:
            options.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    with_settings.__annotations__ = {each.name: each.annotation for each in options}
    with_settings.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]  # read by inspect
    return with_settings


def imports_parts(command: Command) -> Command:
    """Give a command the option ``--import``, whose files, and those of ``repsim.toml``, are imported first.

    Examples
    --------
    >>> @imports_parts
    ... def command(run: str) -> None:
    ...     print(run)
    >>> list(inspect.signature(command).parameters)
    ['run', 'own_parts']
    """
    signature = inspect.signature(command)

    @wraps(command)
    def without_import(own_parts: Sequence[str] | None = None, **arguments: Any) -> None:
        command(**arguments)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [each.replace(kind=keyword) for each in signature.parameters.values()]
    own = inspect.Parameter("own_parts", keyword, default=None, annotation=_OwnParts)
    without_import.__annotations__ = {**command.__annotations__, "own_parts": _OwnParts}
    without_import.__signature__ = inspect.Signature([*parameters, own])  # type: ignore[attr-defined]
    return without_import


def _import_parts(context: typer.Context, given: list[str] | None) -> list[str] | None:
    """Import the user's own parts before other options are read, and list them below the help of the command."""
    if context.resilient_parsing:
        return given
    for each in [*read_defaults().imports, *(given or [])]:
        from analysis.own_parts.importing import import_parts

        import_parts(each)
    if registration := sys.modules.get("repsim.registration"):
        parts = [f"{part.kind.noun} {part.name} ({part.module})" for part in registration.own_parts()]
        own = f"Your own parts: {', '.join(parts)}." if parts else None
        context.command.epilog = " ".join(filter(None, [duration_of(str(context.command.name)), own])) or None
    return given


_OwnParts = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        help="Python file or module that registers your own parts: rules, measures, figures ... Repeat the option for "
        "several. Give it before --help to see them listed.",
        metavar="FILE",
        is_eager=True,
        callback=_import_parts,
    ),
]


def execution_of(given: Given[ExecutionConfig], defaults: SettingsFile, display: Display) -> ExecutionConfig:
    """Return the settings of execution: those of the command line or, if none are given there, the defaults."""
    config = given.merged([] if given.values else [defaults])
    return replace(config, progress=display.reporter())


@contextmanager
def analysis_of(given: Given[AnalysisConfig], defaults: SettingsFile) -> Iterator[AnalysisConfig]:
    """Yield the settings of an analysis; if the block finds an unknown choice in them, name the file that it is in."""
    try:
        yield given.merged([defaults])
    except UnknownChoice:
        given.merged([defaults], check_choices=True)
        raise


def _config_of(annotation: Any) -> type[Settings] | None:
    """Return the settings that a parameter takes, if it takes any."""
    if get_origin(annotation) is Given:
        (annotation,) = get_args(annotation)
    return annotation if isinstance(annotation, type) and issubclass(annotation, Settings) else None


def _option(setting: Setting, command: str) -> inspect.Parameter:
    number = setting.type in (int, float) and not setting.is_list
    kind: Any = str if number or setting.commas else setting.type  # numbers are read below, and errors name the setting
    if _is_repeated(setting):
        kind = list[kind]
    metavar = f"<{setting.type.__name__}>" if number else None
    option = typer.Option(*_flags(setting), help=_help(setting, command), metavar=metavar)
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _flags(setting: Setting) -> tuple[str, ...]:
    return setting.flags or (f"--{setting.name.replace('_', '-')}",)


def _help(setting: Setting, command: str) -> str:
    text = setting.help
    if setting.is_list:
        text += " Separate several by commas." if setting.commas else " Repeat the option for several."
    shown = _shown_default(setting, command)
    return f"{text} [default: {shown}]" if shown else text


def _is_repeated(setting: Setting) -> bool:
    return setting.joined is not None or (setting.is_list and not setting.commas)


def _shown_default(setting: Setting, command: str) -> str:
    if setting.shown:
        return setting.shown if isinstance(setting.shown, str) else setting.shown[command]
    default = setting.default
    if isinstance(default, tuple):
        default = ",".join(f"{each:g}" if isinstance(each, float) else str(each) for each in default)
    return "" if default is None or isinstance(default, bool) else str(default)


def _take(config: type[Settings], arguments: dict[str, Any]) -> dict[str, Any]:
    """Take the options of some settings out of the arguments, and return the values of those that were given."""
    values = [(setting, arguments.pop(setting.name)) for setting in config.settings()]
    return {setting.name: _value(setting, given) for setting, given in values if given not in (None, [])}


def _value(setting: Setting, given: Any) -> Any:
    if setting.joined is not None:
        return setting.joined.join(given)
    if setting.type is bool:
        return not setting.default  # an option without a value, which is given to change the default
    if setting.commas:
        given = given.split(",")
    return tuple(_read(setting, each) for each in given) if setting.is_list else _read(setting, given)


def _read(setting: Setting, text: str) -> Any:
    """Return a value of a setting; a text that is none is left to the check of the settings."""
    try:
        return setting.type(text.strip() if setting.commas else text)
    except ValueError:
        return text
