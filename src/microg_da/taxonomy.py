"""Action ids with their names and groups: 80 of AVA, its 60 evaluated ones, 50 of MicroG-4M, 21 of JHMDB.

An action id is a number in 1…80, as defined by AVA (Gu et al., CVPR 2018; list v2.2). MicroG-4M (Wen et al., 2025)
annotates fifty of these ids and changes the meaning of three. Other data sets have their own numberings: ids of two
numberings are unrelated.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from microg_da.errors import InputError, unknown_name
from microg_da.files import write_text
from microg_da.types import SPLITS

MAX_AVA_ID = 80
MAX_ACTION_ID = 1000
"""The largest action id of any data set; Kinetics has 700 classes."""

CLASS_LIST = "classes.txt"
"""The file in a folder of clips that lists its classes, one per line, in the order of their ids."""

AVA = "AVA"
"""The numbering of AVA's action ids, which MicroG-4M and label map files use."""

GROUP_NAMES = {"PM": "person movement", "OM": "object manipulation", "PI": "person interaction", "AC": "action"}

_AVA_NAMES = (
    "bend/bow (at the waist)",
    "crawl",
    "crouch/kneel",
    "dance",
    "fall down",
    "get up",
    "jump/leap",
    "lie/sleep",
    "martial art",
    "run/jog",
    "sit",
    "stand",
    "swim",
    "walk",
    "answer phone",
    "brush teeth",
    "carry/hold (an object)",
    "catch (an object)",
    "chop",
    "climb (e.g., a mountain)",
    "clink glass",
    "close (e.g., a door, a box)",
    "cook",
    "cut",
    "dig",
    "dress/put on clothing",
    "drink",
    "drive (e.g., a car, a truck)",
    "eat",
    "enter",
    "exit",
    "extract",
    "fishing",
    "hit (an object)",
    "kick (an object)",
    "lift/pick up",
    "listen (e.g., to music)",
    "open (e.g., a window, a car door)",
    "paint",
    "play board game",
    "play musical instrument",
    "play with pets",
    "point to (an object)",
    "press",
    "pull (an object)",
    "push (an object)",
    "put down",
    "read",
    "ride (e.g., a bike, a car, a horse)",
    "row boat",
    "sail boat",
    "shoot",
    "shovel",
    "smoke",
    "stir",
    "take a photo",
    "text on/look at a cellphone",
    "throw",
    "touch (an object)",
    "turn (e.g., a screwdriver)",
    "watch (e.g., TV)",
    "work on a computer",
    "write",
    "fight/hit (a person)",
    "give/serve (an object) to (a person)",
    "grab (a person)",
    "hand clap",
    "hand shake",
    "hand wave",
    "hug (a person)",
    "kick (a person)",
    "kiss (a person)",
    "lift (a person)",
    "listen to (a person)",
    "play with kids",
    "push (another person)",
    "sing to (e.g., self, a person, a group)",
    "take (an object) from (a person)",
    "talk to (e.g., self, a person, a group)",
    "watch (a person)",
)  # fmt: skip

# AVA does not evaluate classes with fewer than 25 validation or test examples.
_AVA_NOT_EVALUATED = frozenset({2, 16, 18, 19, 21, 23, 25, 31, 32, 33, 35, 39, 40, 42, 44, 50, 53, 55, 71, 75})

_MICROG_IDS = (
    1, 3, 5, 6, 7, 8, 9, 10, 11, 12, 14, 17, 20, 22, 24, 26, 27, 28, 29, 30, 34, 36, 38, 41, 43, 45, 46, 47,
    48, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 72, 74, 76, 78, 79, 80,
)  # fmt: skip

# Names from the authors' label map and action statistics. Class 61 also holds all unspecified actions, so that a
# network's score for "watch TV" is a poor predictor of it.
_MICROG_CHANGED = {
    26: "dress/undress clothing",
    28: "operate spaceship",
    61: "watch (e.g., TV)/any unspecified action",
}


# JHMDB's actions in alphabetical order, each with the corresponding group of AVA.
_JHMDB = {
    "brush_hair": "OM",
    "catch": "OM",
    "clap": "PI",
    "climb_stairs": "PM",
    "golf": "OM",
    "jump": "PM",
    "kick_ball": "OM",
    "pick": "OM",
    "pour": "OM",
    "pullup": "PM",
    "push": "OM",
    "run": "PM",
    "shoot_ball": "OM",
    "shoot_bow": "OM",
    "shoot_gun": "OM",
    "sit": "PM",
    "stand": "PM",
    "swing_baseball": "OM",
    "throw": "OM",
    "walk": "PM",
    "wave": "PI",
}


