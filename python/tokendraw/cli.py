# SPDX-License-Identifier: Apache-2.0
"""The command line: `tokendraw generate`, `beam`, `best`, `choose`, `score`, experiments, `bench` and `info`.

What is slow to import is imported by the command that needs it.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import io
import json
import math
import os
import re
import secrets
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn

from tokendraw.lab.commands import add_commands as add_lab_commands
from tokendraw.options import add_command, add_model, positive

if TYPE_CHECKING:
    from tokendraw.best_first import Search, SearchProgress
    from tokendraw.generation import GeneratedToken
    from tokendraw.hypothesis import Hypothesis

__all__ = ["main"]

_DEFAULTS = {"temperature": 0.8, "top_p": 0.95}
"""Sampling parameters that are not neutral here: with them small models write decently."""

_STEPS = {
    "penalties": (
        "repetition_penalty",
        "frequency_penalty",
        "presence_penalty",
        "dry_multiplier",
        "dry_base",
        "dry_allowed_length",
        "dry_last_n",
        "dry_breakers",
        "penalty_history",
    ),
    "min_tokens": ("min_tokens", "eos_token_id"),
    "temperature": ("temperature",),
    "top_k": ("top_k", "top_k_ties"),
    "top_p": ("top_p", "top_p_boundary", "top_p_ties", "top_p_mass"),
    "min_p": ("min_p",),
    "typical": ("typical_p",),
    "epsilon": ("epsilon_cutoff",),
    "eta": ("eta_cutoff",),
    "top_n_sigma": ("top_n_sigma",),
    "xtc": ("xtc_probability", "xtc_threshold"),
}
"""The steps, in the order in which they run, and the parameters of each."""

_EARLY_STOPPING: dict[str, Any] = {"false": False, "true": True, "never": "never"}

_FAILED, _INTERRUPTED, _PIPE_CLOSED = 2, 130, 141

_EXAMPLES = r"""
examples:
  tokendraw generate "In the beginning"
  tokendraw generate "And God said," --samples 3 --seed 7 --stop .
  tokendraw generate "The LORD is my" --temperature 0.5 --top-k 20 --color
  tokendraw generate "Blessed are the" --max-new-tokens 5 --show
  tokendraw generate "And it came to pass" --draft kjv-draft
  tokendraw generate --model kjv-backward " for ever and ever."
  echo "And it came to pass" | tokendraw generate -
  tokendraw beam "In the beginning" --num-beams 4 --tree beam.svg
  tokendraw best "And the LORD spake unto" --max-new-tokens 8
  tokendraw choose "In the beginning God created the" heaven earth
  tokendraw score chapters.txt --jsonl scores.jsonl
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        What stands after the name of the command; by default that of this process.

    Returns
    -------
    int
        The exit code: 0, 2 after an error, 130 after Ctrl-C, 141 after standard output was closed.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that lacks a character is no reason to stop.
        sys.stdout.reconfigure(errors="replace")
    try:
        options = _parser().parse_args(arguments)
        options.run(options)
        _write("")
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return _PIPE_CLOSED
    except (ImportError, OSError, ValueError) as error:
        print(f"tokendraw: error: {' '.join(str(error).split())}", file=sys.stderr)
        return _FAILED
    return 0


