#!/usr/bin/env python3
"""Fails when a script, the Makefile or a test calls a program that nothing installs on a bare Debian.

Reads the commands out of shell scripts, the Makefile's recipes and the tests' `Command::new("...")`, and looks them up in
scripts/packages. What `make demo` and `make build` run has to do with the stages base and build; what only `make test`,
`make bench` and the like run has those of stage test too. A word that is no program on
this machine either is not one.
"""
import pathlib
import re
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Run after `scripts/setup.sh test` only.
TEST_ONLY = ["scripts/test.sh", "scripts/torture.sh", "scripts/postgres_source.sh", "scripts/regress.sh", "scripts/unit_tests.sh", "scripts/bench_against.sh", "tests/", "extension/tests/"]
# For a maintainer's own machine; it says itself what it needs.
SELF_SUFFICIENT = {"scripts/bare_root.sh": {"chroot", "debootstrap", "mount", "umount", "unshare"}}
# Containers and chroots refuse these, to root too.
REFUSED = {"chroot", "losetup", "mount", "umount", "unshare"}
BUILTINS = set(
    """. : [ [[ alias bg break builtin caller cd command compgen continue declare disown echo enable eval exec exit export
    false fg getopts hash help jobs kill let local mapfile popd printf pushd pwd read readarray readonly return set shift
    shopt source test times trap true type typeset ulimit umask unalias unset wait""".split()
)
KEYWORDS = set("! case coproc do done elif else esac fi for function if in select then time until while { }".split())
# What follows their options and assignments is a command too.
WRAPPERS = {"command", "env", "exec", "nice", "sudo", "time", "timeout", "xargs", "setsid", "nohup"}


def packages():
    """The programs by stage."""
    stages = {}
    for line in (ROOT / "scripts/packages").read_text().splitlines():
        if line and not line.startswith("#"):
            stage, _, programs, _ = (part.strip() for part in line.split("|", 3))
            stages.setdefault(stage, set()).update(program.split("=")[0] for program in programs.split())
    return stages


def without_here_documents(text):
    """Takes out the bodies of here documents: data, or scripts of another language."""
    out, lines = [], iter(text.split("\n"))
    for line in lines:
        out.append(line)
        for quote, word in re.findall(r"(?<!<)<<-?\s*(['\"]?)(\w+)\1", line):
            for body in lines:
                if body.strip() == word:
                    break
                # Unquoted, it still has command substitutions.
                if not quote:
                    out.append(" ".join(f"$({inner})" for inner in re.findall(r"\$\(([^()]*)\)", body)))
    return "\n".join(out)


