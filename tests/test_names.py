"""One word per thing: the table of words in the architecture guide, and names of classes."""

import ast
import collections
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = {path: ast.parse(path.read_text()) for path in (ROOT / "itk_ncr").rglob("*.py")}


def words():
    """Rows of the table: the word, and the words that are not used for the same thing."""
    page = (ROOT / "docs/architecture.md").read_text()
    table = page.split("## Words", 1)[1].split("\n## ", 1)[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| `")]
    return [tuple(re.findall(r"`(\w+)`", cell) for cell in (row[0], row[2])) for row in rows]


def names():
    """Every name of a function, class, argument or attribute that the library defines."""
    for path, tree in SOURCES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.arg):
                yield node.arg, path
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield node.name, path
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id, path


def test_words_of_the_table_are_used_and_their_rivals_are_not():
    defined = collections.defaultdict(set)
    for name, path in names():
        defined[name].add(path.relative_to(ROOT).as_posix())
    rows = words()
    assert len(rows) > 8
    for used, rivals in rows:
        assert all(word in defined for word in used), used
        assert {word: defined[word] for word in rivals if word in defined} == {}


def test_no_two_public_classes_share_a_name():
    places = collections.defaultdict(list)
    for path, tree in SOURCES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path.relative_to(ROOT).as_posix())
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
