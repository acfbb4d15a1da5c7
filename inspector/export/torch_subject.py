"""What is exported, whichever form PyTorch has it in: module, TorchScript or saved program."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from inspector.errors import UnreadableError
from inspector.export import torch_held as holding
from inspector.export import torch_outputs, torch_program, torch_script, torch_trace
from inspector.export.torch_errors import refuse_unexportable
from inspector.export.torch_held import Held
from inspector.export.torch_inputs import Axes, Example, Signature, ordered, signature
from inspector.export.torch_state import as_stored, evaluating, one_pass, without_checks

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto

OPSETS = range(18, 25)

_ROUNDED = (
    "the model is float64 and ONNX has epsilon as float32: {} BatchNorms have theirs rounded to "
    "it, in what was verified too"
)


class Subject(ABC):
    """A model of PyTorch's, ready to be run, converted and described.

    `notes` are about how it was taken; `opsets` those that its exporter writes; `output_names` what
    its forward pass calls its outputs, empty where it does not; `changed` the buffers and
    attributes that a pass changes, which are put back after each.
    """

    opsets = OPSETS
    axes_are_given = False
    """Whether its free axes were decided when it was made."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes
        self.output_names: tuple[str, ...] = ()
        self.changed: dict[str, None] = {}

    @abstractmethod
    def tensors(self) -> dict[str, Any]:
        """Parameters and buffers by name."""

    @abstractmethod
    def signature(self) -> Signature:
        """What it is called with."""

    def own_example(self) -> Any:
        """The example input that it carries, or None."""
        return None

    @contextmanager
    def ready(self) -> Iterator[None]:
        """In eval mode; everything is put back afterwards."""
        yield

    @abstractmethod
    def call(self, *args: Any, **kwargs: Any) -> Any:
        """One forward pass."""

    def state(self, example: Example) -> list[str]:
        """What a pass changes that the next one gives other outputs by, and buffers; see `changed`.

        Attributes are often no more than caches: a second pass tells.
        """
        found = list(self.changed)
        if not found or self.tensors().keys() & found or not self.repeats(example):
            return found
        return []

    def repeats(self, example: Example) -> bool:
        """Whether a second pass, with nothing put back before it, gives what the first does."""
        return True

    @contextmanager
    def giving(self, given: Any) -> Iterator[Any]:
        """It gives outputs like these from here on, in containers that PyTorch knows."""
        yield given

    @abstractmethod
    def held(self) -> Held:
        """What it holds; only after a call."""

    @abstractmethod
    def convert(self, example: Example, opset: int, axes: Axes) -> ModelProto:
        """Its ONNX form; raises whatever the exporter raises."""

    def exporter(self) -> str:
        """The name and version of what converts it."""
        import onnxscript
        import torch

        return f"torch.onnx {torch.__version__}, onnxscript {onnxscript.__version__}"

    def like(self) -> Any:
        """A tensor of the dtype and on the device that its floating-point inputs have."""
        return torch_trace.first_tensor(
            [each for each in self.tensors().values() if not _is_lazy(each)]
        )


def _is_lazy(tensor: Any) -> bool:
    from torch.nn.parameter import is_lazy

    return bool(is_lazy(tensor))


def _drawn(module: Any, args: Any, kwargs: Any) -> Any:
    """One pass that draws the random numbers that any other does."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return module(*args, **kwargs)


class ModuleSubject(Subject):
    """A `torch.nn.Module`."""

    def __init__(self, module: torch.nn.Module, notes: list[str]) -> None:
        super().__init__(type(module).__qualname__, notes)
        self._calls: dict[str, int] = {}
        if any(_is_lazy(e) for e in (*module.parameters(), *module.buffers())):
            notes.append("lazy layers were given their first, random weights for the export alone")
        self._module = module

    def tensors(self) -> dict[str, Any]:
        module = self._module
        return {**dict(module.named_parameters()), **dict(module.named_buffers())}

    def signature(self) -> Signature:
        return signature(self._module.forward)

    def own_example(self) -> Any:
        return getattr(self._module, "example_input_array", None)

    @contextmanager
    def ready(self) -> Iterator[None]:
        refuse_unexportable(self._module, self.name)
        with evaluating(self._module), as_stored(self._module) as rounded:
            if rounded:
                self.notes.append(_ROUNDED.format(len(rounded)))
            yield

    def call(self, *args: Any, **kwargs: Any) -> Any:
        with one_pass(self._module, self.changed):
            return self._module(*args, **kwargs)

    def repeats(self, example: Example) -> bool:
        with one_pass(self._module, {}):
            calls = [(each.args, each.kwargs) for each in (example.copied(), example.copied())]
            first, second = (_drawn(self._module, *each) for each in calls)
        return torch_outputs.are_equal(first, second)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the calls of each normalisation layer in one pass; see `torch_held.counted`."""
        with holding.counted(self._module) as calls:
            yield
            self._calls = dict(calls)
        holding.refuse_changed(self._module, self.changed)

    @contextmanager
    def giving(self, given: Any) -> Iterator[Any]:
        made = torch_outputs.plain(given)
        with (
            contextlib.nullcontext() if made is given else torch_outputs.giving_plain(self._module)
        ):
            yield made

    def held(self) -> Held:
        return holding.of_module(self._module, self._calls)

    def convert(self, example: Example, opset: int, axes: Axes) -> ModelProto:
        with without_checks(), one_pass(self._module, self.changed):
            return torch_trace.convert_module(self._module, example, opset, axes)


