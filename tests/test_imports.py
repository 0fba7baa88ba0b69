"""No module is in a circle of imports. `make lint` checks the order of packages; it cannot see a package's own module."""

import grimp
import pytest
from scipy.sparse import lil_matrix
from scipy.sparse.csgraph import connected_components


def circles(graph: grimp.ImportGraph) -> set[frozenset[str]]:
    """The sets of modules that import one another, imports inside functions counted."""
    modules = sorted(graph.modules)
    place = {module: number for number, module in enumerate(modules)}
    imports = lil_matrix((len(modules), len(modules)))
    for module in modules:
        for imported in graph.find_modules_directly_imported_by(module):
            imports[place[module], place[imported]] = 1
    count, part = connected_components(imports.tocsr(), directed=True, connection="strong")
    found = [frozenset(module for module in modules if part[place[module]] == number) for number in range(count)]
    return {circle for circle in found if len(circle) > 1}


def test_no_circle_of_modules():
    assert circles(grimp.build_graph("microg_da", cache_dir=None)) == set()


@pytest.mark.parametrize("back", [True, False])
def test_a_circle_is_found(back):
    graph = grimp.ImportGraph()
    for importer, imported in [("a", "b"), ("b", "c"), *([("c", "a")] if back else [])]:
        graph.add_import(importer=importer, imported=imported)
    assert circles(graph) == ({frozenset("abc")} if back else set())
