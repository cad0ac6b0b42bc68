"""What a comparison found, block by block: which is the first that differs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flaxzoo.parity import Difference, Report

TITLES = {"forward": "features", "gradient": "gradients", "training": "values after training"}


@dataclass
class Block:
    """A block, stage or layer outside of blocks, in the order in which they are computed.

    Attributes:
        name: of the torch module, "logits", or of a parameter that is in no module here.
        shape: of its features in evaluation mode, as flaxzoo has them; nothing of a parameter.
        worst: by kind, the largest difference of its features, of the gradients of its parameters
            and of its parameters and statistics after training.
    """

    name: str
    shape: tuple[int, ...] = ()
    worst: dict[str, Difference] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        return all(d.equal for d in self.worst.values())

    @property
    def result(self) -> str:
        """ "equal", or the first kind that differs, as in "gradients differ"."""
        wrong = [title for kind, title in TITLES.items() if not self._equal(kind)]
        return f"{wrong[0]} differ" if wrong else "equal"

    def _equal(self, kind: str) -> bool:
        return kind not in self.worst or self.worst[kind].equal

    def add(self, found: Difference) -> None:
        known = self.worst.get(found.kind)
        if known is None or not found.error <= known.error:  # NaN counts as the largest
            self.worst[found.kind] = found

    def row(self) -> Mapping[str, Any]:
        """Returns its figures by kind; None where it has none."""
        errors = {kind: self.error(kind) for kind in TITLES}
        allowed = {f"{kind}_allowed": self.allowed(kind) for kind in errors}
        shape = "x".join(map(str, self.shape)) or None
        return {"block": self.name, "shape": shape} | errors | allowed | {"equal": self.equal}

    def error(self, kind: str) -> float | None:
        return self.worst[kind].error if kind in self.worst else None

    def allowed(self, kind: str) -> float | None:
        return self.worst[kind].allowed if kind in self.worst else None


def blocks(report: Report) -> list[Block]:
    """Returns the blocks of a comparison in the order in which they are computed.

    A parameter counts for its block and for the stage around it. Those outside of all, like the
    positions of a ViT, follow.
    """
    found: dict[str, Block] = {}
    for d in report.differences:
        if d.kind == "forward":
            found[d.name] = Block(d.name, d.shape, {"forward": d})
        elif d.kind in ("gradient", "training"):
            owners = [name for name in _parents(d.name) if name in found] or [d.name]
            for name in owners:
                found.setdefault(name, Block(name)).add(d)
    return list(found.values())


def explain(report: Report) -> str:
    """Returns a sentence: that the twins are equal, or where they first differ."""
    if report.equal:
        return f"equal: each of {len(report.differences)} arrays is within what is allowed"
    failures = {kind: [d for d in report.failures if d.kind == kind] for kind in _KINDS}
    order = [block.name for block in blocks(report)]
    if forward := failures["forward"]:
        first = forward[0]
        before = order[: order.index(first.name)]
        after = f"; {before[-1]}, before it, is equal" if before else ""
        return f"{first.name} is the first block that differs: features {_apart(first)}{after}"
    if gradients := failures["gradient"]:
        # The backward pass begins at the logits.
        last = max(gradients, key=lambda d: order.index(_owner(d.name, order)))
        return (
            f"features are equal; on the way back {_owner(last.name, order)} is the first block "
            f"whose gradients differ: {last.name} {_apart(last)}"
        )
    if training := failures["training"]:
        first = min(training, key=lambda d: order.index(_owner(d.name, order)))
        return (
            f"features and gradients are equal; after training {_owner(first.name, order)} is the "
            f"first block that differs: {first.name} {_apart(first)}"
        )
    (first, *_) = failures["loss"] or report.failures
    return f"one step is equal, the losses are not: {first.name} {_apart(first)}"


_KINDS = ("forward", "gradient", "training", "loss")


def _apart(d: Difference) -> str:
    return f"{d.error:.1e} apart, {d.allowed:.1e} allowed"


def _owner(name: str, order: Iterable[str]) -> str:
    """Returns the innermost block that a parameter is in, or its own name."""
    return next((parent for parent in _parents(name) if parent in order), name)


def _parents(name: str) -> list[str]:
    """Returns ["layer1.0.conv1", "layer1.0", "layer1"] of "layer1.0.conv1.weight"."""
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(len(parts) - 1, 0, -1)]
