#!/usr/bin/env python3
"""Makes the manual pages and the shells' completions from the help texts of the command, src/cli/help.h.

  scripts/manual.py OUTPUT [VERSION]     writes below the folder OUTPUT what `make install` puts below share/

A help text is a title line ("gpuroom run: ..."), then paragraphs and sections. A section starts with a line such as
"Options:"; its lines are indented by two. The lines of an option start with "-" there.
"""

from __future__ import annotations

import pathlib
import re
import sys
from typing import Dict, Iterator, List, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXT = re.compile(r'std::string_view k(\w+)Help =\s*R"\((.*?)\)";', re.S)
OPTION = re.compile(r"  (?:(-\w), )?(--[\w-]+)(?: (\S+))?(?: +(.*))?$")
# Words that stand for values. Where a help text has other words, the values stand in it: "keep|disk|drop".
FILES, FOLDERS, PROCESSES = "files", "folders", "processes"
KINDS = {"FILE": FILES, "DIR": FOLDERS}
# A list of values in the first sentence of an option: "gpu_first (default: ...), balanced (...), cpu_first".
CHOICES = {
    "FORMAT": ["sh", "json", "docker", "k8s", "ray", "slurm"],
    "POLICY": ["gpu_first", "balanced", "cpu_first"],
    "PRIORITY": ["batch", "normal", "interactive"],
    "PROFILE": ["h200", "gh200", "gh200-egm", "gb200", "gb10", "rtx4090", "8xh200"],
}


class Option(NamedTuple):
    short: str  # "-h", or ""
    name: str  # "--help"
    value: str  # "SIZE|auto", or "" for a flag
    text: str

    def kind(self) -> str:
        return KINDS.get(self.value, "")

    def choices(self) -> List[str]:
        """The values that can be completed."""
        if self.value in CHOICES:
            return CHOICES[self.value]
        return [word for word in self.value.split("|") if not word.isupper()] if "|" in self.value else []


class Page(NamedTuple):
    words: List[str]  # ["bench", "tiers"]; of gpuroom itself: []
    title: str
    sections: Dict[str, List[str]]  # name to lines; "": the paragraphs
    options: List[Option]

    def name(self) -> str:
        return "-".join(["gpuroom", *self.words])

    def takes_processes(self) -> bool:
        return bool(self.words) and any("PID..." in line for line in self.sections["Usage"])


def read_option(lines: List[str]) -> Iterator[Option]:
    """The options of a section; what belongs to one is indented further than it."""
    found: List[List[str]] = []
    for line in lines:
        match = OPTION.match(line)
        if match:
            found.append([*(group or "" for group in match.groups())])
        elif found and line.startswith("   "):
            found[-1][3] = f"{found[-1][3]} {line.strip()}".strip()
    for short, name, value, text in found:
        yield Option(short, name, value, text)


def read_page(text: str) -> Page:
    head, *lines = text.splitlines()
    command, title = head.split(": ", 1)
    sections: Dict[str, List[str]] = {"": []}
    section = ""
    for line in lines:
        if re.fullmatch(r"[A-Z][a-z ]+:", line):
            section = line[:-1]
            sections[section] = []
        else:
            if section and line and not line.startswith("  "):
                section = ""
            sections[section].append(line)
    return Page(command.split()[1:], title, sections, list(read_option(sections.get("Options", []))))


def read_pages(header: str) -> List[Page]:
    pages = [read_page(text) for _, text in TEXT.findall(header)]
    if not pages or pages[0].words or not any(page.options for page in pages):
        sys.exit("manual: the help texts were not found in src/cli/help.h; has their form changed?")
    return [with_options_of_run(page, pages) if page.words == ["env"] else page for page in pages]


def with_options_of_run(page: Page, pages: List[Page]) -> Page:
    """`gpuroom env` takes run's options, which its help text does not repeat; --quiet, --dry-run and --json are for run alone."""
    (run,) = [other for other in pages if other.words == ["run"]]
    known = {option.name for option in page.options} | {"--quiet", "--dry-run", "--json"}
    return page._replace(options=[*page.options, *(option for option in run.options if option.name not in known)])


# The manual pages.


def roff(text: str) -> str:
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"^([.'])", r"\\&\1", text)


def literal(lines: List[str]) -> List[str]:
    """Lines as they stand."""
    text = "\n".join(lines).strip("\n").splitlines()
    return [".nf", *(roff(line[2:] if line.startswith("  ") else line) for line in text), ".fi"]


def description(lines: List[str]) -> Iterator[str]:
    for line in "\n".join(lines).strip("\n").splitlines():
        if not line:
            yield ".PP"
        elif line.startswith("  "):
            yield from (".nf", roff(line), ".fi")
        else:
            yield roff(line)


