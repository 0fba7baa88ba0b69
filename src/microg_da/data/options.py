"""SOURCE: the text that says where data comes from, ``name:path?key=value&key=value``, and its options."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import ClassVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from microg_da.config import Config
from microg_da.data import DATA, DRAWN
from microg_da.errors import InputError, first_line, unknown_name
from microg_da.registry import is_path
from microg_da.taxonomy import AVA, Taxonomy
from microg_da.types import FOOTAGE
from microg_da.zoo import usual_test_side


@dataclass(frozen=True)
class Source:
    """A SOURCE taken apart.

    Attributes:
        kind: a name in :data:`microg_da.data.DATA`, or ``package.module:function``.
        path: a folder, or for ``synthetic`` a domain.
        options: what follows ``?``, still text.
    """

    kind: str
    path: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def is_drawn(self) -> bool:
        """Whether clips are drawn by the simulator, not read from files."""
        return self.kind == DRAWN

    @property
    def is_outside(self) -> bool:
        """Whether code of another package opens the data."""
        return not DATA.is_own(self.kind)

    def __str__(self) -> str:
        options = "&".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.kind}:{self.path}" + (f"?{options}" if options else "")


_EARLIER_NAMES = {"domain": "footage"}
"""Options that had another name in earlier versions, and still may."""


def parse_source(text: str) -> Source:
    """Take a SOURCE apart.

    Raises:
        InputError: if it is neither of the form ``name:path?key=value`` nor ``package.module:function:path?key=value``,
            or the name is unknown.
    """
    kind, colon, rest = text.strip().partition(":")
    if not colon or not kind:
        raise InputError(
            f"{text!r} is not a data source; write name:path, e.g. synthetic:earth or microg4m:/data/MicroG-4M"
        )
    path, question, query = rest.partition("?")
    function, second_colon, after = path.partition(":")
    if kind not in DATA and second_colon and is_path(f"{kind}:{function}"):
        kind, path = f"{kind}:{function}", after
    DATA.entry(kind, where=repr(text))
    if not path:
        raise InputError(f"{text!r}: nothing after '{kind}:'; write {kind}:PATH")
    options: dict[str, str] = {}
    for pair in query.split("&") if question else []:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise InputError(f"{text!r}: {pair!r} is not key=value; options are written ?key=value&key=value")
        if kind != DRAWN:
            key = _EARLIER_NAMES.get(key, key)
        if key in options:
            raise InputError(f"{text!r}: option {key!r} is given twice")
        options[key] = value
    return Source(kind, path, options)


def check_drawn(source: str, taxonomy: Taxonomy) -> None:
    """Refuse classes that embedded clips cannot have: their ids are AVA's.

    Raises:
        InputError: if the taxonomy numbers its actions in another way.
    """
    if taxonomy.numbering != AVA:
        raise InputError(
            f"{source}: embedded clips have AVA's action ids; those of taxonomy {taxonomy.name} mean something else. "
            f"Give both domains data with the same classes."
        )


@dataclass
class FileOptions:
    """Options after ``?`` in a SOURCE that is read from files.

    Attributes:
        scheme: a split scheme (``python -m microg_da split --help``), ``package.module:function`` or a split file;
            ``auto`` for the scheme of the kind of data: ``published`` for AVA and MicroG-4M.
        fold: the fold or film that tests, for the schemes that have folds.
        folds: how many folds.
        split_seed: seed of the stratification.
        footage: ``real``, ``simulated`` or ``all``.
        boxes: ``ground-truth``, or ``detected`` for the boxes of a person detector. For ``folder:``, ``whole`` for the
            whole frame, ``detected`` for ``boxes.csv`` in the folder, or a table of boxes. ``auto`` is the first.
        score_threshold: detected boxes below it are left out.
        decode: ``frames`` for folders of JPEG, ``video`` for video files, ``auto`` for what is there.
        fps: frames per second, where the files do not say or to check what they say.
        stamp: what keyframes are given in, ``frames`` from 1 or ``seconds``; ``auto`` as the kind of data has it.
        start: the second at which stored frames begin, where keyframes are given in seconds.
        window: ``centred`` on the keyframe, or ``published``: one frame late, as MicroG-4M's authors have it.
        on_error: ``raise``, or ``skip`` clips that cannot be read.
        min_side, max_side: short side of training frames before the crop; by default ``augment.scale`` times 8/7 of
            the crop.
        test_side: short side of test frames; by default 8/7 of ``image_size``.
        keyframes: how many keyframes each clip of ``jhmdb:`` has.
        source_video: a regular expression that finds the source video in the name of each clip of ``folder:``.
        gravity: ``as-filmed``, or ``rolled`` to turn the camera of every video by a random angle.
        gravity_rolls: the distribution of that angle, see :meth:`~microg_da.transforms.camera.RollDistribution.parse`.
        gravity_seed: of those angles.
        outside: what becomes of people outside a training crop: ``drop``, or ``keep`` with an empty box, as MicroG-4M's
            authors have it.
        val_view: what is shown of validation frames: the ``whole`` frame, or the ``centre`` square, as MicroG-4M's
            authors have it. People outside the square keep an empty box.
    """

    scheme: str = "auto"
    fold: str | None = None
    folds: int = 5
    split_seed: int = 0
    footage: str = "all"
    boxes: str = "auto"
    score_threshold: float = 0.8
    decode: str = "auto"
    fps: float | None = None
    stamp: str = "auto"
    start: float | None = None
    window: str = "centred"
    on_error: str = "raise"
    min_side: int | None = None
    max_side: int | None = None
    test_side: int | None = None
    keyframes: int = 1
    source_video: str | None = None
    gravity: str = "as-filmed"
    gravity_rolls: str = "uniform"
    gravity_seed: int = 0
    outside: str = "drop"
    val_view: str = "whole"

    KINDS: ClassVar[dict[str, tuple[str, ...]]] = {"keyframes": ("jhmdb",), "source_video": ("folder",)}
    """Options that some kinds of data have and others have not."""

    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {
        "footage": ("all", *FOOTAGE),
        "decode": ("auto", "frames", "video"),
        "stamp": ("auto", "frames", "seconds"),
        "window": ("centred", "published"),
        "gravity": ("as-filmed", "rolled"),
        "on_error": ("raise", "skip"),
        "outside": ("drop", "keep"),
        "val_view": ("whole", "centre"),
    }


_BOXES: dict[str, tuple[str, ...]] = {"jhmdb": ("auto", "ground-truth"), "folder": ()}
"""The values of ``boxes`` for some kinds of data; a folder's may be any file."""


