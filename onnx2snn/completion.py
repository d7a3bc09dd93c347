"""Completion for shells, written by shtab from the argument tree."""

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Any

INSTALL = "pip install 'onnx2snn[completion]'"
FILES = ("MODEL", "DATA", "INPUT", "RESULTS", "OUT")  # beginnings of what stands for a file


class PrintCompletion(argparse.Action):
    """``--print-completion SHELL``: print the script and end."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Print the script for the shell ``values``."""
        del namespace, option_string
        try:
            shtab = import_module("shtab")
        except ImportError:
            parser.error(f"completion needs shtab: {INSTALL}")
        if values not in shtab.SUPPORTED_SHELLS:
            parser.error(f"no completion for {values!r}: {', '.join(shtab.SUPPORTED_SHELLS)}")
        for part in all_parsers(parser):
            for action in part._actions:  # argparse has no public list of them
                if str(action.metavar or "").startswith(FILES):
                    action.complete = shtab.FILE  # type: ignore[attr-defined]
        print(shtab.complete(parser, shell=values))  # noqa: T201
        parser.exit()


def all_parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """A parser and those of its commands."""
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += action.choices.values()
    return found