def manual_options(options: List[Option]) -> Iterator[str]:
    for option in options:
        yield ".TP"
        short = rf"\fB{roff(option.short)}\fR, " if option.short else ""
        value = rf" \fI{roff(option.value)}\fR" if option.value else ""
        yield rf"{short}\fB{roff(option.name)}\fR{value}"
        yield roff(option.text)


def manual(page: Page, others: List[Page], version: str) -> str:
    lines = [f'.TH {page.name().upper()} 1 "" "gpuroom {version}" "gpuroom"', ".SH NAME",
             rf"{roff(page.name())} \- {roff(page.title)}", ".SH SYNOPSIS", *literal(page.sections["Usage"])]  # fmt: skip
    if any(page.sections[""]):
        lines += [".SH DESCRIPTION", *description(page.sections[""])]
    for name, text in page.sections.items():
        if name == "Options":
            lines += [".SH OPTIONS", *manual_options(page.options)]
        elif name not in ("", "Usage"):
            lines += [f".SH {name.upper()}", *literal(text)]
    lines += [".SH SEE ALSO", ",\n".join(rf"\fB{roff(other.name())}\fR(1)" for other in others if other != page)]
    return "\n".join(lines) + "\n"


# The completions. All three shells are told, for each command, its options and what their values are.

# Prints the numbers of the processes under gpuroom, one a line.
LIST_PROCESSES = "gpuroom ps --json 2>/dev/null | grep -o 'pid.: *[0-9]*' | grep -o '[0-9][0-9]*'"


def subcommands(pages: List[Page]) -> Dict[str, str]:
    """Commands and what they do; `bench tiers` is no command but a word after one."""
    return {**{page.words[0]: page.title for page in pages if len(page.words) == 1}, "help": "explain a command"}


def kinds_of_bench(pages: List[Page]) -> List[str]:
    return [page.words[1] for page in pages if page.words[:1] == ["bench"] and len(page.words) == 2]


def bash(pages: List[Page]) -> str:
    cases, values = [], []
    for page in pages:
        if not page.words:
            continue
        command = " ".join(page.words)
        names = [name for option in page.options for name in (option.short, option.name) if name]
        words = kinds_of_bench(pages) if command == "bench" else names
        cases.append(f'    "{command}") words="{" ".join(words)}"{"; processes=1" if page.takes_processes() else ""} ;;')
        for option in page.options:
            action = {FILES: "COMPREPLY=($(compgen -f -- \"$current\"))",
                      FOLDERS: "COMPREPLY=($(compgen -d -- \"$current\"))"}.get(option.kind())  # fmt: skip
            if option.choices():
                action = f'COMPREPLY=($(compgen -W "{" ".join(option.choices())}" -- "$current"))'
            if option.value:
                values.append(f'    "{command} {option.name}") {action or ":"}; return ;;')
    return BASH.format(commands=" ".join([*subcommands(pages), "--version"]), cases="\n".join(cases),
                       values="\n".join(values), processes=LIST_PROCESSES)  # fmt: skip


BASH = """# Completion of gpuroom in bash. Made by scripts/manual.py.
_gpuroom() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}}
  local command=${{COMP_WORDS[1]-}} words= processes= at
  COMPREPLY=()
  if [[ $COMP_CWORD -eq 1 ]]; then
    COMPREPLY=($(compgen -W "{commands}" -- "$current"))
    return
  fi
  if [[ $command == help && $COMP_CWORD -eq 2 ]]; then
    COMPREPLY=($(compgen -W "{commands}" -- "$current"))
    return
  fi
  [[ ( $command == bench || "$command ${{COMP_WORDS[2]-}}" == "help bench" ) && $COMP_CWORD -gt 2 ]] &&
    command="bench ${{COMP_WORDS[2]}}"
  # After "--" stands the program that is run.
  for ((at = 2; at < COMP_CWORD; ++at)); do
    if [[ $command == run && ${{COMP_WORDS[at]}} == -- ]]; then
      if declare -F _command_offset >/dev/null; then
        _command_offset $((at + 1))
      elif [[ $((at + 1)) -eq $COMP_CWORD ]]; then
        COMPREPLY=($(compgen -c -- "$current"))
      else
        COMPREPLY=($(compgen -f -- "$current"))
      fi
      return
    fi
  done
  case "$command $previous" in
{values}
  esac
  case $command in
{cases}
  esac
  [[ -z $processes || $current == -* ]] ||
    words=$({processes})
  [[ $command != run || -n $current ]] || words="$words --"
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -F _gpuroom gpuroom
"""


def zsh_text(text: str) -> str:
    text = re.split(r"(?<=[a-z)]): |; | \(", text)[0]
    return re.sub(r"([\[\]:\\'])", "", text)


