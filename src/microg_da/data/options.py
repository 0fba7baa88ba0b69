"""SOURCE: the text ``name:path?key=value&key=value`` that names data, and its options."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import ClassVar, TypedDict

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from microg_da.config import Config
from microg_da.data import DATA, DRAWN
from microg_da.errors import InputError, first_line, unknown_name
from microg_da.registry import is_path
from microg_da.taxonomy import AVA, Taxonomy
from microg_da.types import FOOTAGE, Split
from microg_da.zoo import usual_test_side


@dataclass(frozen=True)
class Source:
    """A parsed SOURCE.

    Attributes:
        kind: a name in :data:`microg_da.data.DATA`, or ``package.module:function``.
        path: a folder, or for ``synthetic`` a domain.
        options: the options after ``?``, as text.
    """

    kind: str
    path: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def is_drawn(self) -> bool:
        """Whether clips are rendered by the simulator, and not read from files."""
        return self.kind == DRAWN

    @property
    def is_outside(self) -> bool:
        """Whether code of another package opens the data."""
        return not DATA.is_own(self.kind)

    def __str__(self) -> str:
        options = "&".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.kind}:{self.path}" + (f"?{options}" if options else "")


_EARLIER_NAMES = {"domain": "footage"}
"""Former names of options, which are still valid."""


class Request(TypedDict):
    """Parameters that all kinds of data receive from the run."""

    split: Split
    taxonomy: Taxonomy
    num_frames: int
    sampling_rate: int
    image_size: int
    labelled: bool
    train: bool


SET_BY_RUN = frozenset(Request.__annotations__) | {"check_length"}
"""Parameters of data sets that are not options of a SOURCE."""


def parse_source(text: str) -> Source:
    """Parse a SOURCE.

    Raises:
        InputError: if the text is neither of the form ``name:path?key=value`` nor
            ``package.module:function:path?key=value``, or the name is unknown.
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
        raise InputError(f"{text!r}: no path after '{kind}:'; write {kind}:PATH")
    options: dict[str, str] = {}
    for pair in query.split("&") if question else []:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise InputError(f"{text!r}: {pair!r} is not of the form key=value; write options as ?key=value&key=value")
        if kind != DRAWN:
            key = _EARLIER_NAMES.get(key, key)
        if key in SET_BY_RUN:
            raise InputError(f"{text!r}: {key!r} is not an option of a SOURCE, because the run sets it. Remove it.")
        if key in options:
            raise InputError(f"{text!r}: option {key!r} is given twice")
        options[key] = value
    return Source(kind, path, options)


def check_drawn(source: str, taxonomy: Taxonomy) -> None:
    """Check that the classes have AVA's ids, as embedded clips do.

    Raises:
        InputError: if the taxonomy has another numbering.
    """
    if taxonomy.numbering != AVA:
        raise InputError(
            f"{source}: embedded clips have AVA's action ids; those of taxonomy {taxonomy.name} have other meanings. "
            f"Give both domains data with the same classes."
        )


@dataclass
class FileOptions:
    """Options after ``?`` in a SOURCE that is read from files.

    Attributes:
        scheme: a split scheme (``python -m microg_da split --help``), ``package.module:function`` or a split file;
            ``auto`` for the scheme of the kind of data: ``published`` for AVA and MicroG-4M.
        fold: the test fold or test film, for schemes with folds.
        folds: the number of folds.
        split_seed: seed of the stratification.
        footage: ``real``, ``simulated`` or ``all``.
        boxes: ``ground-truth``, or ``detected`` for the boxes of a person detector. For ``folder:``, ``whole`` for the
            whole frame, ``detected`` for ``boxes.csv`` in the folder, or a table of boxes. ``auto`` is the first.
        score_threshold: smallest score of detected boxes.
        decode: ``frames`` for folders of JPEG, ``video`` for video files, ``auto`` for whichever exists.
        fps: frames per second, if the files do not contain it, or to check it.
        stamp: the unit of keyframes, ``frames`` from 1 or ``seconds``; ``auto`` for that of the kind of data.
        start: the time of the first stored frame, in seconds, if keyframes are in seconds.
        window: ``centred`` on the keyframe, or ``published``: one frame late, as in MicroG-4M's code.
        on_error: ``raise``, or ``skip`` clips that cannot be read.
        min_side, max_side: short side of training frames before the crop; by default ``augment.scale`` times 8/7 of
            the crop.
        test_side: short side of test frames; by default 8/7 of ``image_size``.
        keyframes: number of keyframes of each clip of ``jhmdb:``.
        source_video: a regular expression that finds the source video in the name of each clip of ``folder:``.
        gravity: ``as-filmed``, or ``rolled`` to turn the camera of every video by a random angle.
        gravity_rolls: the distribution of that angle, see :meth:`~microg_da.transforms.camera.RollDistribution.parse`.
        gravity_seed: seed of these angles.
        outside: treatment of people outside a training crop: ``drop``, or ``keep`` with an empty box, as in MicroG-4M's
            code.
        val_view: view of validation frames: the ``whole`` frame, or the ``centre`` square, as in MicroG-4M's code.
            People outside the square keep an empty box.
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
    """Options that only some kinds of data have."""

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
        where: the SOURCE, for error messages.
        kind: the kind of data, a name in :data:`microg_da.data.DATA`.

    Raises:
        InputError: for an unknown option or an invalid value, with the valid ones.
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
    """Return the short side in pixels of test frames of a target that is read from files.

    The option of the SOURCE overrides ``data.target_options``, and both override ``data.test_side``. A rendered target
    has no such options.

    Raises:
        InputError: if the SOURCE or its option is wrong.
    """
    source = parse_source(config.data.target)
    given: dict[str, object] = {"test_side": config.data.test_side}
    if not source.is_drawn:
        given = {**config.file_options("target"), **source.options}
    asked = parse_options({"test_side": given["test_side"]}, where=str(source), kind=source.kind)
    return asked.test_side or usual_test_side(config.data.image_size)
