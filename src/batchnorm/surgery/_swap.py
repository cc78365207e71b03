"""A set of changes to a model that happen all at once or not at all, and can be taken back."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .._errors import explain
from ._optimizer import OptimizerStep
from ._places import Places
from ._steps import AssignStep, CallStep, CarryStep, ItemStep, Step, WriteStep

__all__ = ["Surgery", "carry_over", "refuse_wrapped"]

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_is_full_backward_hook",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


class Surgery:
    """Plan first, touch the model once.

    Planning methods record; nothing happens until :meth:`commit`, which does everything or, when
    a step raises, takes back what it did and lets the error through.

    Args:
        who: the public function, for error texts.
        model: what is operated on.
        optimizer: whose groups and state follow the parameters; None if there is none.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
        >>> surgery = Surgery("convert", model)
        >>> surgery.replace(model[0], torch.nn.Identity())
        >>> surgery.commit()
        >>> model[0]
        Identity()
        >>> surgery.undo()
        >>> model[0]
        BatchNorm1d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
    """

    def __init__(self, who: str, model: nn.Module, optimizer: Optimizer | None = None) -> None:
        self.who = who
        self.model = model
        self._root = model
        self._optimizer = optimizer
        self._places: Places | None = None
        self._steps: list[Step] = []
        self._done: list[Step] = []
        self._exchanged: list[tuple[nn.Parameter, nn.Parameter | None]] = []
        self._added: list[tuple[nn.Parameter, nn.Parameter | None]] = []
        self._loses_buffers = False
        self._form: tuple[Tensor, torch.device, torch.dtype] | None = None

    def replace(self, old: nn.Module, new: nn.Module, beside: nn.Parameter | None = None) -> None:
        """Put ``new`` wherever the model holds ``old``.

        Parameters of ``old`` that ``new`` does not hold are taken from the optimizer; those with
        the same name are exchanged, others of ``new`` join the group of ``beside`` (or of those).
        Replacing the model itself sets :attr:`model`.
        """
        if old is self._root:
            self._steps.append(AssignStep(self, "model", new))
        if self._places is None:
            self._places = Places(self._root)
        for container, key in self._places.of(old):
            self._steps.append(ItemStep(container, key, new))
        self._steps.append(CarryStep(old, new))
        self._loses_buffers |= any(True for _ in old.buffers()) and not any(
            True for _ in new.buffers()
        )
        self._follow_parameters(old, new, beside)

    def _follow_parameters(
        self, old: nn.Module, new: nn.Module, beside: nn.Parameter | None
    ) -> None:
        before, after = dict(old.named_parameters()), dict(new.named_parameters())
        kept = {id(parameter) for parameter in after.values()}
        beside = next(iter(before.values()), None) if beside is None else beside
        for name, parameter in before.items():
            if id(parameter) not in kept:
                self._exchanged.append((parameter, after.get(name)))
        known = {id(parameter) for parameter in before.values()}
        for name, parameter in after.items():
            if name not in before and id(parameter) not in known:
                self._added.append((parameter, beside))

    def set_child(self, parent: nn.Module, name: str, child: nn.Module | None) -> None:
        """``parent.name = child``; the optimizer is told by :meth:`add_parameter`."""
        self._steps.append(ItemStep(parent._modules, name, child))

    def set_parameter(self, module: nn.Module, name: str, value: nn.Parameter | None) -> None:
        """``module.name = value``, with the optimizer following; None drops it (no bias)."""
        old = module._parameters.get(name)
        self._steps.append(ItemStep(module._parameters, name, value))
        if old is not None and old is not value:
            self._exchanged.append((old, value))
        elif old is None and value is not None:
            beside = next((p for p in module._parameters.values() if p is not None), None)
            self._added.append((value, beside))

    def set_buffer(self, module: nn.Module, name: str, value: Tensor | None) -> None:
        """Another tensor (or none) as a buffer that the module has registered."""
        self._steps.append(ItemStep(module._buffers, name, value))

    def set_attribute(self, module: Any, name: str, value: Any) -> None:
        """A plain attribute: ``module.padding_mode = "zeros"``."""
        self._steps.append(AssignStep(module, name, value))

    def write(self, tensor: Tensor, value: Tensor) -> None:
        """New values in a tensor that stays the same object: whoever shares it sees them."""
        self._steps.append(WriteStep(tensor, value))

    def add_parameter(self, parameter: nn.Parameter, beside: nn.Parameter | None) -> None:
        """A new parameter for the optimizer, in the group of ``beside`` (None: the first)."""
        self._added.append((parameter, beside))

    def call(self, do: Any, undo: Any) -> None:
        """Any pair of functions without arguments, for what the other methods do not cover."""
        self._steps.append(CallStep(do, undo))

    def commit(self) -> None:
        """Do everything that was planned, or nothing.

        Raises:
            RuntimeError: parameters change, or buffers go, in a model that DistributedDataParallel
            has wrapped.
        """
        steps: list[Step] = list(self._steps)
        if self._exchanged or self._added or self._loses_buffers:
            refuse_wrapped(self.who, self._root)
        if (self._exchanged or self._added) and self._optimizer is not None:
            follow = OptimizerStep(
                self._optimizer, self._exchanged, self._added, lambda: self.model
            )
            follow.check(self.who)
            steps.append(follow)

        for step in steps:
            try:
                step.do()
            except BaseException:
                self._take_back()
                raise
            self._done.append(step)
        self._form = _form_of(self.model)

    def undo(self) -> None:
        """Take everything back, last first.

        Raises:
            RuntimeError: the model was changed since; nothing is touched then.
        """
        if not all(step.holds() for step in self._done):
            raise RuntimeError(
                explain(
                    f"{self.who}.undo",
                    "the model must be as this operation left it",
                    "a layer or parameter that was changed since",
                    "Undo the later changes first, in reverse order",
                )
            )

        returning = [step.before for step in self._done if isinstance(step, ItemStep)]
        self._take_back()
        self._move_along(returning)

    def _move_along(self, returning: list[Any]) -> None:
        """If the model was moved or cast since, so are the layers and parameters that come back."""
        if self._form is None:
            return
        tensor, *before = self._form
        now = tensor.device, tensor.dtype
        if [*now] == before:
            return
        for thing in returning:
            if isinstance(thing, nn.Module):
                thing.to(*now)
            elif isinstance(thing, Tensor) and thing.is_floating_point():
                thing.data = thing.data.to(*now)

    def _take_back(self) -> None:
        while self._done:
            self._done.pop().undo()


def carry_over(old: nn.Module, new: nn.Module) -> None:
    """Give a new layer the mode, hooks and own attributes of the one that it will replace.

    Hook dicts become the same objects, so that handles can still remove their hooks.
    """
    new.training = old.training
    for name in _HOOKS:
        if name in old.__dict__ and not new.__dict__.get(name):
            new.__dict__[name] = old.__dict__[name]
    arguments = inspect.signature(type(old)).parameters
    for name, value in old.__dict__.items():
        if not name.startswith("_") and name not in arguments and name not in new.__dict__:
            new.__dict__[name] = value


def _form_of(model: nn.Module) -> tuple[Tensor, torch.device, torch.dtype] | None:
    """A parameter that follows the model, where and what it is now."""
    floats = (p for p in model.parameters() if p.is_floating_point())
    first = next(floats, None)

    return None if first is None else (first, first.device, first.dtype)


def refuse_wrapped(who: str, model: nn.Module) -> None:
    """DistributedDataParallel knows parameters, and whether they need gradients, as they were.

    Raises:
        RuntimeError: it has wrapped the model or a part of it.
    """
    for path, module in model.named_modules():
        if isinstance(module, nn.parallel.DistributedDataParallel):
            raise RuntimeError(
                explain(
                    who,
                    "parameters and buffers must not change after DistributedDataParallel has "
                    "wrapped them",
                    f"DistributedDataParallel at {path or 'the top'!r}",
                    "Operate on the plain model and wrap it afterwards",
                )
            )