def zsh_argument(option: Option) -> str:
    names = f"({option.short} {option.name})'{{{option.short},{option.name}}}'" if option.short else option.name
    action = {FILES: "_files", FOLDERS: "_files -/"}.get(option.kind(), f"({' '.join(option.choices())})")
    value = f":{option.value.replace('|', ' or ')}:{action if action != '()' else ' '}" if option.value else ""
    return f"'{names}[{zsh_text(option.text)}]{value}'"


def zsh(pages: List[Page]) -> str:
    cases = []
    for page in pages:
        if not page.words or page.words == ["bench"]:
            continue
        arguments = [zsh_argument(option) for option in page.options]
        if page.words == ["run"]:
            arguments.append("'*::program:_normal'")
        if page.takes_processes():
            arguments.append("'*:process:_gpuroom_processes'")
        cases.append(f"    '{' '.join(page.words)}') _arguments -S " + " \\\n      ".join(arguments) + " ;;")
    commands = "\n".join(f"    '{name}:{zsh_text(text)}'" for name, text in subcommands(pages).items())
    return ZSH.format(commands=commands, cases="\n".join(cases), kinds=" ".join(kinds_of_bench(pages)),
                      processes=LIST_PROCESSES)  # fmt: skip


ZSH = """#compdef gpuroom
# Completion of gpuroom in zsh. Made by scripts/manual.py.
_gpuroom_processes() {{
  local -a processes
  processes=(${{(f)"$({processes})"}})
  compadd -a processes
}}

_gpuroom() {{
  local -a commands
  commands=(
{commands}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    compadd -- --version
    return
  fi
  local command=$words[2]
  if [[ $command == help ]]; then
    (( CURRENT == 3 )) && _describe command commands
    return
  fi
  if [[ $command == bench ]]; then
    if (( CURRENT == 3 )); then
      compadd {kinds}
      return
    fi
    command="bench $words[3]"
    shift words
    (( CURRENT-- ))
  fi
  shift words
  (( CURRENT-- ))
  case $command in
{cases}
  esac
}}

_gpuroom "$@"
"""


def fish_text(text: str) -> str:
    return zsh_text(text)


def fish_option(option: Option, condition: str) -> str:
    line = f"complete -c gpuroom -n '{condition}' -l {option.name[2:]}"
    if option.short:
        line += f" -s {option.short[1:]}"
    if option.value:
        line += " -r -F" if option.kind() == FILES else " -x"
        if option.kind() == FOLDERS:
            line += " -a '(__fish_complete_directories)'"
        if option.choices():
            line += f" -a '{' '.join(option.choices())}'"
    return f"{line} -d '{fish_text(option.text)}'"


def fish(pages: List[Page]) -> str:
    names = " ".join(subcommands(pages))
    lines = ["# Completion of gpuroom in fish. Made by scripts/manual.py.", "complete -c gpuroom -f",
             f"complete -c gpuroom -n 'not __fish_seen_subcommand_from {names}' -l version -d 'print the version'"]  # fmt: skip
    for name, text in subcommands(pages).items():
        lines.append(f"complete -c gpuroom -n 'not __fish_seen_subcommand_from {names}' -a {name} -d '{fish_text(text)}'")
    kinds = " ".join(kinds_of_bench(pages))
    only_kind = f"__fish_seen_subcommand_from bench; and not __fish_seen_subcommand_from {kinds}"
    lines += [f"complete -c gpuroom -n '{only_kind}' -a '{kinds}'"]
    lines += [f"complete -c gpuroom -n '__fish_seen_subcommand_from help' -a '{names}'"]
    lines += ["complete -c gpuroom -n '__fish_seen_subcommand_from run; and contains -- -- (commandline -opc)' "
              "-a '(__fish_complete_subcommand)' -F"]  # fmt: skip
    for page in pages:
        condition = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in page.words)
        if page.words and page.words != ["bench"]:
            if page.words in (["sleep"], ["wake"]):
                condition += "; and not __fish_seen_subcommand_from bench"
            lines += [fish_option(option, condition) for option in page.options]
        if page.takes_processes():
            lines.append(f"complete -c gpuroom -n '{condition}' -a '({LIST_PROCESSES.replace(chr(39), chr(34))})'")
    return "\n".join(lines) + "\n"


def main() -> int:
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        sys.exit("manual: usage: scripts/manual.py OUTPUT [VERSION]")
    output, version = pathlib.Path(sys.argv[1]), (sys.argv[2:] or [""])[0]
    pages = read_pages((ROOT / "src/cli/help.h").read_text())
    files = {f"man/man1/{page.name()}.1": manual(page, pages, version) for page in pages}
    files["bash-completion/completions/gpuroom"] = bash(pages)
    for folder in "site-functions", "vendor-completions":  # what zsh reads below a prefix, and in Debian below /usr
        files[f"zsh/{folder}/_gpuroom"] = zsh(pages)
    files["fish/vendor_completions.d/gpuroom.fish"] = fish(pages)
    for name, text in files.items():
        path = output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
