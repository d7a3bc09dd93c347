"""Tensors whose units must be equal, because they meet in a sum or a maximum."""

from onnx2snn.integer.registry import MERGES
from onnx2snn.integer.roles import Roles
from onnx2snn.rewriting.classify import Role

PASSING = ("Identity", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose",
           "Concat", "Slice", "Split", "GlobalAveragePool", "ReduceMean", "AveragePool",
           *MERGES)  # fmt: skip


class Groups:
    """Tensors that must have one unit, because they meet."""

    def __init__(self, roles: Roles) -> None:
        self.parents: dict[str, str] = {}
        self.sizes: dict[str, int] = {}
        makers = {name: item.node for item in roles.placed for name in item.node.output}
        for item in roles.placed:
            if item.role is Role.TAIL or item.node.op_type not in (*MERGES, "Identity", "Dropout"):
                continue
            for k in item.moving:
                self.join(item.node.input[k], item.node.output[0])
        self.uniform: set[str] = set()
        ahead = list(roles.readouts)
        while ahead:
            name = ahead.pop()
            self.uniform.add(self.of(name))
            maker = makers.get(name)
            if maker is not None and maker.op_type in PASSING:
                ahead.extend(n for n in maker.input if n in makers)

    def join(self, one: str, other: str) -> None:
        """Put two tensors into one group."""
        roots = self.of(one), self.of(other)
        if roots[0] != roots[1]:
            self.parents[roots[1]] = roots[0]
            self.sizes[roots[0]] = self.sizes.get(roots[0], 1) + self.sizes.get(roots[1], 1)

    def of(self, name: str) -> str:
        """The tensor that stands for the group."""
        while name in self.parents:
            name = self.parents[name]
        return name

    def is_shared(self, group: str) -> bool:
        """Whether several tensors are in the group."""
        return self.sizes.get(group, 1) > 1

    def is_uniform(self, group: str) -> bool:
        """Whether all outputs shall have one scale: it leads to an answer."""
        return group in self.uniform
