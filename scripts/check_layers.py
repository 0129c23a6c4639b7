#!/usr/bin/env python3
"""Reports how the modules of each crate depend on one another.

For each crate it prints the top-level modules in layers (a module only imports modules of lower
layers), the circles between modules, the type names that are defined more than once, and the
statements that belong into a .sql file because they have four lines or more. Exits with 1 if there
is one of the last three.

usage: scripts/check_layers.py [CRATE…]    default: all crates of the workspace
"""

import collections
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
STRING = re.compile(r'r(#*)".*?"\1|"(?:\\.|[^"\\])*"', re.S)
TYPE = re.compile(r"^(?:pub(?:\([^)]*\))?\s+)?(?:struct|enum|trait|union|type)\s+([A-Z]\w*)", re.M)
TESTS = re.compile(r"#\[cfg\((?:any\()?test\b.*?\)\]\s*(?:pub\s+)?mod\s+\w+\s*\{", re.S)
STATEMENT = re.compile(r'"\s*(?:select|insert|update|delete|with|merge)\b[^"]*"', re.S)
STATEMENT_LINES_MAX = 3
# Associated types of traits, and names that the language or a macro gives a meaning.
TYPE_EXCEPTIONS = {"Err", "Error", "Item", "Output", "Target", "IntoIter", "Result"}


def crates():
    """Yields (name, source directory) of the workspace's crates."""
    for manifest in sorted(ROOT.glob("*/Cargo.toml")) + sorted(ROOT.glob("crates/*/Cargo.toml")):
        source = manifest.parent / "src"
        if source.is_dir() and manifest.parent.name not in ("tests", "fuzz"):
            yield manifest.parent.name, source


def without_tests(text):
    """Returns the source without comments, strings, and inline test modules."""
    text = STRING.sub('""', COMMENT.sub("", text))
    while match := TESTS.search(text):
        depth, at = 1, match.end()
        while depth and at < len(text):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            at += 1
        text = text[: match.start()] + text[at:]
    return text


def long_statements(source):
    """Yields the places of the statements in the crate's Rust files that have too many lines."""
    for path in sorted(source.rglob("*.rs")):
        text = path.read_text()
        if "tests" in path.parts or path.name == "tests.rs":
            continue
        tests = TESTS.search(text)
        for match in STATEMENT.finditer(text, 0, tests.start() if tests else len(text)):
            if match.group().strip('"').strip().count("\n") >= STATEMENT_LINES_MAX:
                line = text.count("\n", 0, match.start()) + 1
                yield f"{path.relative_to(ROOT)}:{line}"


def expand(tree):
    """Yields the paths of a use tree such as `crate::{a::b, c}`."""
    tree = tree.strip()
    brace = tree.find("{")
    if brace < 0:
        yield tree
        return
    prefix, inner = tree[:brace], tree[brace + 1 : tree.rfind("}")]
    depth, part = 0, ""
    for character in inner + ",":
        if character == "," and depth == 0:
            if part.strip():
                for path in expand(part):
                    yield prefix + path
            part = ""
            continue
        depth += {"{": 1, "}": -1}.get(character, 0)
        part += character


def paths(text):
    """Yields every path in a use, and every other that begins with `crate::` or `super::`."""
    for match in re.finditer(r"\buse\s+([^;]+);", text):
        yield from (p.strip() for p in expand(" ".join(match[1].split())))
    for match in re.finditer(r"(?<![\w:])(?:crate|super)(?:::[a-z_]\w*)+", re.sub(r"\buse\s+[^;]+;", "", text)):
        yield match[0]


def is_test(path):
    return path.stem in ("tests", "world") and "tests" in path.parts or path.stem.endswith("tests") or "tests" in path.parts[-3:]


def scan(source):
    """Returns the imports between top-level modules and the places of each type name."""
    imports, types = collections.defaultdict(set), collections.defaultdict(list)
    modules = {p.stem if p.is_file() else p.name for p in source.iterdir() if p.suffix == ".rs" or p.is_dir()}
    for path in sorted(source.rglob("*.rs")):
        local = path.relative_to(source)
        if is_test(local):
            continue
        module = local.parts[0].removesuffix(".rs")
        if module in ("main", "bin"):
            continue
        text = without_tests(path.read_text())
        for name in TYPE.findall(text):
            if name not in TYPE_EXCEPTIONS:
                types[name].append(str(local))
        if module == "lib":
            continue
        imports[module]  # a module without imports is a module too
        for used in paths(text):
            steps = used.split("::")
            if steps[0] == "crate" and len(steps) > 1:
                target = steps[1].split(" ")[0]
                if target in modules and target != module:
                    imports[module].add(target)
    return imports, types


def rooms(source):
    """Returns the imports between the modules of each folder below the top, by folder."""
    files = {}
    for path in sorted(source.rglob("*.rs")):
        local = path.relative_to(source)
        if not is_test(local) and len(local.parts) > 1 and local.parts[0] != "bin":
            parts = local.with_suffix("").parts
            files[parts[:-1] if parts[-1] == "mod" else parts] = path
    modules = set(files) | {name[:end] for name in files for end in range(1, len(name))}
    result = collections.defaultdict(lambda: collections.defaultdict(set))
    for name, path in files.items():
        for used in paths(without_tests(path.read_text())):
            parts, base = used.split("::"), list(name)
            if parts[0] == "crate":
                base = []
            while parts[0] in ("crate", "self", "super"):
                base = base[:-1] if parts.pop(0) == "super" else base
                if not parts:
                    break
            target = tuple(base + [part.split(" ")[0] for part in parts])
            same = next((i for i, (a, b) in enumerate(zip(name, target)) if a != b), None)
            if same and target[: same + 1] in modules:
                result["::".join(name[:same])][name[same]].add(target[same])
    return result


def circles(imports):
    """Returns the strongly connected components with more than one module (Tarjan)."""
    index, low, stack, found, order = {}, {}, [], [], iter(range(1 << 30))

    def visit(node):
        index[node] = low[node] = next(order)
        stack.append(node)
        for other in imports.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(sorted(part))

    for node in sorted(imports):
        if node not in index:
            visit(node)
    return found


def layers(imports):
    """Returns the modules by layer, the lowest first; modules of a circle share the last."""
    rest, result = dict(imports), []
    while rest:
        layer = sorted(m for m, used in rest.items() if not (used & rest.keys()))
        if not layer:
            result.append(sorted(rest))
            break
        result.append(layer)
        for module in layer:
            del rest[module]
    return result


def main():
    failed = False
    for name, source in crates():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        imports, types = scan(source)
        print(f"{name}: {len(imports)} modules")
        for number, layer in enumerate(layers(imports)):
            print(f"  {number}: {' '.join(layer)}")
        for circle in circles(imports):
            failed = True
            print(f"  circle: {' '.join(circle)}")
            for module in circle:
                print(f"    {module} -> {' '.join(sorted(imports[module] & set(circle)))}")
        for room, used in sorted(rooms(source).items()):
            for circle in circles(used):
                failed = True
                print(f"  circle in {room}: {' '.join(circle)}")
                for module in circle:
                    print(f"    {module} -> {' '.join(sorted(used[module] & set(circle)))}")
        for type_name, places in sorted(types.items()):
            if len(places) > 1:
                failed = True
                print(f"  {type_name} is defined {len(places)} times: {' '.join(places)}")
        for place in long_statements(source):
            failed = True
            print(f"  {place}: move the statement into a .sql file")
    return failed


if __name__ == "__main__":
    sys.exit(main())
