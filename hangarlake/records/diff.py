"""What differs between two catalogs, node by node and attribute by attribute; no tree is read.

What differs within a tree is told by :func:`diff_trees`, when somebody asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Literal, TypeAlias

from hangarlake.records.canonical import canonical_json
from hangarlake.records.catalog import Catalog, CatalogNode, ColumnNode, ColumnSchema
from hangarlake.records.node import NodeRef
from hangarlake.records.renames import continuations
from hangarlake.records.tree_diff import TreeChange, count_changes, diff_trees, same_root

__all__ = [
    "MISSING",
    "AttributeChanges",
    "CatalogDiff",
    "Missing",
    "NodeDiff",
    "TreeChange",
    "count_changes",
    "diff_attributes",
    "diff_catalogs",
    "diff_trees",
    "same_json",
    "same_node",
    "split_metadata",
]


class Missing(Enum):
    """Says that an attribute is absent (``None`` is a value that it may have)."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING

AttributeChanges: TypeAlias = Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class NodeDiff:
    """What became of one column, array or group.

    Attributes
    ----------
    name : str
        In the new catalog; of a removed node, in the old one.
    old_name : str or None
        In the old catalog; ``None`` if it was added.
    state : "added", "removed", "modified" or "renamed"
        A node that was renamed *and* modified is "renamed", and `modified` is true.
    old, new : CatalogNode or None
        Both sides; their trees are compared by :func:`diff_trees` when somebody asks.
    schema : (ColumnSchema, ColumnSchema) or None
        Old and new, if it changed.
    metadata : (mapping, mapping) or None
        Old and new ``zarr.json`` without attributes, if it changed.
    attrs : mapping of str to (old, new)
        Changed attributes, `MISSING` where there is none. Empty for nodes that were added or removed.
    """

    name: str
    old_name: str | None
    state: Literal["added", "removed", "modified", "renamed"]
    old: CatalogNode | None = None
    new: CatalogNode | None = None
    schema: tuple[ColumnSchema, ColumnSchema] | None = None
    metadata: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None
    attrs: AttributeChanges = field(default_factory=dict)

    @property
    def type(self) -> str:
        """column, array or group; the same on both sides."""
        node = self.new or self.old
        assert node is not None
        return node.type

    @property
    def old_root(self) -> NodeRef | None:
        return self.old.root if self.old else None

    @property
    def new_root(self) -> NodeRef | None:
        return self.new.root if self.new else None

    @property
    def data_changed(self) -> bool:
        """Whether some key was added, removed or changed."""
        return not same_root(self.old_root, self.new_root)

    @property
    def modified(self) -> bool:
        """Whether a node that both sides have differs in more than its name."""
        if self.old is None or self.new is None:
            return False
        return self.data_changed or self.schema is not None or self.metadata is not None or bool(self.attrs)


@dataclass(frozen=True, slots=True)
class CatalogDiff:
    """What differs between two catalogs.

    Attributes
    ----------
    nodes : tuple of NodeDiff
        Sorted by name. A name that changed from one type to another occurs twice: removed, then added.
    attrs : mapping of str to (old, new)
        Changed attributes of the catalog itself.
    """

    nodes: tuple[NodeDiff, ...] = ()
    attrs: AttributeChanges = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not self.nodes and not self.attrs


def diff_catalogs(old: Catalog, new: Catalog, renames: Mapping[str, str]) -> CatalogDiff:
    """Compare two catalogs without reading a tree; always read as from `old` to `new`.

    Parameters
    ----------
    old, new : Catalog
    renames : mapping of str to str
        Old name → new name. What does not fit the catalogs is ignored.

    Returns
    -------
    CatalogDiff
        Empty exactly if the catalogs have one id.
    """
    if old is new or (renames and old.id == new.id):
        return CatalogDiff()
    goes_to = continuations(old.nodes, new.nodes, renames)
    goes_to = {a: b for a, b in goes_to.items() if old.nodes[a].type == new.nodes[b].type}
    kept = set(goes_to.values())
    found = [NodeDiff(n, n, "removed", old=node) for n, node in old.nodes.items() if n not in goes_to]
    found += [NodeDiff(n, None, "added", new=node) for n, node in new.nodes.items() if n not in kept]
    for old_name, name in goes_to.items():
        a, b = old.nodes[old_name], new.nodes[name]
        if old_name != name or not same_node(a, b):
            found.append(_node_diff(old_name, name, a, b))
    found.sort(key=lambda d: (d.name, d.state != "removed"))
    return CatalogDiff(tuple(found), diff_attributes(old.attrs, new.attrs))


def _node_diff(old_name: str, name: str, old: CatalogNode, new: CatalogNode) -> NodeDiff:
    schema = metadata = None
    if isinstance(old, ColumnNode) and isinstance(new, ColumnNode):
        schema = None if old.schema == new.schema else (old.schema, new.schema)
        attrs = diff_attributes(old.attrs, new.attrs)
    else:
        assert not isinstance(old, ColumnNode)
        assert not isinstance(new, ColumnNode)
        (old_core, old_attrs), (new_core, new_attrs) = split_metadata(old.metadata), split_metadata(new.metadata)
        attrs = diff_attributes(old_attrs or {}, new_attrs or {})
        # “No attributes” may be written as {} or not at all; ids tell these apart, so a diff must not be empty.
        respelled = not attrs and (old_attrs is None) != (new_attrs is None)
        if respelled or not same_json(old_core, new_core):
            metadata = (old_core, new_core)
    state: Literal["renamed", "modified"] = "modified" if old_name == name else "renamed"
    return NodeDiff(name, old_name, state, old, new, schema, metadata, attrs)


def diff_attributes(old: Mapping[str, Any], new: Mapping[str, Any]) -> AttributeChanges:
    """Return the attributes that differ: key → (old, new), `MISSING` where there is none."""
    keys = sorted({*old, *new})
    pairs = {key: (old.get(key, MISSING), new.get(key, MISSING)) for key in keys}
    return {key: pair for key, pair in pairs.items() if not same_json(*pair)}


def split_metadata(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """Split a ``zarr.json`` into what is no attribute, and the attributes (``None`` if it does not mention any)."""
    attrs = metadata.get("attributes")
    if not isinstance(attrs, Mapping):
        return dict(metadata), None
    return {key: value for key, value in metadata.items() if key != "attributes"}, attrs


def same_json(a: object, b: object) -> bool:
    """Tell whether two values are one value in canonical JSON. Unlike ``==`` this tells ``1``, ``1.0`` and ``True`` apart, as ids do."""
    if a is b:
        return True
    if a is MISSING or b is MISSING:
        return False
    # Equal texts mean equal values; only the order of members may hide equality, which is rare enough to sort for.
    return repr(a) == repr(b) or canonical_json(_plain(a)) == canonical_json(_plain(b))


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else value


def same_node(a: CatalogNode, b: CatalogNode) -> bool:
    """Tell whether two nodes hold the same content, as ids do."""
    if a is b:
        return True
    if not same_root(a.root, b.root):
        return False
    if isinstance(a, ColumnNode):
        return isinstance(b, ColumnNode) and a.schema == b.schema and same_json(a.attrs, b.attrs)
    return not isinstance(b, ColumnNode) and a.type == b.type and same_json(a.metadata, b.metadata)
