"""The command line: ``onnx2snn MODEL.onnx`` and its verbs."""

import argparse
import difflib
import importlib
import itertools
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from onnx2snn import __version__
from onnx2snn.completion import PrintCompletion
from onnx2snn.recipes import PREFERENCES, RECIPES
from onnx2snn_runtime.cli import add_global_arguments, guarded, say
from onnx2snn_runtime.errors import ModelError
from onnx2snn_runtime.files.limits import add_limit_arguments
from onnx2snn_runtime.run_command import (
    add_backend_arguments,
    add_clobber_argument,
    add_exit_argument,
    add_preprocess_argument,
    add_run_arguments,
)

COMMANDS = {
    "convert": "turn an ONNX network into a spiking network (the default command)",
    "run": "run a spiking network on images",
    "eval": "measure accuracy, spikes and energy over timesteps",
    "compare": "compare ANN and SNN layer by layer and name the layer that departs",
    "report": "turn stored results of eval into one page",
    "export": "write a spiking network in another form: one ONNX Loop over time, or NIR",
    "inspect": "show the layers of a network, spiking or not",
    "ops": "list the operators and how they convert",
    "doctor": "tell what is installed, what is missing and which backends work",
    "demo": "convert and measure the embedded network",
}
GLOBAL_OPTIONS = r"-[vq]+|--verbose|--quiet|--debug"
EXAMPLES = """examples:
  onnx2snn model.onnx --calibration images.npz
  onnx2snn eval model.snn.onnx test.npz --against model.onnx --timesteps 1,2,4,8
  onnx2snn run model.snn.onnx picture.png -T 4
  onnx2snn demo
"""


