#!/usr/bin/env python3
"""Fails on a circle of imports between the source files of a crate: circles.py [--self-test] [ROOT].

Every file below a crate's src/ that its lib.rs or main.rs declares is a node. There is an edge from a file to the file
that *defines* a name it uses, in a `use` line or in a path: re-exports and globs are followed. Declaring a module and
re-exporting from a submodule are not edges, nor are methods called on values. Tests (`#[cfg(test)]`) are left out.
Files in a loop of edges cannot be understood, tested or moved one by one, so a loop gives exit status 1."""
import contextlib
import re
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

# Comments (block comments one level deep), literals and lifetimes.
NO_CODE = re.compile(
    r"""//[^\n]* | /\*(?:[^*/]|\*(?!/)|/(?!\*)|/\*.*?\*/)*\*/ | \b[bc]?r(?P<hashes>\#*)".*?"(?P=hashes)
    | \b[bc]"(?:[^"\\]|\\.)*" | "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\u\{[^}]*\}|\\x..|\\.)' | '\w+""",
    re.VERBOSE | re.DOTALL,
)
TOKEN = re.compile(r"(?:r#)?\w+|::|\.\.|\S")
# An item of these kinds ends at its semicolon; others end at one, or with their block.
TO_SEMICOLON = {"use", "const", "static", "type", "let", "extern"}
ITEMS = {"fn", "struct", "enum", "trait", "type", "const", "static", "union"}
VISIBLE = {"pub", "unsafe", "async", "default"}
CLOSING = {"(": ")", "[": "]", "{": "}"}
ELSEWHERE = None  # what a name of another crate resolves to


def tokens_of(source):
    """The tokens of Rust code, without comments, literals and lifetimes."""
    return [token.removeprefix("r#") for token in TOKEN.findall(NO_CODE.sub(" ", source))]


def end_of_group(tokens, at):
    """Index after the bracket that closes the one at `at`."""
    opening, closing, depth = tokens[at], CLOSING[tokens[at]], 0
    for index in range(at, len(tokens)):
        depth += (tokens[index] == opening) - (tokens[index] == closing)
        if depth == 0:
            return index + 1
    return len(tokens)


def end_of_item(tokens, at):
    """Index after the item, statement, field or variant that begins at `at`."""
    start = at
    while start < len(tokens) and tokens[start] in VISIBLE:
        start += 1
        if tokens[start] == "(" and tokens[start - 1] == "pub":
            start = end_of_group(tokens, start)
    to_semicolon = tokens[start] in TO_SEMICOLON and tokens[start + 1] not in ("fn", "unsafe", "async")
    is_item = to_semicolon or tokens[start] in ITEMS | {"mod", "impl", "macro_rules", "const"}
    while at < len(tokens):
        if tokens[at] in CLOSING:
            block = tokens[at] == "{"
            at = end_of_group(tokens, at)
            if block and not to_semicolon:
                return at
        elif tokens[at] in ")]}":
            return at
        elif tokens[at] == ";" or (tokens[at] == "," and not is_item):
            return at + 1
        else:
            at += 1
    return at


def without_tests(tokens):
    """The tokens without attributes, and without the items that `#[cfg(test)]` or `#[cfg(all(test, ..))]` keeps for tests."""
    kept, at = [], 0
    while at < len(tokens):
        if tokens[at] != "#" or at + 1 == len(tokens) or tokens[at + 1] not in "[!":
            kept.append(tokens[at])
            at += 1
            continue
        inner = tokens[at + 1] == "!"
        end = end_of_group(tokens, at + 1 + inner) if tokens[at + 1 + inner] == "[" else at + 1
        condition = "".join(tokens[at + 1 + inner : end])
        at = end
        if condition == "[cfg(test)]" or condition.startswith("[cfg(all(test,"):
            if inner:
                return []
            while at < len(tokens) and tokens[at] == "#":
                at = end_of_group(tokens, at + 1)
            at = end_of_item(tokens, at)
    return kept


class Module:
    """One module: what it defines and imports, and the paths and names its code uses."""

    def __init__(self, file, parent):
        self.file, self.parent = file, parent
        self.children = defaultdict(list)
        self.items, self.macros = set(), set()
        self.uses = []  # (path, name it is known by, "*" for a glob; whether it is a re-export)
        self.paths, self.names, self.calls = set(), set(), set()

    def root(self):
        return self.parent.root() if self.parent else self

    def is_within(self, other):
        return self is other or (self.parent is not None and self.parent.is_within(other))

    def subtree(self):
        yield self
        for children in self.children.values():
            for child in children:
                yield from child.subtree()