def _discard_output() -> None:
    """Keep the interpreter from failing once more when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# --- The options -------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """A parser whose errors take one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(_FAILED, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tokendraw",
        description="Turn a language model's logits into tokens: exact, fused, reproducible.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="command", required=True, parser_class=_Parser)
    _add_generate(commands)
    _add_beam(commands)
    _add_best(commands)
    _add_choose(commands)
    _add_score(commands)
    add_lab_commands(commands)
    _add_bench(commands)
    _add_info(commands)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        import tokendraw

        parser.exit(message=f"tokendraw {tokendraw.build_info()['version']}\n")


def _add_generate(commands: Any) -> None:
    parser = add_command(
        commands,
        "generate",
        _generate,
        summary="continue a text",
        description="Continue a text with a language model, by default one of the King James Bible.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_prompt(parser)
    parser.add_argument(
        "--draft",
        metavar="NAME",
        help="a smaller model, or prompt-lookup, whose guesses the model verifies",
    )
    _add_max_new_tokens(parser, 128)
    parser.add_argument("--samples", type=positive, default=1, metavar="N", help="write N texts (default 1)")
    parser.add_argument("--seed", type=int, metavar="N", help="same seed, same text (default: a new one)")
    parser.add_argument(
        "--stop",
        action="append",
        type=_unescaped,
        metavar="TEXT",
        help=r"end before this text, which may hold \n, \t and \\; may be given several times",
    )
    parser.add_argument("--ignore-eos", action="store_true", help="never draw the token that ends a text")
    _add_sampling(parser.add_argument_group("sampling"))
    _add_output(parser.add_argument_group("output"))


def _add_prompt(parser: Any) -> None:
    parser.add_argument("prompt", help="the text to continue; - reads it from standard input")
    add_model(parser)


def _add_max_new_tokens(parser: Any, default: int) -> None:
    parser.add_argument(
        "--max-new-tokens",
        type=int,
        default=default,
        metavar="N",
        help=f"stop after N tokens (default {default})",
    )


def _add_sampling(group: Any) -> None:
    """Add an option for each number in `SamplingParams`, explained as in its docstring."""
    from tokendraw.params import SamplingParams

    explained = _field_docs(SamplingParams)
    for field in dataclasses.fields(SamplingParams):
        if isinstance(field.default, int | float):
            default = _DEFAULTS.get(field.name, field.default)
            group.add_argument(
                _option(field.name),
                type=type(field.default),
                metavar="N" if isinstance(field.default, int) else "X",
                help=f"{explained.get(field.name, '')} (default {default})".strip().replace("%", "%%"),
            )


def _add_no_echo(group: Any) -> None:
    group.add_argument("--no-echo", action="store_true", help="print what is new, without the prompt")


def _add_output(group: Any) -> None:
    _add_no_echo(group)
    either = group.add_mutually_exclusive_group()
    either.add_argument("--color", action="store_true", help="shade each token by its probability")
    either.add_argument(
        "--show", action="store_true", help="print for each token the highest candidates and why they fell"
    )
    group.add_argument(
        "--candidates",
        type=positive,
        default=8,
        metavar="N",
        help="how many candidates --show prints (default 8)",
    )


def _add_beam(commands: Any) -> None:
    parser = add_command(
        commands,
        "beam",
        _beam,
        summary="search for a probable continuation",
        description="Continue a text with what beam search finds most probable.",
    )
    _add_prompt(parser)
    parser.add_argument(
        "--num-beams", type=positive, default=4, metavar="N", help="hypotheses kept at each step (default 4)"
    )
    _add_max_new_tokens(parser, 30)
    _add_num_return(parser)
    _add_length_penalty(parser, 1.0)
    parser.add_argument(
        "--early-stopping",
        choices=_EARLY_STOPPING,
        default="false",
        help="stop when there are as many finished texts as beams (true), when better ones are unlikely "
        "(false, the default), or when there can be none (never)",
    )
    _add_no_echo(parser)
    _add_tree(parser)


def _add_num_return(parser: Any) -> None:
    parser.add_argument(
        "--num-return", type=positive, default=1, metavar="N", help="write the N best texts (default 1)"
    )


def _add_length_penalty(parser: Any, default: float) -> None:
    parser.add_argument(
        "--length-penalty",
        type=float,
        default=default,
        metavar="X",
        help="rank by log-probability / length^X: 0 for the most probable, more for longer "
        f"(default {default:g})",
    )


def _add_tree(parser: Any) -> None:
    parser.add_argument("--tree", metavar="FILE", help="draw what was searched, as SVG")


def _add_best(commands: Any) -> None:
    parser = add_command(
        commands,
        "best",
        _best,
        summary="find the most probable continuation, with proof",
        description="Find the most probable continuation of a text, and prove that there is none better.",
    )
    _add_prompt(parser)
    _add_max_new_tokens(parser, 8)
    _add_num_return(parser)
    parser.add_argument(
        "--max-expansions",
        type=positive,
        default=10_000,
        metavar="N",
        help="give up the proof after N rows of logits (default 10000)",
    )
    _add_length_penalty(parser, 0.0)
    _add_no_echo(parser)
    _add_tree(parser)


def _add_choose(commands: Any) -> None:
    parser = add_command(
        commands,
        "choose",
        _choose,
        summary="choose the most probable of some continuations",
        description="Print how probable each option is after a text, and mark the one to choose.",
    )
    parser.add_argument("prompt", help="the text before the options; - reads it from standard input")
    parser.add_argument("options", nargs="+", metavar="option", help="a text that may follow")
    add_model(parser)
    parser.add_argument(
        "--normalize",
        choices=("token", "acc_norm", "acc_bytes", "acc_mutual_info"),
        help="compare log-probabilities per token, character or byte, or less those without the prompt",
    )
    parser.add_argument(
        "--delimiter",
        type=_unescaped,
        default=" ",
        metavar="TEXT",
        help=r"stands between prompt and option, and may hold \n, \t and \\ (default a space)",
    )
    _add_tree(parser)


def _add_score(commands: Any) -> None:
    from tokendraw import measure

    parser = add_command(
        commands,
        "score",
        measure.run,
        summary="measure a model on the documents of files",
        description="Print what documents cost a model: bits per byte, token and word, perplexity.",
    )
    measure.add_options(parser)


def _add_bench(commands: Any) -> None:
    from tokendraw import bench

    parser = add_command(
        commands,
        "bench",
        bench.run,
        summary="time the sampler on this machine",
        description="Time each job beside np.max over the same rows, and compare the ratio with its budget.",
    )
    bench.add_options(parser)


def _add_info(commands: Any) -> None:
    parser = add_command(
        commands,
        "info",
        _info,
        summary="print what this installation can do",
        description="Print what this installation can do.",
    )
    add_model(parser)


def _option(field: str) -> str:
    return "--" + field.replace("_", "-")


def _field_docs(documented: type) -> dict[str, str]:
    """Return the first sentence on each parameter of a numpydoc docstring, as part of a longer text."""
    entries = re.findall(r"^(\w+) : .*\n((?:    .*\n?)+)", inspect.getdoc(documented) or "", re.MULTILINE)
    sentences = {name: re.split(r"\.(?:\s|$)", " ".join(text.split()))[0] for name, text in entries}
    return {name: text[:1].lower() + text[1:] for name, text in sentences.items()}


def _unescaped(text: str) -> str:
    return re.sub(r"\\([nt\\])", lambda match: {"n": "\n", "t": "\t", "\\": "\\"}[match[1]], text)


# --- generate ----------------------------------------------------------------------------------------------


def _generate(options: argparse.Namespace) -> None:
    from tokendraw.generation import stream_generate
    from tokendraw.models import load
    from tokendraw.params import SamplingParams

    prompt = _read_prompt(options.prompt)
    model = load(options.model)
    params = SamplingParams(**_chosen_sampling(options), eos_token_id=model.eos_token_id)
    filters: dict[str, Any] = {"params": params, "mask": _mask(model) if options.ignore_eos else None}
    seed = _chosen_seed(options)
    stream = stream_generate(
        model,
        [prompt],
        max_new_tokens=options.max_new_tokens,
        seed=seed,
        n=options.samples,
        stop=options.stop,
        draft=load(options.draft) if options.draft not in (None, "prompt-lookup") else options.draft,
        keep_logits=options.show,
        **filters,
    )
    output = (
        _Explained(model, prompt, seed, filters, options) if options.show else _Text(model, prompt, options)
    )
    for index, tokens in enumerate(_one_after_the_other(stream, options.samples)):
        if options.samples > 1:
            _write("\n" * (index > 0) + f"--- sample {index + 1} of {options.samples} ---\n")
        output.write(tokens)


def _read_prompt(prompt: str) -> str:
    """Return the prompt, or standard input without its last line break, which `echo` adds."""
    try:
        if prompt == "-":
            return sys.stdin.buffer.read().decode("utf-8").removesuffix("\n").removesuffix("\r")
        return os.fsencode(prompt).decode("utf-8")
    except UnicodeDecodeError as error:
        wrong = error.object[error.start : error.end]
        raise ValueError(f"the prompt must be UTF-8, got {wrong!r}") from None


def _chosen_sampling(options: argparse.Namespace) -> dict[str, Any]:
    from tokendraw.params import SamplingParams

    names = {field.name for field in dataclasses.fields(SamplingParams)}
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    return {**_DEFAULTS, **given}


def _chosen_seed(options: argparse.Namespace) -> int:
    """Return the seed; one that nobody chose is told to whoever watches, to have the text again."""
    if options.seed is not None:
        return int(options.seed)
    seed = secrets.randbits(32)
    if options.show or sys.stderr.isatty():
        print(f"tokendraw: seed {seed}", file=sys.stderr)
    return seed


def _mask(model: Any) -> Any:
    """Return a mask that forbids the end of the text."""
    import numpy as np

    return np.arange(model.vocab_size) != model.eos_token_id


def _one_after_the_other(stream: Iterator[GeneratedToken], count: int) -> Iterator[Iterator[GeneratedToken]]:
    """Yield the tokens of each sequence in turn; those of later sequences wait until it is theirs."""
    waiting: defaultdict[int, list[GeneratedToken]] = defaultdict(list)

    def own_tokens(index: int) -> Iterator[GeneratedToken]:
        yield from waiting[index]
        if waiting[index] and waiting[index][-1].finish_reason:
            return
        for token in stream:
            if token.index != index:
                waiting[token.index].append(token)
                continue
            yield token
            if token.finish_reason:
                return

    return map(own_tokens, range(count))


def _write(text: str) -> None:
    print(text, end="", flush=True)


class _Text:
    """Print prompt and continuation as they grow; what grows to the left is printed when it is complete."""

    def __init__(self, model: Any, prompt: str, options: argparse.Namespace) -> None:
        self._prompt = "" if options.no_echo else prompt
        self._leftward = getattr(model.tokenizer, "right_to_left", False)
        self._shaded = (options.color and _shader()) or (lambda text, _: text)

    def write(self, tokens: Iterator[GeneratedToken]) -> None:
        for piece in self._in_order(self._shaded(token.text, token.raw_logprob) for token in tokens):
            _write(piece)
        _write("\n")

    def _in_order(self, drawn: Iterator[str]) -> Iterator[str]:
        return (
            chain(reversed(list(drawn)), [self._prompt]) if self._leftward else chain([self._prompt], drawn)
        )


def _shader() -> Callable[[str, float], str] | None:
    """Return a function that shades text by its log-probability; None, with a hint, where rich is missing."""
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        print('tokendraw: --color needs rich: pip install "tokendraw[cli]"', file=sys.stderr)
        return None
    # Whoever asks for colour gets it, in a pipe too (`| less -R`).
    system: Any = "auto" if sys.stdout.isatty() else "truecolor"
    console = Console(file=sys.stdout, force_terminal=True, color_system=system, no_color=False)

    def shade(text: str, logprob: float) -> str:
        with console.capture() as captured:
            console.print(Text(text, f"#000000 on {_background(logprob)}"), end="", soft_wrap=True)
        return captured.get()

    return shade


def _background(logprob: float) -> str:
    """Return a colour from orange (probability 0.001 or less) over white to blue (1)."""
    orange, white, blue = (244, 165, 130), (247, 247, 247), (146, 197, 222)
    place = 2 * (1 + max(-1.0, logprob / math.log(1000)))
    low, high, share = (orange, white, place) if place < 1 else (white, blue, place - 1)
    mixed = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return "#" + bytes(mixed).hex()


# --- generate --show ---------------------------------------------------------------------------------------


class _Explained:
    """Print for each token what it was drawn from: the highest candidates, and which step removed which."""

    _HEADER = "   model     drawn  step         token  text"

    def __init__(
        self, model: Any, prompt: str, seed: int, filters: Mapping[str, Any], options: argparse.Namespace
    ) -> None:
        from tokendraw.models.base import fill_empty_prompts

        self._model = model
        self._prompt = list(fill_empty_prompts(model, [model.tokenizer.encode(prompt)])[0])
        self._seed = seed
        self._filters = filters
        self._count = options.candidates
        self._stages = _stages(filters)

    def write(self, tokens: Iterator[GeneratedToken]) -> None:
        _write(self._HEADER + "\n")
        history = list(self._prompt)
        for token in tokens:
            # What the draw knew beside the logits.
            place = {"seed": self._seed, "stream": token.index, "step": token.position}
            past = {"history": [list(history)], "prompt_lengths": len(self._prompt)}
            _write("\n".join(self._lines(token, {**place, **past})) + "\n")
            history.append(token.token)
            if token.finish_reason:
                _write(f"finished: {token.finish_reason}\n")

    def _lines(self, drawn: GeneratedToken, at: Mapping[str, Any]) -> Iterator[str]:
        import tokendraw as td

        model_probs, drawn_probs = td.softmax(drawn.logits), td.softmax(drawn.logits, **self._filters, **at)
        verdicts = self._verdicts(drawn.logits, at)
        yield f"{drawn.position + 1}. {self._text(drawn.token)}: {self._summary(verdicts)}"
        highest = td.top_k(drawn.logits, min(self._count, len(verdicts)))[1].tolist()
        for token in highest if drawn.token in highest else [*highest, drawn.token]:
            mark = ">" if token == drawn.token else " "
            probs = f"{model_probs[token]:8.6f}  {drawn_probs[token]:8.6f}"
            yield f"{mark} {probs}  {verdicts[token]:<11}  {token:>5}  {self._text(token)}"

    def _verdicts(self, logits: Any, at: Mapping[str, Any]) -> list[str]:
        """Return for each token "kept", or the step that removed it."""
        import numpy as np

        import tokendraw as td

        verdicts = np.full(len(logits), "kept", dtype=object)
        for step, filters in self._stages:
            removed = np.isneginf(td.filter_logits(logits, **filters, **at))
            verdicts[removed & (verdicts == "kept")] = step
        found: list[str] = verdicts.tolist()
        return found

    def _summary(self, verdicts: Sequence[str]) -> str:
        counts = Counter(verdicts)
        removed = [f"{step} removed {counts[step]}" for step, _ in self._stages if counts[step]]
        return ", ".join([f"{counts['kept']} of {len(verdicts)} kept", *removed])

    def _text(self, token: int) -> str:
        if token == getattr(self._model, "eos_token_id", None):
            return "end of text"
        data = self._model.tokenizer.token_bytes(token)
        try:
            return json.dumps(data.decode(), ensure_ascii=False)
        except UnicodeDecodeError:
            return repr(data)


def _stages(filters: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the steps that may remove tokens, each with the filters up to and with it."""
    from tokendraw.params import SamplingParams

    stages: list[tuple[str, dict[str, Any]]] = [("model", {}), ("mask", {"mask": filters["mask"]})]
    values: dict[str, Any] = {}
    for step, names in _STEPS.items():
        values |= {name: getattr(filters["params"], name) for name in names}
        stages.append((step, {"mask": filters["mask"], "params": SamplingParams(**values)}))
    return stages


# --- beam --------------------------------------------------------------------------------------------------


def _beam(options: argparse.Namespace) -> None:
    from tokendraw.models import load
    from tokendraw.search import beam_search
    from tokendraw.tree import SearchTree

    prompt = _read_prompt(options.prompt)
    model = load(options.model)
    tree = SearchTree(model.tokenizer) if options.tree else None
    found = beam_search(
        model,
        prompt,
        num_beams=options.num_beams,
        max_new_tokens=options.max_new_tokens,
        length_penalty=options.length_penalty,
        early_stopping=_EARLY_STOPPING[options.early_stopping],
        num_return=options.num_return,
        tree=tree,
    )
    _write_hypotheses(found, model, "" if options.no_echo else prompt)
    if tree is not None:
        tree.save(options.tree, title=prompt)


def _write_hypotheses(found: Sequence[Hypothesis], model: Any, prompt: str) -> None:
    leftward = getattr(model.tokenizer, "right_to_left", False)
    for place, one in enumerate(found, 1):
        if len(found) > 1:
            ranked = f"score {one.score:.4f}, log-probability {one.logprob:.4f}"
            _write("\n" * (place > 1) + f"--- {place} of {len(found)}: {ranked} ---\n")
        text = one.text or ""
        _write((text + prompt if leftward else prompt + text) + "\n")


# --- info --------------------------------------------------------------------------------------------------


def _info(options: argparse.Namespace) -> None:
    import tokendraw as td

    build = td.build_info()
    lines = {
        "tokendraw": build["version"],
        "isa": f"{build['isa']} (of {', '.join(build['isas'])})",
        "cuda": build["cuda"] or "no",
        "threads": build["threads"],
        "compiler": build["compiler"],
        "model": _model_summary(options.model),
    }
    for name, value in lines.items():
        print(f"{name:<10} {value}")


def _model_summary(name: str) -> str:
    from tokendraw.models import load

    model = load(name)
    facts = [f"{name}: {model.direction}", f"{model.vocab_size} tokens"]
    facts.append(f"{model.parameter_count:,} parameters")
    if "bits_per_byte" in model.metadata:
        facts.append(f"{model.metadata['bits_per_byte']:.4f} bits per byte of held-out text")
    return ", ".join(facts)


# --- best and choose ---------------------------------------------------------------------------------------


def _best(options: argparse.Namespace) -> None:
    from tokendraw.best_first import best_first_search
    from tokendraw.models import load
    from tokendraw.tree import SearchTree

    prompt = _read_prompt(options.prompt)
    model = load(options.model)
    tree = SearchTree(model.tokenizer) if options.tree else None
    told = _SearchProgressLine()
    try:
        found = best_first_search(
            model,
            prompt,
            max_new_tokens=options.max_new_tokens,
            num_return=options.num_return,
            max_expansions=options.max_expansions,
            length_penalty=options.length_penalty,
            on_progress=told.show,
            tree=tree,
        )
    finally:
        told.clear()
    _write_hypotheses(found, model, "" if options.no_echo else prompt)
    _write(f"--- {_verdict(found)} ---\n")
    if tree is not None:
        tree.save(options.tree, title=prompt)


def _verdict(found: Search) -> str:
    rows = f"{found.expansions} expansions"
    best = f"score {found[0].score:.4f}" if found else "nothing found"
    if found.proved:
        return f"proved: {best}, no other above {found.bound:.4f}, {rows}"
    return f"not proved: {best}, others may reach {found.bound:.4f}, {rows}"


class _SearchProgressLine:
    """A line on a terminal that says how far a search is, once it has taken long enough to wonder."""

    _PATIENCE, _PAUSE = 2.0, 0.2

    def __init__(self) -> None:
        self._next = time.monotonic() + self._PATIENCE
        self._shown = False

    def show(self, progress: SearchProgress) -> None:
        now = time.monotonic()
        if now < self._next or not sys.stderr.isatty():
            return
        self._next = now + self._PAUSE
        self._shown = True
        best, bound = f"{progress.score:.4f}", f"{progress.bound:.4f}"
        line = f"\r\x1b[K{progress.expansions} expansions: best {best}, others at most {bound}"
        print(line, end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _choose(options: argparse.Namespace) -> None:
    from tokendraw.choices import choose
    from tokendraw.models import load
    from tokendraw.tree import SearchTree

    prompt = _read_prompt(options.prompt)
    model = load(options.model)
    tree = SearchTree(model.tokenizer) if options.tree else None
    choice = choose(
        model,
        prompt,
        options.options,
        normalize=options.normalize,
        delimiter=options.delimiter,
        tree=tree,
    )
    normalised = options.normalize is not None
    _write("   log-prob" + "      score" * normalised + "  option\n")
    for place, option in enumerate(options.options):
        mark = ">" if place == choice.index else " "
        score = f"  {choice.scores[place]:9.4f}" * normalised
        _write(f"{mark} {choice.logprobs[place]:9.4f}{score}  {option}\n")
    if tree is not None:
        tree.save(options.tree, title=prompt)
