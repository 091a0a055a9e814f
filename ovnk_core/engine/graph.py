"""The graph: which node reads and writes what, in which order nodes run, and how that looks.

Floors are computed from declarations alone. A table is ready when all its writers have run; a node's floor is one
above the highest table it reads. A cycle is a wiring bug and stops construction.
"""

from __future__ import annotations

from collections.abc import Sequence

from ovnk_core.engine.relation import RelationClass
from ovnk_core.engine.rule import Rule
from ovnk_core.engine.table import AnyTable, SetTable
from ovnk_core.errors import FloorError

Node = Rule | RelationClass


def inputs_of(node: Node) -> tuple[AnyTable, ...]:
    if isinstance(node, Rule):
        return (node.driver, *node.reads)
    found: tuple[AnyTable, ...] = node.inputs
    return found


def name_of(node: Node) -> str:
    return node.name


class Graph:
    """``tables`` in name order of first mention, ``nodes`` in running order, ``floors`` by node name.

    ``inputs`` are input tables that exist even while no node reads them.
    """

    def __init__(self, nodes: Sequence[Node], inputs: Sequence[AnyTable] = ()) -> None:
        self.tables: dict[str, AnyTable] = {table.name: table for table in inputs}
        writers: dict[str, list[Node]] = {}
        for node in nodes:
            for table in (*inputs_of(node), *node.out):
                known = self.tables.setdefault(table.name, table)
                if known is not table:
                    raise FloorError(f"two tables are called {table.name}")
            for table in node.out:
                writers.setdefault(table.name, []).append(node)
        self.writers = writers
        self.floors: dict[str, int] = {}
        self._table_floor: dict[str, int] = {}
        for node in nodes:
            self._floor(node, ())
        order = {name_of(node): position for position, node in enumerate(nodes)}
        if len(order) != len(nodes):
            raise FloorError("two nodes share one name")
        self.nodes: tuple[Node, ...] = tuple(
            sorted(nodes, key=lambda node: (self.floors[name_of(node)], order[name_of(node)]))
        )

    def _floor(self, node: Node, path: tuple[str, ...]) -> int:
        name = name_of(node)
        if name in path:
            raise FloorError(f"the graph has a cycle: {' -> '.join((*path[path.index(name) :], name))}")
        if name not in self.floors:
            below = [
                self._floor(writer, (*path, name))
                for table in inputs_of(node)
                for writer in self.writers.get(table.name, ())
            ]
            self.floors[name] = 1 + max(below, default=0)
        return self.floors[name]

    def describe(self, style: str = "text") -> str:
        """The graph as ``text`` (one line per node, by floor) or ``dot`` (Graphviz)."""
        return self._dot() if style == "dot" else self._text()

    def _text(self) -> str:
        lines: list[str] = []
        for node in self.nodes:
            reads = ", ".join(table.name for table in inputs_of(node))
            writes = ", ".join(table.name for table in node.out)
            kind = "rule" if isinstance(node, Rule) else "relation"
            lines.append(f"floor {self.floors[name_of(node)]:>2}  {kind:<8} {name_of(node)}: {reads} -> {writes}")
        return "\n".join(lines) + "\n"

    def _dot(self) -> str:
        lines = ["digraph ovnk {", "  rankdir=LR;", '  node [fontname="sans-serif"];']
        for table in self.tables.values():
            shape = "folder" if isinstance(table, SetTable) else "cylinder"
            lines.append(f'  "{table.name}" [shape={shape}];')
        for node in self.nodes:
            style = "box" if isinstance(node, Rule) else "hexagon"
            lines.append(f'  "{name_of(node)}" [shape={style}];')
            if isinstance(node, Rule):
                lines.append(f'  "{node.driver.name}" -> "{name_of(node)}" [style=bold];')
                lines += [f'  "{table.name}" -> "{name_of(node)}" [style=dashed];' for table in node.reads]
            else:
                lines += [f'  "{table.name}" -> "{name_of(node)}";' for table in inputs_of(node)]
            lines += [f'  "{name_of(node)}" -> "{table.name}";' for table in node.out]
        return "\n".join([*lines, "}"]) + "\n"