class ScriptSubject(Subject):
    """A TorchScript module."""

    opsets = torch_script.OPSETS

    def __init__(self, module: torch.jit.ScriptModule, notes: list[str]) -> None:
        super().__init__(str(module.original_name), notes)
        self._module = module

    def tensors(self) -> dict[str, Any]:
        module = self._module
        return {**dict(module.named_parameters()), **dict(module.named_buffers())}

    def signature(self) -> Signature:
        if not hasattr(self._module, "forward"):
            raise UnreadableError("this TorchScript module has no forward()", where=self.name)
        return torch_script.signature_of(self._module)

    @contextmanager
    def ready(self) -> Iterator[None]:
        with evaluating(self._module):
            yield

    def call(self, *args: Any, **kwargs: Any) -> Any:
        with one_pass(self._module, self.changed):
            return self._module(*args, **kwargs)

    def held(self) -> Held:
        return torch_script.of_script(self._module, self.name)

    def convert(self, example: Example, opset: int, axes: Axes) -> ModelProto:
        with one_pass(self._module, self.changed):
            proto = torch_script.convert(self._module, example, opset, axes, self.held())
        torch_script.store_again(proto, self.held(), self.changed)
        return proto

    def exporter(self) -> str:
        import torch

        return f"torch.onnx {torch.__version__} (TorchScript)"


class ProgramSubject(Subject):
    """A program of `torch.export`."""

    axes_are_given = True

    def __init__(self, program: torch.export.ExportedProgram, notes: list[str]) -> None:
        super().__init__("the program", notes)
        self._program = program
        self._module: Any = None

    def tensors(self) -> dict[str, Any]:
        return dict(self._program.state_dict)

    def signature(self) -> Signature:
        given = self._program.module_call_graph[0].signature
        names = None if given is None else given.forward_arg_names
        keywords = () if given is None else given.in_spec.children()[1].context
        return Signature(
            names=tuple(names or self._program.graph_signature.user_inputs),
            keywords=frozenset(keywords),
        )

    def own_example(self) -> Any:
        if self._program.example_inputs is None:
            return None
        args, kwargs = self._program.example_inputs
        return ordered((*args, *kwargs.values()), self.signature())

    @contextmanager
    def ready(self) -> Iterator[None]:
        import torch

        # Their guards are code of the file; the exporter runs none of them.
        self._module = self._program.module(check_guards=False)
        if rounded := torch_program.store_epsilons(self._module):
            self.notes.append(_ROUNDED.format(rounded))
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            yield

    def call(self, *args: Any, **kwargs: Any) -> Any:
        with one_pass(self._module, self.changed):
            return self._module(*args, **kwargs)

    def held(self) -> Held:
        return torch_program.of_program(self._program, self.name)

    def convert(self, example: Example, opset: int, axes: Axes) -> ModelProto:
        return torch_trace.convert_program(self._program, opset)


def subject(found: object) -> Subject:
    """The subject that a module or a program is.

    Raises
    ------
    TypeError
        It is none.
    """
    import torch

    if isinstance(found, torch.export.ExportedProgram):
        return ProgramSubject(found, [])
    if isinstance(found, torch.jit.ScriptModule):
        return ScriptSubject(found, [])
    if isinstance(found, torch.nn.Module):
        inner, notes = unwrapped(found)
        if isinstance(inner, torch.jit.ScriptModule):
            return ScriptSubject(inner, notes)
        return ModuleSubject(inner, notes)
    raise TypeError(f"{type(found)} is no model of PyTorch")


def unwrapped(module: torch.nn.Module) -> tuple[torch.nn.Module, list[str]]:
    """The module inside of torch.compile's and DataParallel's wrappers, which rename weights."""
    import torch

    notes: list[str] = []
    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while True:
        inner = getattr(module, "_orig_mod", module)
        if inner is not module:
            notes.append("exported without torch.compile's wrapper")
            module = cast("torch.nn.Module", inner)
        elif isinstance(module, parallel):
            notes.append(f"exported without {type(module).__name__}'s wrapper")
            module = module.module
        else:
            return module, notes