class Scanner:
    """Finds the words of a shell script that are in the place of a command."""

    def __init__(self, text):
        self.text, self.at, self.found, self.functions = without_here_documents(text), 0, set(), set()
        self.functions.update(re.findall(r"^\s*(?:function\s+)?([\w-]+)\s*\(\)", self.text, re.M))

    def scan(self):
        self.commands(None)
        return self.found - self.functions - BUILTINS - KEYWORDS

    def peek(self, length=1):
        return self.text[self.at : self.at + length]

    def commands(self, end):
        """Reads commands up to the closing character."""
        is_first, wrapper = True, None
        while self.at < len(self.text):
            char = self.peek()
            if char == end:
                self.at += 1
                return
            if char == "#" and (self.at == 0 or self.text[self.at - 1] in " \t\n;("):
                self.at = (self.text.find("\n", self.at) + 1 or len(self.text) + 1) - 1
            elif self.peek(2) in ("$(", "<(", ">(") and self.peek(3) != "$((":
                self.at += 2
                self.commands(")")
                is_first = False
            elif char in "\n;&|(":
                if self.peek(2) == ";;":
                    self.at += 1
                    self.skip_pattern()
                    is_first, wrapper = True, None
                elif not (char == "&" and (self.text[self.at - 1] in "<>" or self.peek(2) == "&>")):
                    is_first, wrapper = True, None
                self.at += 1
            elif char in " \t)":
                self.at += 1
            elif self.peek(2) == "\\\n":
                self.at += 2
            elif char in "<>":
                self.at += 1
                while self.peek() in "<>&|- ":
                    self.at += 1
                self.word()
            else:
                word = self.word()
                if not is_first:
                    continue
                if word is None:
                    is_first = False
                    continue
                if re.match(r"^\w+(\[.*\])?\+?=", word):
                    continue
                if wrapper and (word.startswith("-") or (wrapper == "timeout" and re.match(r"^[\d.]+", word))):
                    # `command -v` only asks.
                    is_first = not (wrapper == "command" and word.startswith("-"))
                    continue
                if word == "case":
                    # Up to `in`, and then a pattern.
                    match = re.compile(r".*?\sin(?=\s)", re.S).match(self.text, self.at)
                    self.at = match.end() if match else self.at
                    self.skip_pattern()
                    continue
                if word in ("for", "select"):
                    match = re.compile(r"[^\n;]*").match(self.text, self.at)
                    inner = Scanner("")
                    inner.text = " ".join(f"$({part})" for part in re.findall(r"\$\(([^()]*)\)", match.group()))
                    self.found |= inner.scan()
                    self.at = match.end()
                    continue
                if word in KEYWORDS:
                    continue
                if re.match(r"^[a-z_][\w.+-]*$", word):
                    self.found.add(word)
                wrapper = word if word in WRAPPERS else None
                is_first = wrapper is not None

    def skip_pattern(self):
        """Over the pattern of a case, or up to its end."""
        match = re.compile(r";?\s*(#[^\n]*\s*)*(esac\b|\(?[^()]*?\))").match(self.text, self.at)
        if match:
            self.at = match.end() - 1 if match.group().endswith(")") else match.end()

    def word(self):
        """Reads a word; None if it is not a literal."""
        literal, is_literal = "", True
        while self.at < len(self.text):
            char = self.peek()
            if char in " \t\n;&|)<>" or (char == "(" and not literal.endswith("=")):
                break
            self.at += 1
            if char == "\\":
                literal += self.peek()
                self.at += 1
            elif char == "'":
                end = self.text.find("'", self.at)
                literal, self.at = literal + self.text[self.at : end], end + 1
            elif char == '"':
                is_literal &= self.quoted()
            elif char == "`":
                is_literal = False
                self.commands("`")
            elif char == "(":
                # An array.
                while self.at < len(self.text) and self.peek() != ")":
                    if self.peek() in " \t\n":
                        self.at += 1
                    else:
                        self.word()
                self.at += 1
            elif char == "$":
                is_literal = False
                self.expansion()
            else:
                literal += char
        return literal if is_literal or "=" in literal else None

    def quoted(self):
        """Reads up to the closing quote; whether it is all literal."""
        is_literal = True
        while self.at < len(self.text):
            char = self.peek()
            self.at += 1
            if char == '"':
                return is_literal
            if char == "\\":
                self.at += 1
            elif char == "$":
                is_literal = False
                self.expansion()
        return is_literal

    def expansion(self):
        """Reads what follows a dollar sign."""
        if self.peek(2) == "((":
            self.at = self.text.find("))", self.at) + 2
        elif self.peek() == "(":
            self.at += 1
            self.commands(")")
        elif self.peek() == "{":
            depth = 0
            while self.at < len(self.text):
                char = self.peek()
                self.at += 1
                if char == "$" and self.peek() in "({":
                    self.expansion()
                elif char == '"':
                    self.quoted()
                else:
                    depth += (char == "{") - (char == "}")
                    if depth == 0:
                        return
        else:
            match = re.compile(r"\w+|[@*#?$!-]").match(self.text, self.at)
            self.at = match.end() if match else self.at


def recipes(text):
    """The shell in a Makefile: recipes and $(shell ...)."""
    text = text.replace("\\\n", " ")
    shells = re.findall(r"\$\(shell (.*)\)", text)
    lines = re.findall(r"^\t[@-]*(.*)", text, re.M)
    out = "\n".join(shells + lines)
    return re.sub(r"\$\((?!shell)[^()]*(\([^()]*\))?[^()]*\)", "VALUE", out).replace("$$", "$")


