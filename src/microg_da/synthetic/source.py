"""The embedded data as a data source: ``synthetic:earth``, ``synthetic:microgravity?look=real``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from microg_da.errors import InputError, unknown_name
from microg_da.synthetic.spec import CLIP_FRAMES, SyntheticSpec
from microg_da.taxonomy import Taxonomy
from microg_da.types import Clip, ClipSource, Split


@dataclass
class SyntheticOptions:
    """Options after ``?`` in a synthetic source.

    Attributes:
        num_clips: number of clips in the split.
        look: ``real``, ``simulated`` or ``any``.
        seed: seed of the clips.
        label_shift: other class rates: people stand less often and crouch more often
            (:func:`~microg_da.synthetic.label_shift.shifted`); 0 for the rates of the simulator.
        workers: number of drawing processes.
        cache: store the drawn clips in the user's cache folder.
    """

    num_clips: int = 400
    look: str = "any"
    seed: int = 0
    label_shift: float = 0.0
    workers: int = 2
    cache: bool = True


def open_split(
    domain: str,
    *,
    split: Split,
    taxonomy: str | Taxonomy,
    num_frames: int,
    sampling_rate: int,
    image_size: int,
    labelled: bool,
    train: bool,  # augmentation is applied to batches on the device
    check_length: Callable[[int], None] | None = None,
    **options: object,
) -> ClipSource[Clip]:
    """Open one split of a simulated domain, with the arguments of :func:`microg_da.data.sources.open_source`.

    Raises:
        InputError: if the domain or an option does not exist, or a value has the wrong type.
    """
    from microg_da.synthetic.dataset import SyntheticDataset

    spec, chosen = plan_split(
        domain,
        split=split,
        num_frames=num_frames,
        sampling_rate=sampling_rate,
        image_size=image_size,
        **options,
    )
    if check_length is not None:
        check_length(CLIP_FRAMES)  # before drawing
    return SyntheticDataset(spec, taxonomy, labelled=labelled, workers=chosen.workers, use_cache=chosen.cache)


def plan_split(
    domain: str, *, split: Split, num_frames: int, sampling_rate: int, image_size: int, **options: object
) -> tuple[SyntheticSpec, SyntheticOptions]:
    """Return the clips of one split of a simulated domain and the drawing options, without drawing and without torch.

    Raises:
        InputError: if the domain or an option does not exist, or a value is invalid.
    """
    schema = OmegaConf.structured(SyntheticOptions)
    for key, value in options.items():
        if key not in schema:
            raise unknown_name("option", key, list(schema), f"synthetic:{domain}")
        try:
            OmegaConf.update(schema, key, value, merge=False)
        except OmegaConfBaseException as error:
            raise InputError(f"synthetic:{domain}: {key}={value!r} is invalid.") from error
    chosen: SyntheticOptions = OmegaConf.to_object(schema)  # type: ignore[assignment]
    spec = SyntheticSpec(
        domain=domain,
        split=split,
        num_clips=chosen.num_clips,
        look=chosen.look,
        size=image_size,
        num_frames=num_frames,
        sampling_rate=sampling_rate,
        seed=chosen.seed,
    )
    if chosen.label_shift:
        from microg_da.synthetic.label_shift import shifted  # imports the renderer, which most checks do not need

        spec = shifted(spec, chosen.label_shift)
    return spec, chosen
