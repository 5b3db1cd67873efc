#!/usr/bin/env python3
"""Checks that every place that names the command's options and gpuroom's variables names the same ones.

The help texts (src/cli/help.h) are the table of options: the manual pages and the completions are made from them. The
parsers, the variables (src/base/env.h), and the tables of README.md and docs/cli.md are written by hand, so each is
compared with the help texts or with env.h.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import sys
from typing import Dict, Iterable, List, NamedTuple, Set

import manual

FUNCTION = re.compile(r"^\w[^\n;]*?\b(\w+)\([^;{}]*\)[^;{}]*\{\n(.*?)^\}", re.S | re.M)
COMMAND = re.compile(r'\bParser parser\("([\w ]+)"\)')
ADDED = re.compile(r'\bparser(?:\.|->)(?:Flag|Value|List)\("(?:-\w,)?(--[\w-]+)"')
SHARED = re.compile(r"\b(Add\w+Options)\(")
CHOSEN = re.compile(r'\bChoose\("(--[\w-]+)",[^;]*?\benv::(k\w+)\)')
VARIABLE = re.compile(r'\bchar (k\w+)\[\] =\s*"(GPUROOM_\w+)"')


class Sources(NamedTuple):
    """What the sources say, and the text of the documents."""

    parsers: Dict[str, Set[str]]  # command to the options that its parser takes
    chosen: Dict[str, str]  # option to the constant of the variable that stands for it
    variables: Dict[str, str]  # constant to the variable's name
    checked: Set[str]  # constants that src/cli/variables.cc knows
    pages: List[manual.Page]
    readme: str
    cli: str


def read_parsers(texts: Iterable[str]) -> Dict[str, Set[str]]:
    """The options that each command's parser takes, with those that a shared function adds to it."""
    bodies = {name: body for text in texts for name, body in FUNCTION.findall(text)}

    def options(body: str) -> Set[str]:
        found = set(ADDED.findall(body))
        for name in SHARED.findall(body):
            found |= options(bodies.get(name, ""))
        return found

    return {command: options(body) for body in bodies.values() for command in COMMAND.findall(body)}


def read_sources(root: pathlib.Path) -> Sources:
    texts = [path.read_text() for path in sorted((root / "src/cli").glob("*.cc"))]
    return Sources(
        parsers=read_parsers(texts),
        chosen={option: constant for text in texts for option, constant in CHOSEN.findall(text)},
        variables=dict(VARIABLE.findall((root / "src/base/env.h").read_text())),
        checked=set(re.findall(r"\{env::(k\w+),", (root / "src/cli/variables.cc").read_text())),
        pages=manual.read_pages((root / "src/cli/help.h").read_text()),
        readme=(root / "README.md").read_text(),
        cli=(root / "docs/cli.md").read_text(),
    )


def section(text: str, heading: str) -> str:
    """What stands below a heading of a document, up to the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.S | re.M)
    return found.group(1) if found else ""


def first_cells(text: str) -> str:
    """The first column of the tables in a text."""
    return "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("|"))


def differ(what: str, have: Set[str], whose: str, want: Set[str]) -> List[str]:
    return [f"{what} lacks {name}, which {whose} has" for name in sorted(want - have)] + [
        f"{what} has {name}, which {whose} lacks" for name in sorted(have - want)
    ]


def check_parsers(sources: Sources) -> List[str]:
    helps = {" ".join(page.words): {option.name for option in page.options} for page in sources.pages if page.options}
    wrong = differ("the set of parsers", set(sources.parsers), "the set of help texts", set(helps))
    for command in sorted(set(helps) & set(sources.parsers)):
        wrong += differ(f"the parser of '{command}'", sources.parsers[command], "its help text", helps[command])
    return wrong


def check_run_table(sources: Sources) -> List[str]:
    (run,) = [page for page in sources.pages if page.words == ["run"]]
    named = set(re.findall(r"--[a-z][\w-]+", first_cells(section(sources.readme, "`gpuroom run`"))))
    return differ("README.md's table of run", named, "its help text", {o.name for o in run.options} - {"--help"})


def check_variables(sources: Sources) -> List[str]:
    """Each variable is known to the check of the environment, and stands in README.md's table."""
    named = set(re.findall(r"GPUROOM_\w+", first_cells(section(sources.readme, "Environment variables"))))
    return differ("src/cli/variables.cc", sources.checked, "src/base/env.h", set(sources.variables)) + differ(
        "README.md's table of variables", named, "src/base/env.h", set(sources.variables.values()))


def check_chosen(sources: Sources) -> List[str]:
    """An option that a variable stands for: the two have one name, and run's help and docs/cli.md name the variable."""
    (run,) = [page for page in sources.pages if page.words == ["run"]]
    text = "\n".join(line for lines in run.sections.values() for line in lines)
    inherited = first_cells(section(sources.cli, "What CMD inherits"))
    wrong = []
    for option, constant in sorted(sources.chosen.items()):
        variable = sources.variables.get(constant, constant)
        if variable != "GPUROOM_" + option[2:].upper().replace("-", "_"):
            wrong.append(f"{option} is read from {variable}, which has another name")
        for where, names in (("the help text of 'run'", text), ("docs/cli.md, 'What CMD inherits',", inherited)):
            if not re.search(rf"\b{variable}\b", names):
                wrong.append(f"{where} lacks {variable}, which stands for {option}")
    return wrong


def check_choices(sources: Sources) -> List[str]:
    """What the shells complete as an option's value stands in the text of an option of that kind."""
    texts: Dict[str, str] = {}
    for page in sources.pages:
        for option in page.options:
            texts[option.value] = f"{texts.get(option.value, '')} {option.text}"
    return [f"scripts/manual.py completes {kind} by {word}, which no help text names"
            for kind, words in manual.CHOICES.items()
            for word in words if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", texts.get(kind, ""))]  # fmt: skip


def check(root: pathlib.Path) -> List[str]:
    sources = read_sources(root)
    checks = (check_parsers, check_run_table, check_variables, check_chosen, check_choices)
    return [wrong for one in checks for wrong in one(sources)]


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares all places that name options and variables.")
    parser.add_argument("--root", type=pathlib.Path, default=manual.ROOT, help="the checkout")
    wrong = check(parser.parse_args().root)
    for line in wrong:
        print(f"check_options: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
