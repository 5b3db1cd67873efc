#!/usr/bin/env python3
"""Checks that no function of src/ gives a view of a temporary string (src/base/temporary.h).

A function that takes a text and returns std::string_view, or a container of them, has an overload beside it that is
deleted for temporary strings. A member that returns a view of its object has a ref-qualifier.
"""

import argparse
import pathlib
import re
import sys

VIEW = r"(?:std::(?:vector|optional|array|span)<[^;(){}=]*)?std::string_view[^;(){}=]*?"
FUNCTION = re.compile(rf"^(?P<indent> *)(?:\[\[nodiscard\]\] |static |inline |constexpr )*{VIEW}"
                      r"[\s&](?P<name>\w+(?:::\w+)*)\((?P<parameters>[^(){};]*)\)(?P<after>[^;{]*)[;{]", re.M)
# A pointer to a view is no text: what it points to has a name.
TEXT = re.compile(r"std::string_view(?!\*)|std::string&|std::string\b(?!\*)")


def refuses_temporaries(name: str, texts: list[str]) -> bool:
    return any(re.search(rf"\b{name}\(TemporaryString auto&&", text) for text in texts)


def check_file(root: pathlib.Path, path: pathlib.Path, problems: list[str]) -> int:
    """The number of functions that give views."""
    text = path.read_text()
    header = path.with_suffix(".h")
    texts = [text, *([header.read_text()] if header != path and header.is_file() else [])]
    count = 0
    for match in FUNCTION.finditer(text):
        name, after = match["name"], match["after"]
        if "TemporaryString" in match["parameters"] or "delete" in after:
            continue
        count += 1
        where = f"{path.relative_to(root)}:{text[:match.start()].count(chr(10)) + 1}: {name}"
        if re.search(r"\bconst\b(?!\s*&)", after):
            problems.append(f"{where} gives a view of its object: write 'const&', and '... const&& = delete' beside it")
        elif "const" not in after and TEXT.search(match["parameters"]) and not refuses_temporaries(name, texts):
            problems.append(f"{where} gives a view of its text: declare {name}(TemporaryString auto&& ...) = delete")
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    root = parser.parse_args().root.resolve()
    problems: list[str] = []
    files = [path for path in sorted((root / "src").rglob("*")) if path.suffix in (".h", ".cc")]
    count = sum(check_file(root, path, problems) for path in files)
    if count == 0:
        problems.append(f"{root}: no function that gives views was found, so nothing was checked")
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"check_views: {count} functions, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
