"""docs/python.md tells of every public name, and every public function tells of itself."""

import ast
import re

import pytest
from conftest import PACKAGE, SOURCE

DOCUMENT = (SOURCE / "docs" / "python.md").read_text()
MODULES = {"gpuroom": PACKAGE / "gpuroom" / "__init__.py",
           "gpuroom.torch": PACKAGE / "gpuroom" / "torch" / "__init__.py"}


def public(module):
    """The names in a module's __all__, read without importing it."""
    for node in ast.parse(MODULES[module].read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            return ast.literal_eval(node.value)
    raise AssertionError(f"{module} has no __all__")


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_document(module):
    missing = [name for name in public(module) if not re.search(rf"\b{name}\b", DOCUMENT)]
    assert public(module) and not missing


@pytest.mark.parametrize("path", sorted((PACKAGE / "gpuroom").rglob("*.py")), ids=lambda path: path.name)
def test_every_public_function_and_class_has_a_docstring(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    bare = [node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))
            and not node.name.startswith("_") and node in tree.body and not ast.get_docstring(node)]
    assert not bare


def test_the_package_is_valid_for_python_3_9():
    for path in (PACKAGE / "gpuroom").rglob("*.py"):
        ast.parse(path.read_text(), str(path), feature_version=(3, 9))
        assert "from __future__ import annotations" in path.read_text()
