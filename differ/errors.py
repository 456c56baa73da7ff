"""Errors of the differ leaf, named by outcome; raised by its modules, explained to people by the hub."""


class DifferError(Exception):
    """Root of this leaf's errors: what happened, what did not happen, what to do next.

    The three sentences never hold a row's value or a driver's DETAIL.
    """

    def __init__(self, happened: str, not_happened: str, next_step: str) -> None:
        super().__init__(happened, not_happened, next_step)
        self.happened = happened
        self.not_happened = not_happened
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.happened} {self.not_happened} {self.next_step}"


class BookkeepingBroken(DifferError):
    """The shadow's notes about what was touched contradict each other: no diff was made from them."""