@dataclass(frozen=True)
class Taxonomy:
    """An ordered list of action ids: class index ``i`` of a detector is the ``i``-th id.

    Attributes:
        name: the name of the taxonomy.
        ids: ascending action ids, in 1…80 for AVA's numbering, else in 1…1000.
        names: one name for each id.
        numbering: the numbering of the ids; only taxonomies of the same numbering share ids.
        own_groups: a key of :data:`GROUP_NAMES` for each id; empty for AVA's groups, which follow from the ids.
    """

    name: str
    ids: tuple[int, ...]
    names: tuple[str, ...]
    numbering: str = AVA
    own_groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.ids or len(self.ids) != len(self.names):
            raise InputError(f"taxonomy {self.name!r}: expected one name for each id, and at least one id")
        largest = MAX_AVA_ID if self.numbering == AVA else MAX_ACTION_ID
        if list(self.ids) != sorted(set(self.ids)) or not 1 <= self.ids[0] <= self.ids[-1] <= largest:
            raise InputError(f"taxonomy {self.name!r}: expected ascending ids without repetition in 1…{largest}")
        if self.own_groups and (len(self.own_groups) != len(self.ids) or not set(self.own_groups) <= set(GROUP_NAMES)):
            raise InputError(f"taxonomy {self.name!r}: expected one of the groups {', '.join(GROUP_NAMES)} for each id")

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, action_id: object) -> bool:
        return action_id in self._index

    @cached_property
    def _index(self) -> dict[int, int]:
        return {action_id: index for index, action_id in enumerate(self.ids)}

    def index(self, action_id: int) -> int:
        """Return the class index of an action id.

        Raises:
            InputError: if the taxonomy has no such id.
        """
        if action_id not in self._index:
            raise InputError(f"action id {action_id} is not one of the {len(self)} of taxonomy {self.name!r}")
        return self._index[action_id]

    def label(self, action_id: int) -> str:
        """Return the name of an action id."""
        return self.names[self.index(action_id)]

    def group(self, action_id: int) -> str:
        """Return the group of an action id, a key of :data:`GROUP_NAMES`."""
        return self.groups[self.index(action_id)]

    @property
    def groups(self) -> tuple[str, ...]:
        """Return the group of each id, in order."""
        return self.own_groups or tuple(group_of(action_id) for action_id in self.ids)


@dataclass(frozen=True)
class Transfer:
    """Differences between the classes of two taxonomies.

    Attributes:
        carried: ids with the same meaning in both.
        changed: ids in both with different meanings.
        dropped: ids of the source that the target lacks.
        added: ids of the target that the source lacks.
        source_index: for each class index of the target, the class index in the source, or None. These rows of the
            weight of a source head form the weight of a target head.
    """

    source: Taxonomy
    target: Taxonomy
    carried: tuple[int, ...]
    changed: tuple[int, ...]
    dropped: tuple[int, ...]
    added: tuple[int, ...]
    source_index: tuple[int | None, ...]


def group_of(action_id: int) -> str:
    """Return AVA's group of an id: 1–14 person movement, 15–63 object manipulation, 64–80 person interaction."""
    if action_id <= 14:
        return "PM"
    return "OM" if action_id <= 63 else "PI"


def transfer(source: Taxonomy | str, target: Taxonomy | str) -> Transfer:
    """Compare two taxonomies id by id; a class whose name differs counts as changed in meaning.

    Taxonomies of different numberings share no id.
    """
    source, target = get_taxonomy(source), get_taxonomy(target)
    comparable = source.numbering == target.numbering
    shared = [action_id for action_id in target.ids if comparable and action_id in source]
    changed = tuple(i for i in shared if source.label(i) != target.label(i))
    return Transfer(
        source=source,
        target=target,
        carried=tuple(i for i in shared if i not in changed),
        changed=changed,
        dropped=tuple(i for i in source.ids if i not in target or not comparable),
        added=tuple(i for i in target.ids if i not in shared),
        source_index=tuple(source.index(i) if i in shared else None for i in target.ids),
    )


def get_taxonomy(name: str | Path | Taxonomy) -> Taxonomy:
    """Return a taxonomy by name (``microg50``, ``ava80``, ``ava60``, ``jhmdb21``) or by path (label map or folder).

    The classes of a folder of clips are those of :func:`class_names`, with ids from 1.

    Example:
        >>> from microg_da import get_taxonomy
        >>> taxonomy = get_taxonomy("microg50")
        >>> len(taxonomy), taxonomy.names[taxonomy.ids.index(12)]
        (50, 'stand')

    Raises:
        InputError: for a name that is neither known nor a file or folder.
    """
    if isinstance(name, Taxonomy):
        return name
    if name in TAXONOMIES:
        return TAXONOMIES[str(name)]
    if Path(name).is_file():
        return _read_label_map(Path(name))
    if Path(name).expanduser().is_dir():
        return taxonomy_of_classes(class_names(Path(name).expanduser()), str(name))
    raise unknown_name("taxonomy", str(name), TAXONOMIES, where="(a name, a label map file or a folder of clips)")


