"""Options of commands: derived from the fields of settings, or shared by several commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.config.execution import ExecutionConfig
from analysis.config.toml_files import SettingsFile, merge
from repsim.settings import Setting, Settings

if TYPE_CHECKING:
    from analysis.execution.progress import Reporter

__all__ = ["DataDir", "Given", "Json", "Quiet", "execution_of", "flags_of", "reporter_of", "with_options"]

Given = dict[str, Any]  # the settings that were given on the command line, by field
Command = Callable[..., None]

DataDir = Annotated[Path | None, typer.Option(help="Folder of the IDX files of mnist.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Hide progress.")]


def with_options(**configs: type[Settings]) -> Callable[[Command], Command]:
    """Return a decorator that replaces parameters of a command by the options of some settings.

    Examples
    --------
    >>> @with_options(execution=ExecutionConfig)
    ... def command(run: str, execution: Given) -> None:
    ...     print(run, execution)
    >>> list(inspect.signature(command).parameters)
    ['run', 'executor', 'jobs', 'scheduler']
    >>> command(run="runs/sg", executor=None, jobs=3, scheduler=None)
    runs/sg {'jobs': 3}
    """

    def decorate(command: Command) -> Command:
        @wraps(command)
        def with_settings(**arguments: Any) -> None:
            for name, config in configs.items():
                arguments[name] = _given(config, arguments)
            command(**arguments)

        parameters = [
            option
            for name, parameter in inspect.signature(command, eval_str=True).parameters.items()
            for option in (
                map(_option, configs[name].settings())
                if name in configs
                else [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
            )
        ]
        with_settings.__annotations__ = {each.name: each.annotation for each in parameters}
        with_settings.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by inspect
        return with_settings

    return decorate


def flags_of(setting: Setting) -> tuple[str, ...]:
    """Return the names of a setting's option."""
    return setting.flags or (f"--{setting.name.replace('_', '-')}",)


def execution_of(given: Given, defaults: SettingsFile, *, quiet: bool) -> ExecutionConfig:
    """Return the settings of execution: those of the command line or, if none are given there, the defaults."""
    config = merge(ExecutionConfig.from_dict, "execution", [] if given else [defaults], given)
    return replace(config, progress=reporter_of(quiet=quiet))


def reporter_of(*, quiet: bool) -> Reporter:
    """Return a reporter that shows progress on standard error."""
    from analysis.execution.progress import Reporter

    return Reporter(quiet=quiet)


def _option(setting: Setting) -> inspect.Parameter:
    kind: Any = str if setting.commas else setting.type
    if _is_repeated(setting):
        kind = list[kind]
    option = typer.Option(*flags_of(setting), help=_help(setting))
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _help(setting: Setting) -> str:
    text = setting.help
    if setting.is_list:
        text += " Separate several by commas." if setting.commas else " Repeat the option for several."
    shown = _shown_default(setting)
    return f"{text} [default: {shown}]" if shown else text


def _is_repeated(setting: Setting) -> bool:
    return setting.joined is not None or (setting.is_list and not setting.commas)


def _shown_default(setting: Setting) -> str:
    default = setting.default
    if isinstance(default, tuple):
        default = ",".join(f"{each:g}" if isinstance(each, float) else str(each) for each in default)
    return setting.shown or ("" if default is None or isinstance(default, bool) else str(default))


def _given(config: type[Settings], arguments: dict[str, Any]) -> Given:
    """Take the options of some settings out of the arguments, and return the values of those that were given."""
    values = {setting: arguments.pop(setting.name) for setting in config.settings()}
    return {setting.name: _value(setting, given) for setting, given in values.items() if given not in (None, [])}


def _value(setting: Setting, given: Any) -> Any:
    if setting.joined is not None:
        return setting.joined.join(given)
    if setting.commas:
        return _split(setting, given)
    if setting.type is bool:
        return not setting.default  # an option without a value, which is given to change the default
    return tuple(given) if setting.is_list else given


def _split(setting: Setting, text: str) -> tuple[Any, ...]:
    """Return the values in a text with commas."""
    parts = tuple(part.strip() for part in text.split(","))
    try:
        if all(parts):
            return tuple(map(setting.type, parts))
    except ValueError:
        pass
    values, example = ("names", "cka,rsa") if setting.type is str else ("numbers", "0.01,0.1,1")
    raise ValueError(f"{flags_of(setting)[0]} is {text!r}; expected {values} with commas, such as {example}.")