def parse_options(values: dict[str, object], where: str, kind: str) -> FileOptions:
    """Options from text or typed values.

    Args:
        values: the options by name.
        where: the SOURCE, for the message.
        kind: the kind of data, a name in :data:`microg_da.data.DATA`.

    Raises:
        InputError: for an unknown option or an impossible value, naming it and the valid ones.
    """
    kinds = FileOptions.KINDS
    names = [each.name for each in fields(FileOptions) if kind in kinds.get(each.name, (kind,))]
    for earlier, name in _EARLIER_NAMES.items():
        if earlier in values:
            values = {name: values[earlier], **{key: value for key, value in values.items() if key != earlier}}
    for name in values:
        if name == "flip":
            raise InputError(f"{where}: flip is not an option of a SOURCE. Set augment.flip={values[name]} instead.")
        if name not in names:
            raise unknown_name("option", name, names, where)
    try:
        options = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(FileOptions), values))
    except OmegaConfBaseException as error:
        key = str(error.key)
        raise InputError(f"{where}: {key}={values.get(key)!r}: {first_line(error)}") from error
    assert isinstance(options, FileOptions)
    for name, choices in {
        **FileOptions.CHOICES,
        "boxes": _BOXES.get(kind, ("auto", "ground-truth", "detected")),
    }.items():
        if choices and getattr(options, name) not in choices:
            raise unknown_name(f"value of {name}", getattr(options, name), choices, where)
    if options.keyframes < 1:
        raise InputError(f"{where}: keyframes={options.keyframes}: expected 1 or more.")
    return options


def target_test_side(config: Config) -> int:
    """Short side of the frames in which a configuration tests target clips that are read from files, in pixels.

    The option of the SOURCE prevails over ``data.target_options``, and both over ``data.test_side``. A target that is
    drawn has no such options.

    Raises:
        InputError: if the SOURCE or its option is wrong.
    """
    source = parse_source(config.data.target)
    given: dict[str, object] = {"test_side": config.data.test_side}
    if not source.is_drawn:
        given = {**config.file_options("target"), **source.options}
    asked = parse_options({"test_side": given["test_side"]}, where=str(source), kind=source.kind)
    return asked.test_side or usual_test_side(config.data.image_size)
