"""Command-line arguments as frozen dataclasses, one per help panel.

Typer reads a command's flags from its function's signature, and a function with thirty parameters is a function
nobody can call. Here a command takes a few dataclasses; ``command`` spells their fields out for Typer and puts the
values back together.
"""

import inspect
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, get_args, get_type_hints

import typer
from typer.models import OptionInfo


def command(app: typer.Typer, name: str, **settings: Any) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Register a function of argument dataclasses as the command ``name`` of ``app``.

    The function returns the exit code. A dataclass's ``PANEL`` names the help panel of those of its options
    that do not name their own.
    """

    def register(function: Callable[..., int]) -> Callable[..., int]:
        groups = get_type_hints(function)
        groups.pop("return", None)

        def run(**values: Any) -> None:
            raise typer.Exit(function(**_regroup(groups, values)))

        parameters = [parameter for group in groups.values() for parameter in _parameters(group)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        run.__doc__ = function.__doc__
        app.command(name, **settings)(run)
        return function

    return register


def _regroup(groups: Mapping[str, type], values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: group(**{field.name: values[field.name] for field in fields(group)}) for name, group in groups.items()
    }


def _parameters(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    panel = getattr(group, "PANEL", None)
    return [_parameter(field, hints[field.name], panel) for field in fields(group)]


def _parameter(field: "Field[Any]", hint: Any, panel: str | None) -> inspect.Parameter:
    kind, info = get_args(hint)
    info = copy(info)
    if isinstance(info, OptionInfo):
        info.rich_help_panel = info.rich_help_panel or panel
        if kind is bool and not info.metavar:
            info.metavar = " "  # Else every switch is followed by <bool>.
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
    )
