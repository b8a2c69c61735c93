"""In which order the nodes of a compiled pipeline run on one machine."""

from collections.abc import Sequence
from typing import Any


def depth_first(nodes: Sequence[Any]) -> list[Any]:
    """Puts each node right behind one that it waits for, so that the stages of a ladder follow
    each other and what one leaves in memory serves the next.

    Args:
        nodes: of a compiled pipeline, in topological order.

    Returns:
        The same nodes in another topological order.
    """
    ordered: list[Any] = []
    seen: set[str] = set()

    def visit(node: Any) -> None:
        inner = node.pipeline_node
        name = inner.node_info.id
        if name in seen or not seen.issuperset(inner.upstream_nodes):
            return
        seen.add(name)
        ordered.append(node)
        for other in nodes:
            if name in other.pipeline_node.upstream_nodes:
                visit(other)

    for node in nodes:
        visit(node)
    return ordered
