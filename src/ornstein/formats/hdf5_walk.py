"""What lies in an HDF5 file, by name, never in another. Objects of h5py's low level cost less than its usual ones."""

from collections.abc import Collection, Iterator
from typing import Any

import h5py

from ornstein.errors import InputError

JUMPS = 16  # links that may lead to links
Place = Any  # a DatasetID or GroupID of h5py's low level, which costs less than its objects


def datasets(
    item: Place | None, name: str = "", seen: set[int] | None = None
) -> Iterator[tuple[str, h5py.h5d.DatasetID]]:
    """All arrays at and below `item` by their path from there, such as ("observations/desired_goal", array). Groups are
    entered once. Raises `InputError` for links that lead to other files."""
    seen = set() if seen is None else seen
    if isinstance(item, h5py.h5d.DatasetID):
        yield name, item
    elif isinstance(item, h5py.h5g.GroupID) and (place := h5py.h5o.get_info(item).addr) not in seen:
        seen.add(place)
        for key, part in members(item):
            yield from datasets(part, f"{name}/{key}" if name else key, seen)


def members(group: h5py.h5g.GroupID, wanted: Collection[str] | None = None) -> Iterator[tuple[str, Place]]:
    """What a group holds by name, or the `wanted` of that, in order. Raises `InputError` as `member` does."""
    links: list[tuple[bytes, int]] = []
    group.links.iterate(lambda name, info: links.append((name, info.type)), info=True)
    for raw, kind in links:
        name = raw.decode(errors="surrogateescape")
        if wanted is None or name in wanted:
            found = h5py.h5o.open(group, raw) if kind == h5py.h5l.TYPE_HARD else inside(group, name)
            if found is not None:
                yield name, found


def inside(group: h5py.h5g.GroupID, name: str) -> Place | None:
    """What a group holds under a name; None if there is nothing. Raises `InputError` as `member` does."""
    raw = name.encode(errors="surrogateescape")
    if group.links.exists(raw) and group.links.get_info(raw).type == h5py.h5l.TYPE_HARD:
        return h5py.h5o.open(group, raw)
    found = member(h5py.Group(group), name)
    return None if found is None else found.id


def member(group: h5py.Group, name: str, jumps: int = 0) -> h5py.Group | h5py.Dataset | None:
    """What a group holds under a path; None if nothing. Raises `InputError` for a link that leads to another file, and
    for links that lead to links without end."""
    for key in filter(None, name.split("/")):
        link: Any = group.get(key, getlink=True) if isinstance(group, h5py.Group) else None
        where = f"links to another file, {link.filename}" if isinstance(link, h5py.ExternalLink) else ""
        if where or jumps > JUMPS:
            place = f"{group.name.rstrip('/')}/{key}"
            raise InputError(
                f"{place} {where or 'is a link that leads nowhere'}: expected arrays in the file itself; "
                "copy them into it"
            )
        if isinstance(link, h5py.SoftLink):
            group = member(group.file if link.path.startswith("/") else group, link.path, jumps + 1)
        else:
            group = group[key] if isinstance(link, h5py.HardLink) else None
        if group is None:
            return None
    return group