def build_parser() -> argparse.ArgumentParser:
    """The whole argument tree."""
    common = argparse.ArgumentParser(add_help=False)
    add_global_arguments(common, "onnx2snn")
    parser = argparse.ArgumentParser(
        prog="onnx2snn",
        description="Turn any trained ONNX CNN into a spiking neural network.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"onnx2snn {__version__}")
    parser.add_argument("--print-completion", action=PrintCompletion, metavar="SHELL",
                        help="print the completion script for bash, zsh, fish or tcsh")  # fmt: skip
    verbs = parser.add_subparsers(dest="command", metavar="COMMAND")
    parts = {
        name: verbs.add_parser(name, help=text, description=text, parents=[common])
        for name, text in COMMANDS.items()
    }
    for part in parts.values():
        part.set_defaults(refuse=part.error)
    _convert_arguments(parts["convert"])
    add_run_arguments(parts["run"])
    _eval_arguments(parts["eval"])
    _compare_arguments(parts["compare"])
    parts["report"].add_argument("results", metavar="RESULTS.json", help="what eval --json printed")
    parts["report"].add_argument("-o", "--output", metavar="OUT.html", help="default: beside it")
    _export_arguments(parts["export"])
    parts["inspect"].add_argument("model", metavar="MODEL")
    add_limit_arguments(parts["inspect"], data=False)
    parts["inspect"].add_argument("--plan", action="store_true",
                                  help="how a spiking network runs: parts and bytes")  # fmt: skip
    parts["ops"].add_argument("--markdown", action="store_true", help="as a page of the docs")
    for name in ("convert", "eval", "compare", "report", "export"):
        add_clobber_argument(parts[name])
    for name in ("report", "export", "inspect", "ops", "doctor", "demo"):
        parts[name].add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL.onnx", help="trained network; also .keras, .h5 "
                        "or .pt2 where its framework is installed")  # fmt: skip
    parser.add_argument("-o", "--output", metavar="OUT", help="default: MODEL.snn.onnx beside it")
    parser.add_argument("--calibration", metavar="DATA", help="images for the thresholds")
    parser.add_argument("--calibration-samples", type=int, default=512, metavar="N",
                        help="at most so many of them (512)")  # fmt: skip
    parser.add_argument("--recipe", help=f"{', '.join(RECIPES)} (fast)")
    parser.add_argument("--burst", type=int, metavar="γ", help="spikes per neuron and step at most")
    parser.add_argument("--v0", type=float, help="initial charge in units of the threshold")
    parser.add_argument("--scale", type=float, help="factor on the calibrated threshold")
    parser.add_argument("--threshold", metavar="RULE", help="percentile, max, mse or a rule added")
    parser.add_argument("--percentile", type=float, help="percentile of the rule (99.9)")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--per-channel", dest="per_channel", action="store_true", default=None,
                       help="a threshold for every channel (default: see the recipe)")  # fmt: skip
    group.add_argument("--per-layer", dest="per_channel", action="store_false",
                       help="one threshold for all of a layer")  # fmt: skip
    parser.add_argument("--relays", action=argparse.BooleanOptionalAction, default=None,
                        help="neurons where weights would meet values: behind gates and in "
                        "linear bottlenecks (default: with --target-drop)")  # fmt: skip
    parser.add_argument("--shortcuts", action=argparse.BooleanOptionalAction, default=None,
                        help="--recipe refine: neurons have a finer output for ways around "
                        "weights (default: with --target-drop)")  # fmt: skip
    parser.add_argument("--target-drop", type=float, metavar="PTS",
                        help="search the least energy that loses at most these")  # fmt: skip
    parser.add_argument(
        "--max-timesteps", type=int, help="largest T that --target-drop may choose (8)"
    )
    parser.add_argument("--prefer", default=PREFERENCES[0], metavar="|".join(PREFERENCES),
                        help="--target-drop: least energy in about four steps, least energy "
                        "in any number of steps, or fewest steps")  # fmt: skip
    add_preprocess_argument(parser, "imagenet, unit, none or mean=…,std=…")
    parser.add_argument("--input-shape", action="append", default=[], metavar="NAME:1,3,32,32",
                        help="sizes that the model leaves open")  # fmt: skip
    parser.add_argument("--exit-loss", type=float, default=0.1, metavar="PTS",
                        help="points of accuracy that --early-exit may cost (0.1)")  # fmt: skip
    parser.add_argument("--decides", metavar="NAME",
                        help="of several outputs the one that tells classes")  # fmt: skip
    parser.add_argument("--precision", default="float", metavar="float|int8",
                        help="int8: whole numbers, the same bits on every engine")  # fmt: skip
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse graded operators, and a network whose check fails",
    )
    parser.add_argument(
        "--allow-analog", action="store_true", help="convert even if no activation becomes spiking"
    )
    parser.add_argument("--backend", default="auto", help="for calibration and the check")
    parser.add_argument("--threads", type=int, help="CPU threads")
    add_limit_arguments(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise without data")
    parser.add_argument("--dry-run", action="store_true", help="do everything but write the file")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def _eval_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL.snn.onnx", help="spiking network")
    parser.add_argument("data", metavar="DATA", help="images, with labels if there are any")
    parser.add_argument("--against", metavar="MODEL.onnx", help="ANN to compare with")
    parser.add_argument("-T", "--timesteps", metavar="1,2,4",
                        help="default: 1,2,4,8 and what is recommended")  # fmt: skip
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    parser.add_argument("--resume", action="store_true",
                        help="keep a journal, and go on where one was stopped")  # fmt: skip
    parser.add_argument("--workers", type=int, metavar="N",
                        help="processes that share the work (1)")  # fmt: skip
    parser.add_argument("--ray", metavar="ADDRESS",
                        help="share the work in a Ray cluster: auto, or HOST:PORT")  # fmt: skip
    parser.add_argument("--typical", action="store_true",
                        help="also run plain integrate-and-fire neurons until they are as accurate"
                             " (up to 512 steps)")  # fmt: skip
    parser.add_argument("--max-drop", type=float, metavar="PTS", help="exit 1 if it loses more")
    parser.add_argument("-o", "--output", metavar="OUT.npz",
                        help="also write the answers after the last step here")  # fmt: skip
    parser.add_argument("--report", metavar="OUT.html", help="write one page with all of it")
    parser.add_argument("--report-image", type=int, default=0, metavar="INDEX",
                        help="the image that the page follows over time (0)")  # fmt: skip
    add_preprocess_argument(parser, "override the stored preprocessing")
    add_limit_arguments(parser)
    add_backend_arguments(parser)
    add_exit_argument(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ann", metavar="MODEL.onnx", help="the network that was converted")
    parser.add_argument("model", metavar="MODEL.snn.onnx", help="spiking network")
    parser.add_argument("data", metavar="DATA", help="images")
    parser.add_argument("-T", "--timesteps", type=int, help="timesteps (default: as recommended)")
    parser.add_argument("--limit", type=int, default=64, metavar="N", help="images at most (64)")
    parser.add_argument("--worst-first", action="store_true", help="order the layers by error")
    parser.add_argument("--top", type=int, metavar="N", help="only the first N rows")
    parser.add_argument("--plot", metavar="OUT.svg", help="draw the errors of all layers")
    add_preprocess_argument(parser, "override the stored preprocessing")
    add_backend_arguments(parser)
    add_limit_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def verb_first(given: Sequence[str]) -> list[str]:
    """The same arguments, with global options in front of the verb moved behind it."""
    front = list(itertools.takewhile(re.compile(GLOBAL_OPTIONS).fullmatch, given))
    rest = list(given[len(front) :])
    place = int(bool(rest) and rest[0] in COMMANDS)
    return rest[:place] + front + rest[place:]


def looks_like_command(word: str) -> bool:
    """Whether a first argument is a mistyped command rather than a file."""
    return word.isalpha() and not Path(word).exists()


def suggestion(word: str) -> str:
    """The command that was probably meant."""
    close = difflib.get_close_matches(word, COMMANDS, n=1)
    return f"; did you mean {close[0]}?" if close else "; see onnx2snn --help"


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL.snn.onnx", help="spiking network")
    parser.add_argument("-o", "--output", metavar="OUT", help="of --unroll; default: beside it")
    form = parser.add_mutually_exclusive_group(required=True)
    form.add_argument("--unroll", choices=["loop"],
                      help="one ONNX Loop with the number of timesteps as an input")  # fmt: skip
    form.add_argument("--nir", metavar="OUT.nir", help="a NIR graph, where NIR can carry it")
    parser.add_argument("--lossy", action="store_true",
                        help="--nir: accept the loss of burst limit and charge")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``onnx2snn``; returns the exit code."""
    given = verb_first(list(sys.argv[1:] if arguments is None else arguments))
    asks_help = {"-h", "--help", "--version", "--print-completion"} & set(given)
    names_command = bool(given) and given[0] in COMMANDS
    if given and not names_command and not (given[0].startswith("-") and asks_help):
        if looks_like_command(given[0]):
            say(f"error: no file and no command {given[0]!r}{suggestion(given[0])}")
            return ModelError.exit_code
        given.insert(0, "convert")
    options, unknown = build_parser().parse_known_args(given)
    if unknown and options.command:
        options.refuse(f"unrecognized arguments: {' '.join(unknown)}")
    if options.command is None:
        build_parser().print_help(sys.stderr)
        return 2
    return guarded(run_verb, options, options.debug)


def run_verb(options: argparse.Namespace) -> int:
    """Import what a command needs, and run it."""
    if options.command == "run":
        from onnx2snn_runtime.run_command import run_command

        return run_command(options)
    module = importlib.import_module(f"onnx2snn.commands.{options.command}")
    code: int = module.run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
