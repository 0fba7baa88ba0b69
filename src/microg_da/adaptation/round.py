"""Values of target people in a round of self-training, stored by identity and not by position."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypedDict

import torch
from torch import Tensor

from microg_da.errors import InputError
from microg_da.types import ClipBatch, ClipKey, PersonKey


class RoundState(TypedDict):
    """A :class:`Round` for checkpoints: ``(video_id, frame_stamp, index)`` of each person, and the tensors by name."""

    people: list[tuple[str, int, int]]
    values: dict[str, Tensor]


class Round:
    """Values of people, e.g. their labels.

    A clip that replaces an unreadable clip occurs twice. Each person has one entry, the latest.

    Args:
        people: the N people.
        **values: named tensors ``(N, …)`` with a row for each person.
    """

    def __init__(self, people: Sequence[PersonKey], **values: Tensor) -> None:
        last = {person: row for row, person in enumerate(people)}
        self._values = {name: tensor[list(last.values())] for name, tensor in values.items()}
        self._rows = {person: row for row, person in enumerate(last)}

    @classmethod
    def collect(
        cls, batches: Iterable[ClipBatch], look: Callable[[ClipBatch], Mapping[str, Tensor]], **empty: Tensor
    ) -> Round:
        """Compute values of the people of all batches.

        Args:
            batches: batches of clips.
            look: returns named tensors ``(K, …)`` for the people of a batch.
            **empty: tensors ``(0, …)`` with the same names, for the case of no batches.
        """
        people: list[PersonKey] = []
        parts: dict[str, list[Tensor]] = {name: [] for name in empty}
        for batch in batches:
            for name, values in look(batch).items():
                parts[name].append(values)
            people += batch.people
        return cls(people, **{name: torch.cat(parts[name]) if parts[name] else none for name, none in empty.items()})

    def __len__(self) -> int:
        return len(self._rows)

    def all(self, name: str) -> Tensor:
        """Return the values ``(M, …)`` of all people, with one row per person."""
        return self._values[name]

    def put(self, name: str, values: Tensor) -> None:
        """Set the values of all people, in the order of :meth:`all`."""
        self._values[name] = values

    def of(self, name: str, people: Sequence[PersonKey]) -> Tensor:
        """Return the values ``(K, …)`` of the given people.

        Raises:
            InputError: for a person without values in this round.
        """
        try:
            rows = [self._rows[person] for person in people]
        except KeyError as missing:
            (video_id, stamp), place = missing.args[0]
            raise InputError(
                f"{video_id}, keyframe {stamp}: person {place + 1} has no label of this round. The clip could not be "
                f"read when the target clips were labelled, or it has changed since. Check its file and resume the run."
            ) from None
        return self._values[name][rows]

    def state(self) -> RoundState:
        """Return the round as plain types and tensors."""
        people = [(*person.keyframe, person.place) for person in self._rows]
        return {"people": people, "values": dict(self._values)}

    @classmethod
    def from_state(cls, state: RoundState) -> Round:
        """Restore the result of :meth:`state`."""
        people = [PersonKey(ClipKey(video_id, stamp), place) for video_id, stamp, place in state["people"]]
        return cls(people, **state["values"])