def own_taxonomy(source: str) -> str | None:
    """Return the value of ``data.taxonomy`` that a SOURCE defines; None for the ids of AVA and MicroG-4M."""
    kind, _, rest = source.strip().partition(":")
    if kind == "folder":
        return rest.partition("?")[0]
    return {"jhmdb": "jhmdb21"}.get(kind)


def taxonomy_of_classes(names: tuple[str, ...], name: str) -> Taxonomy:
    """Return the taxonomy of a data set with one label per clip: ids from 1, one group.

    The numbering is a hash of the names in order, so that data sets with the same classes share ids.
    """
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
    return Taxonomy(name, tuple(range(1, len(names) + 1)), names, f"classes {digest}", ("AC",) * len(names))


def class_names(root: Path) -> tuple[str, ...]:
    """Return the classes of a folder of clips: the lines of ``classes.txt``, else the sorted class folders.

    Class folders are in ``root``, or in its folders ``train``, ``val`` and ``test`` if these exist.

    Raises:
        InputError: if there is no class, or ``classes.txt`` lists a class twice.
    """
    path = root / CLASS_LIST
    if not path.is_file():
        names = {folder.name for part in split_folders(root).values() for folder in class_folders(part)}
        if not names:
            raise InputError(
                f"{root}: the folder contains no class folders. Expected ROOT/CLASS/clip.mp4 or ROOT/train/CLASS/…."
            )
        return tuple(sorted(names))
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as a list of classes: {error}") from error
    listed = [name for name in lines if name]
    for name in listed:
        if listed.count(name) > 1:
            raise InputError(f"{path}: {name!r} is listed twice; each class needs one line")
    if not listed:
        raise InputError(f"{path}: the file lists no classes. Write the name of one class folder per line.")
    return tuple(listed)


def split_folders(root: Path) -> dict[str, Path]:
    """Return the folders ``train``, ``val`` and ``test`` that contain class folders, else ``root`` as ``""``."""
    found = {split: root / split for split in SPLITS if (root / split).is_dir()}
    return {split: path for split, path in found.items() if class_folders(path)} or {"": root}


def class_folders(part: Path) -> list[Path]:
    """Return the sorted folders in a folder, without hidden ones."""
    return sorted(path for path in part.iterdir() if path.is_dir() and not path.name.startswith("."))


@cache
def _read_label_map(path: Path) -> Taxonomy:
    """Read ``item { name: "…" id: 1 }`` files of AVA and MicroG-4M; ``label_id`` is read as ``id``."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as a label map: {error}") from error
    found: dict[int, str] = {}
    for item in re.finditer(r"(?:item|label)\s*\{(.*?)\}", text, flags=re.DOTALL):
        name = re.search(r'name:\s*"([^"]*)"', item[1])
        number = re.search(r"\b(?:label_)?id:\s*(\d+)", item[1])
        if not name or not number:
            line = text.count("\n", 0, item.start()) + 1
            raise InputError(f'{path}, line {line}: expected name: "…" and id: number in an item')
        found[int(number[1])] = name[1]
    if not found:
        raise InputError(
            f'{path}: the file has no item {{ name: "…" id: 1 }}. Expected a label map in AVA\'s pbtxt format.'
        )
    ids = tuple(sorted(found))
    names = tuple(found[i] for i in ids)
    # A file with the content of a known taxonomy is that taxonomy.
    known = (each for each in TAXONOMIES.values() if (each.ids, each.names) == (ids, names))
    counted = ids[-1] > MAX_AVA_ID and ids == tuple(range(1, len(ids) + 1))
    return next(known, None) or (taxonomy_of_classes(names, path.stem) if counted else Taxonomy(path.stem, ids, names))


def write_label_map(taxonomy: Taxonomy, path: Path) -> None:
    """Write a label map that :func:`get_taxonomy` reads back.

    Raises:
        InputError: if the file cannot be written.
    """
    named = zip(taxonomy.names, taxonomy.ids, strict=True)
    write_text(path, "".join(f'item {{\n  name: "{name}"\n  id: {number}\n}}\n' for name, number in named))


def _taxonomy(name: str, ids: tuple[int, ...], renamed: dict[int, str] | None = None) -> Taxonomy:
    renamed = renamed or {}
    return Taxonomy(name, ids, tuple(renamed.get(i, _AVA_NAMES[i - 1]) for i in ids))


_ALL_IDS = tuple(range(1, MAX_AVA_ID + 1))

TAXONOMIES = {
    "microg50": _taxonomy("microg50", _MICROG_IDS, _MICROG_CHANGED),
    "ava80": _taxonomy("ava80", _ALL_IDS),
    "ava60": _taxonomy("ava60", tuple(i for i in _ALL_IDS if i not in _AVA_NOT_EVALUATED)),
    "jhmdb21": Taxonomy(
        "jhmdb21", tuple(range(1, len(_JHMDB) + 1)), tuple(_JHMDB), numbering="JHMDB", own_groups=tuple(_JHMDB.values())
    ),
}
