"""The architecture page names modules and objects that exist, and its stack of packages is the one that is checked."""

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "src" / "microg_da"
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_hop_exists():
    hops = re.findall(r"`([a-z_/]+\.py):(\w+)`", PAGE)
    assert len(hops) > 15
    for file, name in hops:
        tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
        assert name in defined, f"{file}: {name}"


def test_every_package_and_module_has_its_place_in_the_stack():
    stack = PAGE.split("```")[1]
    named = set(re.findall(r"\b[a-z]+\b", re.sub(r"\s{2,}[a-z].*$", "", stack, flags=re.MULTILINE)))
    named |= set(re.findall(r"([a-z]+)/", stack)) | {"taxonomy", "types"}
    existing = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    existing |= {path.stem for path in PACKAGE.glob("[a-z]*.py")}
    assert existing <= named | {"registry", "terminal", "logs", "processes", "allocator", "errors"}
