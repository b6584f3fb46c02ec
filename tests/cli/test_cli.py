# SPDX-License-Identifier: Apache-2.0
"""The command line, as a process of its own wherever the process matters."""

import dataclasses
import functools
import importlib.metadata
import operator
import os
import re
import signal
import subprocess
import sys
import types
from xml.etree import ElementTree

import numpy as np
import pytest

import tokendraw as td
from tokendraw import cli

embedded = functools.cache(td.models.load)

COMMAND = [sys.executable, "-m", "tokendraw"]
PROMPT = "In the beginning"


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")


def run(*arguments, stdin=b""):
    done = subprocess.run([*COMMAND, *arguments], input=stdin, capture_output=True, timeout=60, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


# Ctrl-C as in a terminal, even where the tests run in the background and inherit an ignored signal.
INTERRUPTIBLE = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("tokendraw", run_name="__main__", alter_sys=True)
"""


def start(*arguments):
    """Start an endless text."""
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            INTERRUPTIBLE,
            "generate",
            PROMPT,
            "--seed",
            "1",
            "--max-new-tokens",
            "1000000",
            "--ignore-eos",
            *arguments,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def output_of(capsys, *arguments):
    """Return what a command prints that succeeds within this process."""
    assert cli.main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def generated(capsys, *arguments):
    return output_of(capsys, "generate", PROMPT, "--max-new-tokens", "12", "--seed", "3", *arguments)


# --- As a process ------------------------------------------------------------------------------------------


def test_a_prompt_is_continued():
    code, out, err = run("generate", PROMPT, "--max-new-tokens", "20", "--seed", "3")
    [expected] = td.generate(embedded("kjv"), PROMPT, max_new_tokens=20, seed=3, temperature=0.8, top_p=0.95)
    assert (code, out, err) == (0, PROMPT + expected.text + "\n", "")


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_the_prompt_may_come_from_standard_input(capsys, ending):
    code, out, err = run(
        "generate", "-", "--max-new-tokens", "12", "--seed", "3", stdin=PROMPT.encode() + ending
    )
    assert (code, out, err) == (0, generated(capsys), "")


def test_errors_take_one_line_and_exit_code_2():
    code, out, err = run("generate", PROMPT, "--top-p", "1.5")
    assert (code, out, err) == (2, "", "tokendraw: error: top_p must be in (0, 1], got 1.5\n")


def test_a_prompt_that_is_no_text_is_refused():
    message = "tokendraw: error: the prompt must be UTF-8, got b'\\xff'\n"
    assert run("generate", os.fsdecode(b"a\xff")) == (2, "", message)
    assert run("generate", "-", stdin=b"a\xff") == (2, "", message)


def test_a_closed_pipe_ends_it_silently():
    process = start()
    assert process.stdout.read(10) == PROMPT[:10].encode()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 141


@pytest.mark.parametrize("option", ["--no-echo", "--show"])
def test_ctrl_c_stops_it_cleanly(option):
    process = start(option)
    assert process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 130


def test_info_tells_what_there_is():
    code, out, err = run("info")
    assert (code, err) == (0, "")
    facts = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert list(facts) == ["tokendraw", "isa", "cuda", "threads", "compiler", "model"]
    assert facts["tokendraw"] == td.build_info()["version"]
    assert facts["threads"] == str(td.build_info()["threads"])
    assert re.match(r"kjv: forward, 1024 tokens, 1,\d{3},\d{3} parameters", facts["model"])


def test_help_has_examples_and_every_sampling_parameter():
    code, out, err = run("generate", "--help")
    assert (code, err) == (0, "")
    assert "examples:" in out
    for field in dataclasses.fields(td.SamplingParams):
        if isinstance(field.default, int | float):
            assert "--" + field.name.replace("_", "-") in out


def test_the_installed_command_is_this_one():
    [command] = importlib.metadata.entry_points(group="console_scripts", name="tokendraw")
    assert command.load() is cli.main


# --- What generate prints ----------------------------------------------------------------------------------


def test_the_seed_decides(capsys):
    assert generated(capsys) == generated(capsys)
    assert generated(capsys) != generated(capsys, "--seed", "4")
    unseeded = ["generate", PROMPT, "--max-new-tokens", "12"]
    assert output_of(capsys, *unseeded) != output_of(capsys, *unseeded)


def test_sampling_options_reach_the_draw(capsys):
    model = embedded("kjv")
    sampling = {"temperature": 1.2, "top_k": 30, "top_p": 0.7, "min_p": 0.05}
    options = [word for name, value in sampling.items() for word in (cli._option(name), str(value))]
    [expected] = td.generate(model, PROMPT, max_new_tokens=12, seed=3, **sampling)
    assert generated(capsys, *options) == PROMPT + expected.text + "\n"


def test_the_prompt_can_be_left_out(capsys):
    assert PROMPT + generated(capsys, "--no-echo") == generated(capsys)


@pytest.mark.parametrize("draft", ["kjv-draft", "prompt-lookup"])
def test_a_draft_changes_no_greedy_text(capsys, draft):
    greedy = ("--temperature", "0")
    assert generated(capsys, *greedy, "--draft", draft) == generated(capsys, *greedy)


def test_samples_are_printed_one_after_the_other(capsys):
    expected = td.generate(
        embedded("kjv"), PROMPT, max_new_tokens=12, seed=3, n=3, temperature=0.8, top_p=0.95
    )
    blocks = [
        f"--- sample {place} of 3 ---\n{PROMPT}{found.text}\n" for place, found in enumerate(expected, 1)
    ]
    assert generated(capsys, "--samples", "3") == "\n".join(blocks)


def test_no_sample_waits_for_a_later_one():
    drawn = [(0, None), (1, "eos"), (2, None), (0, "eos"), (2, None), (2, "eos")]
    stream = iter([types.SimpleNamespace(index=index, finish_reason=reason) for index, reason in drawn])
    left = []
    for tokens in cli._one_after_the_other(stream, 3):
        for token in tokens:
            left.append((token.index, operator.length_hint(stream)))
    assert left == [(0, 5), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0)]


@pytest.mark.parametrize(("option", "stop"), [("e", "e"), (r"\n", "\n"), (r"\\", "\\")])
def test_text_ends_before_a_stop_string(capsys, option, stop):
    whole = generated(capsys, "--no-echo", "--max-new-tokens", "60").removesuffix("\n")
    found = generated(capsys, "--no-echo", "--max-new-tokens", "60", "--stop", option).removesuffix("\n")
    assert found == whole.partition(stop)[0]


def test_the_first_of_several_stop_strings_counts(capsys):
    both = generated(capsys, "--no-echo", "--stop", "a", "--stop", "e")
    alone = (generated(capsys, "--no-echo", "--stop", stop) for stop in "ae")
    assert both == min(alone, key=len)


def test_the_backward_model_writes_before_the_prompt(capsys):
    out = output_of(
        capsys, "generate", " the earth.", "--model", "kjv-backward", "--max-new-tokens", "9", "--ignore-eos"
    )
    assert out.endswith(" the earth.\n")
    assert len(out) > len(" the earth.\n")


# --- Colour ------------------------------------------------------------------------------------------------


def test_color_shades_the_same_text(capsys):
    pytest.importorskip("rich", reason="rich is not installed")
    shaded = generated(capsys, "--color", "--no-echo", "--temperature", "0")
    assert re.sub(r"\x1b\[[\d;]*m", "", shaded) == generated(capsys, "--no-echo", "--temperature", "0")
    [found] = td.generate(embedded("kjv"), PROMPT, max_new_tokens=12, temperature=0)
    backgrounds = re.findall(r"48;2;(\d+);(\d+);(\d+)m", shaded)
    assert ["#" + bytes(map(int, color)).hex() for color in backgrounds] == [
        cli._background(logprob) for logprob in found.raw_logprobs
    ]


def test_color_without_rich_is_plain_text_and_a_hint(capsys, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert cli.main(["generate", PROMPT, "--max-new-tokens", "12", "--seed", "3", "--color"]) == 0
    captured = capsys.readouterr()
    assert captured.err == 'tokendraw: --color needs rich: pip install "tokendraw[cli]"\n'
    assert captured.out == generated(capsys)


@pytest.mark.parametrize(
    ("logprob", "color"),
    [(0.0, "#92c5de"), (-3.4538776, "#f7f7f7"), (-6.9077553, "#f4a582"), (-50, "#f4a582")],
)
def test_backgrounds_run_from_orange_to_blue(logprob, color):
    assert cli._background(logprob) == color


# --- Candidates --------------------------------------------------------------------------------------------

CANDIDATE = re.compile(r"([ >]) (\d\.\d{6})  (\d\.\d{6})  (\w+) +(\d+)  (.+)")


def shown_steps(out):
    """Return for each step its heading and its candidates."""
    header, *lines = out.splitlines()
    assert header.split() == ["model", "drawn", "step", "token", "text"]
    steps = []
    for line in lines:
        if re.match(r"\d+\. ", line):
            steps.append((line, []))
        elif match := CANDIDATE.fullmatch(line):
            steps[-1][1].append(match.groups())
        else:
            assert line.startswith("finished: ")
    return steps


def reasons(model, context, sampling):
    """Return for each token the first step after which it is missing, or "kept"."""
    logits = model.start([context])[1][0]
    mask = np.arange(model.vocab_size) != model.eos_token_id
    found, filters = {}, {}
    for step, value in {"mask": mask, **sampling}.items():
        filters[step] = value
        kept = set(td.kept_set(logits, **filters).tokens.tolist())
        found |= dict.fromkeys(set(range(model.vocab_size)) - kept - found.keys(), step)
    return found | dict.fromkeys(kept, "kept")


def test_show_tells_why_candidates_fell(capsys):
    sampling = {"temperature": 0.8, "top_k": 20, "top_p": 0.95, "min_p": 0.05}
    out = generated(
        capsys, "--show", "--top-k", "20", "--min-p", "0.05", "--ignore-eos", "--candidates", "1024"
    )
    steps = shown_steps(out)
    assert len(steps) == 12
    model = embedded("kjv")
    context = model.tokenizer.encode(PROMPT)
    for heading, candidates in steps:
        expected = reasons(model, context, sampling)
        assert {int(token): verdict for _, _, _, verdict, token, _ in candidates} == expected
        kept = [token for token, verdict in expected.items() if verdict == "kept"]
        assert f": {len(kept)} of 1024 kept, mask removed 1, top_k removed" in heading
        [drawn] = [int(token) for mark, _, _, _, token, _ in candidates if mark == ">"]
        assert drawn in kept
        context.append(drawn)


def test_show_prints_as_many_candidates_as_asked_and_the_drawn_one(capsys):
    steps = shown_steps(
        generated(capsys, "--show", "--candidates", "2", "--temperature", "1.5", "--top-p", "1")
    )
    assert {len(candidates) for _, candidates in steps} == {2, 3}
    for _, candidates in steps:
        assert sum(mark == ">" for mark, *_ in candidates) == 1
        probs = [float(prob) for _, prob, *_ in candidates]
        assert probs[0] >= probs[1]


def test_show_at_temperature_zero_keeps_one_token(capsys):
    for heading, candidates in shown_steps(generated(capsys, "--show", "--temperature", "0")):
        assert "1 of 1024 kept, temperature removed 1023" in heading
        assert [candidate[2:4] for candidate in candidates[:2]] == [
            ("1.000000", "kept"),
            ("0.000000", "temperature"),
        ]


def test_every_sampling_parameter_belongs_to_a_step():
    named = {name for names in cli._STEPS.values() for name in names}
    assert named | {"steps"} == {field.name for field in dataclasses.fields(td.SamplingParams)}


# --- beam --------------------------------------------------------------------------------------------------


def searched(capsys, *arguments):
    return output_of(capsys, "beam", PROMPT, "--max-new-tokens", "8", *arguments)


def test_beam_prints_the_best_hypothesis(capsys):
    [expected] = td.beam_search(embedded("kjv"), PROMPT, num_beams=4, max_new_tokens=8)
    assert searched(capsys) == PROMPT + expected.text + "\n"
    assert searched(capsys, "--no-echo") == expected.text + "\n"


def test_beam_options_reach_the_search(capsys):
    for name, early_stopping in {"false": False, "true": True, "never": "never"}.items():
        expected = td.beam_search(
            embedded("kjv"),
            "Amen.",
            num_beams=3,
            max_new_tokens=5,
            length_penalty=0.5,
            early_stopping=early_stopping,
            num_return=2,
        )
        options = [
            "--num-beams",
            "3",
            "--length-penalty",
            "0.5",
            "--early-stopping",
            name,
            "--num-return",
            "2",
        ]
        blocks = [
            f"--- {place} of 2: score {one.score:.4f}, log-probability {one.logprob:.4f} ---\n"
            f"Amen.{one.text}\n"
            for place, one in enumerate(expected, 1)
        ]
        assert output_of(capsys, "beam", "Amen.", "--max-new-tokens", "5", *options) == "\n".join(blocks)


def test_beam_draws_its_tree(capsys, tmp_path):
    found = searched(capsys, "--tree", str(tmp_path / "tree.svg"), "--no-echo")
    document = ElementTree.parse(tmp_path / "tree.svg").getroot()
    assert document[0].text == PROMPT
    nodes = [element for element in document.iter() if element.get("class", "").startswith("node ")]
    best = [node for node in nodes if "best" in node.get("class").split()]
    kept = [node for node in nodes if "kept" in node.get("class").split()]
    assert len(best) == 8
    assert len(kept) >= 7 * 4
    assert len(nodes) > len(kept)
    tooltip = best[-1][0].text
    assert tooltip.splitlines()[-1] == found.removesuffix("\n").replace("\n", "↵"), "the whole text"


def test_beam_searches_from_right_to_left(capsys):
    out = output_of(capsys, "beam", " the earth.", "--model", "kjv-backward", "--max-new-tokens", "5")
    assert out.endswith(" the earth.\n")
    assert len(out) > len(" the earth.\n")


def test_a_tree_that_cannot_be_written_is_an_error(tmp_path):
    path = tmp_path / "nowhere" / "tree.svg"
    code, out, err = run("beam", PROMPT, "--max-new-tokens", "3", "--tree", str(path))
    assert (code, out.startswith(PROMPT)) == (2, True)
    assert err == f"tokendraw: error: [Errno 2] No such file or directory: '{path}'\n"


# --- Errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", ": error: the following arguments are required: command (see tokendraw --help)"),
        ("generate", " generate: error: the following arguments are required: prompt"),
        ("generate x --top-k many", " generate: error: argument --top-k: invalid int value: 'many'"),
        (
            "generate x --samples 0",
            " generate: error: argument --samples: must be a whole number >= 1, got 0",
        ),
        ("generate x --show --color", " generate: error: argument --color: not allowed with argument --show"),
        ("generate x --max-new-tokens -1", ": error: max_new_tokens must be in [0, 2^32), got -1"),
        ("generate x --max 3", ": error: unrecognized arguments: --max 3 (see tokendraw --help)"),
        ("generate x --seed -1", ": error: seed must be in [0, 2^64), got -1"),
        ("generate x --stop=", ": error: a stop string must not be empty"),
        (
            "generate x --model none",
            ": error: model must be 'kjv', 'kjv-backward', 'kjv-draft', 'smollm2' or",
        ),
        ("generate x --temperature nan", ": error: temperature must be"),
        ("info --model none", ": error: model must be 'kjv', 'kjv-backward', 'kjv-draft', 'smollm2' or"),
        ("beam x --num-beams 0", " beam: error: argument --num-beams: must be a whole number >= 1, got 0"),
        ("beam x --early-stopping no", " beam: error: argument --early-stopping: invalid choice: 'no'"),
        ("beam x --max-new-tokens -1", ": error: max_new_tokens must be"),
        (
            "beam x --model none",
            ": error: model must be 'kjv', 'kjv-backward', 'kjv-draft', 'smollm2' or",
        ),
    ],
)
def test_error_lines(capsys, arguments, message):
    try:
        code = cli.main(arguments.split())
    except SystemExit as stopped:
        code = stopped.code
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert captured.err.startswith("tokendraw" + message)
    assert captured.err.endswith("\n")
    assert captured.err.count("\n") == 1


# --- A model from a file -----------------------------------------------------------------------------------


@pytest.fixture
def llama(tmp_path):
    """A random Llama over bytes, without an end token."""
    pytest.importorskip("tokenizers", reason='tokenizers is not installed: pip install "tokendraw[gguf]"')
    tiny = pytest.importorskip("tests.models.tiny_llama", reason='pip install "tokendraw[gguf]"')
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    tables = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": [*map(chr, shown), *(chr(256 + place) for place in range(68))],
        "tokenizer.ggml.merges": ["h e"],
    }
    tables["tokenizer.ggml.tokens"].append("he")
    return str(tiny.write_gguf(tmp_path / "tiny.gguf", tiny.random_tensors(257), tiny.METADATA | tables))


def test_a_file_is_a_model(capsys, llama):
    arguments = ["--model", llama, "--max-new-tokens", "6", "--seed", "3", "--temperature", "0.8"]
    printed = output_of(capsys, "generate", "the hen", *arguments)
    model = td.models.load(llama)
    [expected] = td.generate(model, "the hen", max_new_tokens=6, seed=3, temperature=0.8, top_p=0.95)
    assert printed == f"the hen{expected.text}\n"
    assert output_of(capsys, "generate", "the hen", *arguments, "--ignore-eos") == printed
    shown = output_of(capsys, "generate", "the hen", *arguments, "--show")
    assert len(re.findall(r"^\d+\. ", shown, re.MULTILINE)) == 6
    summary = f"{llama}: forward, 257 tokens, {model.parameter_count:,} parameters"
    assert summary in output_of(capsys, "info", "--model", llama)
