#!/usr/bin/env python3
"""Flags words and lines that CONTRIBUTING.md asks authors to avoid.

It reads documents, comments, and string literals of Rust, SQL, and shell files. A flagged word is
a hint, not a proof; scripts/prose_exceptions.txt lists the lines that may stay, one per line as
`PATH: TEXT`, where TEXT is a part of the line.

usage: scripts/check_prose.py [--count] [PATH…]    files and folders (default: all files)
    --count   prints totals per word and per directory
"""

import collections
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
WIDTH = 100
SUFFIXES = {".md", ".rs", ".sql", ".sh", ".py", ".toml", ".yml"}
# Generated files, and files that hold what others have written.
SKIPPED = re.compile(r"^(sql/pg_webhook--|tests/fixtures/|tests/foreign/|fuzz/corpus/|scripts/check_prose\.py|extension/tests/.*/expected/)")

WORDS = {
    "archaic": r"whoever|whatever|whichever|whomever|anew|thereby|thereof|therein|hereby|whence|wherein|but for|any more|no more(?! than)|yet to be|is to be|are to be|lest|hence|save for",
    "person": r"somebody|nobody|anybody|someone else's|whose is",
    "relative": r"what (?:waits|fails|failed|came|comes|is left|was left|is there|goes|went|has been|is not|it has|lies|stands)|that of the|those of the|the one that|the ones that",
    "tell": r"is told|are told|was told|tells? (?:of|that|what|whether|it|how|why|which)|is spoken of",
    "house": r"heirs?\b|catalogues?|way there and back|the active one|stands? by|crew|desk|strikes?|standing\b|steer(?:s|ing)?\b|the board",
    "inverted": r"once more|of its own accord|at all\b|so much|as it were|in its stead|on its own account|, and that is",
}
PATTERNS = {kind: re.compile(rf"\b(?:{words})\b", re.I) for kind, words in WORDS.items()}

# Lines of a table in the head of a script, which may be wider.
TABLE = re.compile(r"#(?:   | usage:| (?:Reads|Sets|Defines) )")

COMMENT = {
    ".rs": re.compile(r"//[/!]?(.*)$"),
    ".sql": re.compile(r"--(.*)$"),
    ".sh": re.compile(r"(?:^|\s)#(.*)$"),
    ".py": re.compile(r"(?:^|\s)#(.*)$"),
    ".toml": re.compile(r"(?:^|\s)#(.*)$"),
    ".yml": re.compile(r"(?:^|\s)#(.*)$"),
}
STRING = {
    ".rs": re.compile(r'"((?:\\.|[^"\\])*)"'),
    ".sql": re.compile(r"'((?:''|[^'])*)'"),
    ".sh": re.compile(r'"([^"$]*)"'),
}


def files(arguments):
    command = ["git", "ls-files", "--", *arguments]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
    for name in names:
        path = ROOT / name
        if name and path.suffix in SUFFIXES and path.is_file() and not SKIPPED.search(name):
            yield name, path


def prose(suffix, line):
    """Returns the parts of a line that people read, and whether the line is all prose."""
    if suffix == ".md":
        return [line], not line.lstrip().startswith("|")
    parts, rest = [], line
    comment = COMMENT[suffix].search(line)
    if comment and '"' not in line[: comment.start()] and "'" not in line[: comment.start()]:
        parts.append(comment[1])
        rest = line[: comment.start()]
    parts += [m[1] for m in STRING[suffix].finditer(rest)] if suffix in STRING else []
    return parts, bool(comment) and not line[: comment.start()].strip()


def exceptions():
    path = ROOT / "scripts/prose_exceptions.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    split = (line.split(": ", 1) for line in lines if line and not line.startswith("#"))
    return [(name, text) for name, text in split]


def findings(arguments):
    """Yields (file, line number, kind, what)."""
    allowed = exceptions()
    for name, path in files(arguments):
        mine = [text for file, text in allowed if file == name]
        in_code = False
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if path.suffix == ".md" and line.lstrip().startswith("```"):
                in_code = not in_code
                continue
            if in_code or any(text in line for text in mine):
                continue
            parts, is_prose = prose(path.suffix, line)
            for part in parts:
                for kind, pattern in PATTERNS.items():
                    for match in pattern.finditer(re.sub(r"`[^`]*`", "``", part)):
                        yield name, number, kind, match[0].lower()
            if is_prose and len(line) > WIDTH and "://" not in line and not TABLE.match(line):
                yield name, number, "width", f"{len(line)} characters"


def main():
    arguments = sys.argv[1:]
    count = "--count" in arguments
    found = list(findings([a for a in arguments if a != "--count"]))
    if count:
        kinds = collections.Counter(kind for _, _, kind, _ in found)
        words = collections.Counter(what for _, _, kind, what in found if kind != "width")
        places = collections.Counter("/".join(name.split("/")[:3]) for name, _, _, _ in found)
        for title, counter in ("kinds", kinds), ("words", words), ("places", places):
            print(f"{title}: " + ", ".join(f"{key} {value}" for key, value in counter.most_common(60)))
        return 0
    for name, number, kind, what in found:
        print(f"{name}:{number}: {kind}: {what}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
