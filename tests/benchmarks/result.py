"""One measured ratio as it stands in bench.json."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Result:
    """Both sides in `unit`; `goal` is the ratio we hold ourselves to, None where none is named."""

    name: str
    ours: float
    reference: float
    ratio: float
    goal: float | None
    unit: str

    @classmethod
    def of(cls, name: str, ours: float, reference: float, goal: float | None, unit: str) -> Self:
        """Rounded for people; the ratio is of the unrounded figures."""
        return cls(
            name=name,
            ours=round(ours, 5),
            reference=round(reference, 5),
            ratio=round(ours / reference, 2),
            goal=goal,
            unit=unit,
        )