def use_tree(tokens, prefix):
    """The paths of a `use` declaration, each with the name it is known by."""
    path, at = list(prefix), 0
    while at < len(tokens):
        if tokens[at] == "{":
            part, depth = [], 0
            for token in tokens[at + 1 : -1] + [","]:
                depth += (token == "{") - (token == "}")
                if token == "," and depth == 0:
                    yield from use_tree(part, path) if part else ()
                    part = []
                else:
                    part.append(token)
            return
        if tokens[at] == "*":
            yield tuple(path), "*"
            return
        if tokens[at] == "as":
            yield tuple(path), tokens[at + 1]
            return
        if tokens[at] != "::":
            path.append(tokens[at])
        at += 1
    if path and path[-1] == "self" and len(path) > 1:
        path.pop()
    yield tuple(path), path[-1]


def parse(module, tokens, folder):
    """Fills in a module from its tokens; submodules in files of their own are read from `folder`."""
    at, depth = 0, 0
    while at < len(tokens):
        token, following = tokens[at], tokens[at + 1] if at + 1 < len(tokens) else ""
        before = tokens[at - 1] if at else ""
        if token == "use" and before not in (".", "::"):
            at = parse_use(module, tokens, at, before)
        elif token == "mod" and following.isidentifier():
            at = parse_mod(module, tokens, at, folder)
        elif token == "macro_rules" and following == "!":
            module.macros.add(tokens[at + 2])
            at += 3
        elif token.isidentifier():
            if before in ITEMS and depth == 0:
                module.items.add(token)
            at = parse_path(module, tokens, at, before)
        else:
            depth += (token == "{") - (token == "}")
            at += 1


def parse_use(module, tokens, at, before):
    end = tokens.index(";", at)
    reexport = before == "pub" or (before == ")" and "pub" in tokens[max(0, at - 8) : at])
    for path, name in use_tree(tokens[at + 1 : end], []):
        module.uses.append((path, name, reexport))
    return end + 1


def parse_mod(module, tokens, at, folder):
    name, body = tokens[at + 1], tokens[at + 2]
    below = folder / name
    if body == "{":
        end = end_of_group(tokens, at + 2)
        child = Module(module.file, module)
        parse(child, tokens[at + 3 : end - 1], below)
    else:
        end = at + 3
        file = next((file for file in (below.with_suffix(".rs"), below / "mod.rs") if file.exists()), None)
        if file is None:
            sys.exit(f"circles.py: {module.file} declares the module {name}, which has no file in {folder}")
        child = module_in_file(file, below, module)
    module.children[name].append(child)
    return end


def parse_path(module, tokens, at, before):
    """Notes the name or path that begins at `at`; a field or method of a value is neither."""
    path = [tokens[at]]
    while tokens[at + 1 : at + 2] == ["::"] and at + 2 < len(tokens) and tokens[at + 2].isidentifier():
        path.append(tokens[at + 2])
        at += 2
    if before not in (".", "::"):
        if len(path) > 1:
            module.paths.add(tuple(path))
        module.names.add(path[0])
        if tokens[at + 1 : at + 2] == ["!"]:
            module.calls.add(path[0])
    return at + 1


def module_in_file(file, folder, parent=None):
    module = Module(file, parent)
    parse(module, without_tests(tokens_of(file.read_text())), folder)
    return module


def lookup(module, name, seen=frozenset()):
    """What a name means in a module: submodules, (file, name) of definitions, ELSEWHERE. Empty if it is not known."""
    if (module, name) in seen:
        return set()
    seen |= {(module, name)}
    found = set(module.children.get(name, ()))
    if name in module.items or name in module.macros:
        found.add((module.file, name))
    for path, known_as, _ in module.uses:
        if known_as == name:
            found |= resolve(module, path, seen) or {ELSEWHERE}
    if not found:
        for path, known_as, _ in module.uses:
            if known_as == "*":
                for target in resolve(module, path, seen):
                    found |= lookup(target, name, seen) if isinstance(target, Module) else set()
    return found


def resolve(module, path, seen=frozenset()):
    """What a path means that is written in a module; empty if its first part is not of this crate."""
    first, rest = path[0], path[1:]
    if first == "crate":
        meant = {module.root()}
    elif first == "self":
        meant = {module}
    elif first == "super":
        meant = {module.parent}
        while rest and rest[0] == "super":
            meant, rest = {next(iter(meant)).parent}, rest[1:]
    else:
        meant = lookup(module, first, seen)
    for name in rest:
        modules = [target for target in meant if isinstance(target, Module)]
        if not modules:
            return meant  # an associated item or a variant of what was found
        # A name that cannot be found in a module of ours is made there by a macro.
        meant = set().union(*(lookup(target, name, seen) or {(target.file, name)} for target in modules))
    return meant