def sourced_functions(path):
    """The functions of the scripts that a script sources, found by their file names."""
    functions = set()
    for name in re.findall(r"^\s*source .*?([\w.]+\.sh)", path.read_text(), re.M):
        for sourced in [*path.parent.glob(name), ROOT / "scripts" / name]:
            if sourced != path and sourced.exists():
                functions |= Scanner(sourced.read_text()).functions | sourced_functions(sourced)
    return functions


def called():
    """Every file with the programs that it calls, and whether only tests run it."""
    paths = sorted(path for suffix in ("*.sh", "*.rs") for path in ROOT.rglob(suffix))
    paths += [ROOT / "Makefile", ROOT / ".ci/run"]
    for path in paths:
        name = str(path.relative_to(ROOT))
        if re.match(r"(target|\.tools|\.git)/", name):
            continue
        text = path.read_text()
        if path.suffix == ".rs":
            found = set(re.findall(r'Command::new\("([^"/]+)"\)', text))
            found |= set(re.findall(r'&\["(python3|node|ruby|php|java|go|perl)",', text))
            # A library's own code starts no programs; its tests may.
            is_test = True
        else:
            found = Scanner(recipes(text) if name == "Makefile" else text).scan()
            found -= sourced_functions(path)
            is_test = any(name.startswith(prefix) for prefix in TEST_ONLY) or name == ".ci/run"
        yield name, found, is_test


def check(name, found, is_test, stages):
    """What is wrong with the programs that a file calls."""
    known = stages["base"] | stages["rust"] | stages["build"] | stages["special"] | SELF_SUFFICIENT.get(name, set())
    later = stages["test"] | stages["torture"]
    for program in sorted(found):
        if program in REFUSED and program not in SELF_SUFFICIENT.get(name, set()):
            yield f"{name} calls {program}, which containers and chroots refuse"
        elif program in later and not is_test:
            yield f"{name} calls {program}, which scripts/setup.sh installs for tests only (scripts/packages)"
        # The scanner sometimes takes a word of quoted text for a command. If a real program is
        # missing, the script fails by itself.
        elif program not in known | later and shutil.which(program):
            yield f"{name} calls {program}, which nothing installs on a bare Debian (scripts/packages)"


def self_test(stages):
    """The scanner finds what it is there for."""
    script = """
        #!/bin/sh
        # wget is not called here
        step() { printf 'jq %s' "$1"; }
        x=$(curl --fail "$(rsync a)") || { zstd; step lsof; }
        case $x in yq | fzf) htop ;; *) A=b xmllint <<EOF3 ;; esac
        nmap
EOF3
        for f in $(tree .); do timeout 5 socat "$f" >strace 2>&1; done
        sudo -n env C=d telnet && command -v gdb | column; { ! dig; } &
        echo "ltrace $(nc -l)" 'ngrep'
        curl --version >/dev/null
    """
    want = set("curl rsync zstd htop xmllint tree timeout socat sudo env telnet column dig nc".split())
    found = Scanner(script).scan()
    assert found == want, f"the scanner reads {sorted(found ^ want)} wrongly"
    faults = list(check("scripts/demo.sh", {"curl", "grep"}, False, stages))
    assert len(faults) == 1 and "curl" in faults[0], faults
    assert not list(check("tests/foreign/setup.sh", {"curl", "node"}, True, stages))
    assert list(check("tests/foreign/setup.sh", {"unshare"}, True, stages))


def main():
    stages = packages()
    self_test(stages)
    faults, count = [], 0
    for name, found, is_test in called():
        count += len(found)
        faults += check(name, found, is_test, stages)
    # require() loads ES modules, which packages are more and more, from Node 22 on.
    for path in [*ROOT.glob("tests/foreign/*.*js"), *ROOT.glob("docs/receivers/*.*js")]:
        if re.search(r"\brequire\(", path.read_text()):
            faults.append(f"{path.relative_to(ROOT)} calls require(), which cannot load ES modules in Debian's Node; use import")
    for fault in faults:
        print(f"check_programs: {fault}", file=sys.stderr)
    if not faults:
        print(f"check_programs: {count} calls of programs, all of them installed")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
