"""CVAT: export of person tracks in the format "CVAT 1.1", and import of the finished labels.

The format is "CVAT for video" of https://docs.cvat.ai/docs/dataset_management/formats/xml_format. A task is one clip, a
track is one person, and each action is a checkbox for the whole track.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pandas as pd

from microg_da.data.annotations import BOX, PERSON_BOX_COLUMNS
from microg_da.errors import InputError, first_line
from microg_da.files import replacing, write_text
from microg_da.taxonomy import Taxonomy

PERSON = "person"


@dataclass(frozen=True)
class LabelledClip:
    """Contents of a CVAT file for one clip.

    Attributes:
        video_id: the clip.
        boxes: :data:`~microg_da.data.annotations.PERSON_BOX_COLUMNS`, in pixels, ``frame_stamp`` from 1.
        actions: ``person_id, action_id``.
    """

    video_id: str
    boxes: pd.DataFrame
    actions: pd.DataFrame


def write_labels(taxonomy: Taxonomy, path: Path) -> Path:
    """Write the labels of a CVAT project, for "Raw" in its constructor or ``cvat-cli … --labels``."""
    attributes = [
        {"name": name, "mutable": False, "input_type": "checkbox", "default_value": "false", "values": ["false"]}
        for name in attribute_names(taxonomy)
    ]
    labels = [{"name": PERSON, "type": "rectangle", "attributes": attributes}]
    return write_text(path, json.dumps(labels, indent=1, ensure_ascii=False) + "\n")


def write_tracks(
    video_id: str, boxes: pd.DataFrame, size: tuple[int, int], num_frames: int, taxonomy: Taxonomy, path: Path
) -> Path:
    """Write the people of one clip as tracks. Boxes between two detections are interpolated linearly.

    Args:
        video_id: the clip.
        boxes: rows of the clip with :data:`~microg_da.data.annotations.PERSON_BOX_COLUMNS`.
        size: height and width of its frames.
        num_frames: number of frames.
        taxonomy: the actions to choose from.
        path: the XML file.
    """
    root = ET.Element("annotations")
    _text(root, "version", "1.1")
    root.append(_meta(video_id, size, num_frames, taxonomy))
    for track, (_, rows) in enumerate(boxes.groupby("person_id", sort=True)):
        element = ET.SubElement(root, "track", id=str(track), label=PERSON, source="auto")
        rows = rows.sort_values("frame_stamp")
        for stamp, *box in rows[["frame_stamp", *BOX]].itertuples(index=False):
            _box(element, int(stamp) - 1, box, False, taxonomy)
        if stamp < num_frames:  # otherwise the box would last to the end of the clip
            _box(element, int(stamp), box, True, taxonomy)
    ET.indent(root)
    with replacing(path) as temporary:
        ET.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)
    return path


def read_tracks(path: str | Path, taxonomy: Taxonomy) -> list[LabelledClip]:
    """Read finished labels: an XML file that CVAT exported as "CVAT for video 1.1", or its ZIP.

    Raises:
        InputError: if the file has another format, or contains an action outside the taxonomy.
    """
    path = Path(path)
    return [_clip(root, path, taxonomy) for root in _roots(path)]


def attribute_names(taxonomy: Taxonomy) -> list[str]:
    """Return the names of the checkboxes: action id and name."""
    return [f"{action} {name}" for action, name in zip(taxonomy.ids, taxonomy.names, strict=True)]


def _meta(video_id: str, size: tuple[int, int], num_frames: int, taxonomy: Taxonomy) -> ET.Element:
    meta = ET.Element("meta")
    task = ET.SubElement(meta, "task")
    facts = {"name": video_id, "size": num_frames, "mode": "interpolation", "overlap": 0}
    facts |= {"start_frame": 0, "stop_frame": num_frames - 1}
    for name, value in facts.items():
        _text(task, name, str(value))
    label = ET.SubElement(ET.SubElement(task, "labels"), "label")
    _text(label, "name", PERSON)
    _text(label, "type", "rectangle")
    attributes = ET.SubElement(label, "attributes")
    for name in attribute_names(taxonomy):
        attribute = ET.SubElement(attributes, "attribute")
        described = {"name": name, "mutable": "False", "input_type": "checkbox"}
        for key, value in {**described, "default_value": "false", "values": "false"}.items():
            _text(attribute, key, value)
    original = ET.SubElement(task, "original_size")
    _text(original, "width", str(size[1]))
    _text(original, "height", str(size[0]))
    _text(task, "source", f"{video_id}.mp4")
    return meta


def _box(track: ET.Element, frame: int, box: list[float], outside: bool, taxonomy: Taxonomy) -> None:
    corners = {name: f"{value:.2f}" for name, value in zip(("xtl", "ytl", "xbr", "ybr"), box, strict=True)}
    flags = {"frame": str(frame), "outside": str(int(outside)), "occluded": "0", "keyframe": "1"}
    element = ET.SubElement(track, "box", {**flags, **corners, "z_order": "0"})
    for name in attribute_names(taxonomy):
        _text(element, "attribute", "false").set("name", name)


def _text(parent: ET.Element, tag: str, text: str) -> ET.Element:
    element = ET.SubElement(parent, tag)
    element.text = text
    return element


def _roots(path: Path) -> list[ET.Element]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith(".xml")]
                contents = [archive.read(name) for name in names]
        else:
            contents = [path.read_bytes()]
        roots = [ET.fromstring(content) for content in contents]
    except OSError as error:
        raise InputError(f"{path}: cannot read the file: {error.strerror or error}") from error
    except (ET.ParseError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not an XML file of CVAT ({first_line(error)})") from error
    if not roots or any(root.tag != "annotations" for root in roots):
        raise InputError(f"{path}: no CVAT annotations found. Export the task as 'CVAT for video 1.1'.")
    return roots


def _clip(root: ET.Element, path: Path, taxonomy: Taxonomy) -> LabelledClip:
    source = root.findtext("meta/task/source") or root.findtext("meta/job/source")
    name = Path(source).stem if source else root.findtext("meta/task/name")
    if not name:
        raise InputError(f"{path}: the clip has no name: found neither meta/task/source nor meta/task/name")
    if root.find("image") is not None:
        raise InputError(f"{path}: found images, expected tracks. Export the task as 'CVAT for video 1.1'.")
    boxes: list[tuple[str | float, ...]] = []
    actions: list[tuple[int, int]] = []
    for person, track in enumerate(each for each in root.iter("track") if each.get("label") == PERSON):
        shown = [box for box in track.iter("box") if box.get("outside") == "0"]
        chosen: set[int] = set()
        for box in shown:
            corners = (float(box.attrib[corner]) for corner in ("xtl", "ytl", "xbr", "ybr"))
            boxes.append((name, int(box.attrib["frame"]) + 1, person, *corners))
            chosen |= _chosen(box, path, taxonomy)
        actions += [(person, action) for action in sorted(chosen)]
    table = pd.DataFrame(boxes, columns=PERSON_BOX_COLUMNS)
    return LabelledClip(name, table, pd.DataFrame(actions, columns=["person_id", "action_id"]))


def _chosen(box: ET.Element, path: Path, taxonomy: Taxonomy) -> set[int]:
    """Return the actions whose checkboxes are set."""
    chosen = set()
    for attribute in box.iter("attribute"):
        number = (attribute.get("name") or "").split(" ", 1)[0]
        if (attribute.text or "").strip().lower() != "true":
            continue
        if not number.isdigit() or int(number) not in taxonomy.ids:
            raise InputError(
                f"{path}: {attribute.get('name')!r} is not an action of taxonomy {taxonomy.name!r}. Expected a "
                f"name that begins with an action id, as in '17 carry/hold (an object)'"
            )
        chosen.add(int(number))
    return chosen