def edges_of(crate):
    """(from, to) -> the names that tie the first file to the second."""
    edges = defaultdict(set)

    def tie(module, targets):
        for target in targets:
            if isinstance(target, tuple) and target[0] != module.file:
                edges[module.file, target[0]].add(target[1])

    for module in crate.subtree():
        for path, name, reexport in module.uses:
            targets = resolve(module, path)
            if name == "*":
                for source in [target for target in targets if isinstance(target, Module)]:
                    for used in module.names:
                        tie(module, lookup(source, used))
            elif not (reexport and is_own(module, path) and name not in module.names):
                tie(module, targets)
        for path in module.paths:
            tie(module, resolve(module, path))
        for name in module.calls:
            above = module.parent
            while above:
                tie(module, {(above.file, name)} if name in above.macros else ())
                above = above.parent
    return edges


def is_own(module, path):
    """Whether a path leads into a submodule of the module."""
    part = next((name for name in path if name != "self"), None)
    targets = resolve(module, path[:2] if path[0] == "crate" else path[:1])
    return part in module.children or any(isinstance(t, Module) and t.is_within(module) for t in targets)


def circles_of(edges):
    """The strongly connected components of two or more files (Tarjan), each sorted."""
    following = defaultdict(list)
    for source, target in edges:
        following[source].append(target)
    number, low, stack, circles = {}, {}, [], []

    def visit(file):
        number[file] = low[file] = len(number)
        stack.append(file)
        for target in following[file]:
            if target not in number:
                visit(target)
            if target in stack:
                low[file] = min(low[file], low[target])
        if low[file] == number[file]:
            circle = stack[stack.index(file) :]
            del stack[-len(circle) :]
            if len(circle) > 1:
                circles.append(sorted(circle))

    for file in list(following):
        if file not in number:
            visit(file)
    return circles


def report(root):
    """Prints every circle of the crates below `root`; returns how many there are, and how many files were read."""
    n_circles, files = 0, set()
    for start in sorted(root.glob("*/src/lib.rs")) + sorted(root.glob("*/src/main.rs")):
        crate = module_in_file(start, start.parent)
        files |= {module.file for module in crate.subtree()}
        edges = edges_of(crate)
        for circle in circles_of(edges):
            n_circles += 1
            print(f"circle of {len(circle)} files:")
            for (source, target), names in sorted(edges.items()):
                if source in circle and target in circle:
                    print(f"  {source.relative_to(root)} -> {target.relative_to(root)}: {', '.join(sorted(names))}")
    return n_circles, len(files)


TREE = {
    "a/src/lib.rs": "mod shape; mod draw; pub use shape::{Circle, area}; pub mod prelude { pub use crate::draw::*; }",
    "a/src/shape.rs": """mod circle; pub use circle::Circle;
        pub fn area(c: &Circle) -> f32 { /* draw::pen /* */ */ c.pen("crate::draw::pen", 'x', r#"super::draw::pen"#) }
        #[cfg(test)] mod tests { use crate::draw::pen; } #[cfg(test)] use crate::draw::ink;
        #[cfg(all(test, unix))] fn only_in_tests(pen: crate::draw::Pen) { crate::draw::pen() }""",
    "a/src/shape/circle.rs": "pub struct Circle<'a>(&'a f32); impl Circle<'_> { pub fn pen(&self) {} }",
    "a/src/draw.rs": "use crate::{Circle, area}; pub fn pen(c: Circle) { area(&c); std::mem::drop(c) } pub fn ink() {}",
}


def self_test():
    """Finds nothing in a tree without a circle, and one circle in the same tree with a tie of each kind."""
    ties = {
        "a path": ("a/src/shape/circle.rs", "fn f() { super::super::draw::pen() }"),
        "a re-export": ("a/src/shape/circle.rs", "use crate::area;"),
        "a glob": ("a/src/shape/circle.rs", "use crate::prelude::*; fn f() { ink() }"),
        "an imported module": ("a/src/shape/circle.rs", "use crate::draw as pencil; fn f() { pencil::ink() }"),
        "a macro": ("a/src/shape/circle.rs", "fn f() { say!() }"),
    }
    for kind, (file, code) in {"nothing": ("a/src/draw.rs", ""), **ties}.items():
        with tempfile.TemporaryDirectory() as folder:
            for name, source in TREE.items():
                place = Path(folder, name)
                place.parent.mkdir(parents=True, exist_ok=True)
                macro = "macro_rules! say { () => {} } mod circle;" if kind == "a macro" else "mod circle;"
                place.write_text(source.replace("mod circle;", macro, 1) + (code if name == file else ""))
            with contextlib.redirect_stdout(None):
                found, files = report(Path(folder))
            assert (found, files) == (int(kind in ties), 4), f"tied by {kind}: {found} circles in {files} files"
    print("circles.py: self-test passed")


def main():
    arguments = sys.argv[1:]
    if arguments == ["--self-test"]:
        return self_test()
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    n_circles, n_files = report(root)
    if n_circles:
        sys.exit(f"circles.py: {n_circles} circles; move what ties them into a file that both sides may use")
    print(f"{n_files} files without a circle")


if __name__ == "__main__":
    main()
