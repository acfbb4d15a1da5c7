"""Put BatchNorms in the place of the arithmetic that they were ground down to.

The first operator of the arithmetic becomes the BatchNorm, and the others hand on what they get:
each value in between is read by the next one alone, as `inspector.recognise.runs` makes sure.
"""

from __future__ import annotations

from collections.abc import Sequence

from inspector.facts.batchnorm import BatchNorm, Form
from inspector.facts.model import Node
from inspector.recognise.around import dims_of
from inspector.recognise.operators import ARITHMETIC
from inspector.recognise.place import Place
from inspector.restore.kept import Original, Row
from inspector.restore.nodes import FIRST_OPSET, Gap, insert, tensors, told
from inspector.restore.stock import Arithmetic, may_be_fed
from inspector.write.splice import Splice

_BETWEEN = frozenset({"Identity", "Transpose"})
_MOST = 64


def put_back(original: Original, spots: Sequence[Arithmetic], splice: Splice) -> list[str] | str:
    """Make a BatchNorm a node with the framework's tensors; its name, or why it cannot be.

    Parameters
    ----------
    spots
        The arithmetic, or the nodes, that may be meant.
    """
    if len(spots) != 1:
        return "several places of the stock export go by one name" if spots else "it is not found"
    (spot,) = spots
    editor = splice.editor(spot.place.scope)
    if editor is None:
        return "it stands in a function, whose body all of its calls share"
    if spot.place.opset < FIRST_OPSET:
        return f"opset {spot.place.opset} has another BatchNormalization; convert the file to 7 up"
    if isinstance(spot.norm, BatchNorm) and spot.norm.form is Form.NATIVE:
        return _renewed(original, spot.norm, spot.place, splice)
    return _replaced(original, spot, splice)


def _renewed(original: Original, norm: BatchNorm, place: Place, splice: Splice) -> list[str] | str:
    """A node that is there gets the framework's tensors, epsilon, momentum and name."""
    editor = splice.editor(place.scope)
    assert editor is not None  # looked at before
    if norm.op_type != "BatchNormalization":
        return f"{norm.op_type} is no operator that runs outside of ONNX Runtime"
    if any(may_be_fed(each.value, place) for _, each in norm.parameters):
        return "its parameters may be fed as inputs"
    stored = norm.scale.tensor
    if stored is None or stored.dtype != original.dtype:
        return f"the stock export stores {stored and stored.dtype}, the framework {original.dtype}"
    for position, name in enumerate(tensors(original, splice), start=1):
        editor.set_input(norm.output, position, name)
    for key, value in told(original).items():
        editor.set_attribute(norm.output, key, value)
    node = editor.node(norm.output)
    # Other nodes' names stay as they are; this is the one that the framework has a name for.
    if node.name != original.norm.name:
        node.name = splice.node(original.norm.name)
    return [node.name]


def _replaced(original: Original, spot: Arithmetic, splice: Splice) -> list[str] | str:
    """Arithmetic gives way to a node."""
    norm, place = spot.norm, spot.place
    links = _links(spot)
    if isinstance(links, str):
        return links
    first, data = links[0]
    if any(may_be_fed(each, place) for node, flow in links for each in node.inputs if each != flow):
        return "its numbers may be fed as inputs"
    dims = dims_of(data, place)
    if dims is None:
        return f"the rank of {data!r} is not known"
    rank = len(dims)
    axis = norm.axis + rank if norm.axis < 0 else norm.axis
    channels = original.four[0].values.size
    if not 0 < axis < rank or (isinstance(dims[axis], int) and dims[axis] != channels):
        return f"its {channels} channels do not lie on an axis of {data!r} but the first"
    for step in norm.steps[spot.skipped :]:
        if len(step.tensor.dims) > rank:
            return "its numbers have more axes than the data"
        if step.tensor.dtype != original.dtype:
            return f"the stock export stores {step.tensor.dtype}, the framework {original.dtype}"
    editor = splice.editor(place.scope)
    assert editor is not None  # looked at before
    node = editor.node(first.outputs[0])
    for other, flow in links[1:]:
        editor.bypass(other.outputs[0], flow)
    # By now it gives what the last one gave, if nothing moves the data in between.
    output = node.output[0]
    old = splice.value(f"{output}_arithmetic")
    editor.rename_output(output, old)
    names = insert(
        Row(steps=(original,), before=None),
        data,
        output,
        gap=Gap(old, before=True, editor=editor, splice=splice),
        axis=axis,
        rank=rank,
    )
    editor.remove(old)
    return names


def _links(spot: Arithmetic) -> list[tuple[Node, str]] | str:
    """The operators of the arithmetic with what flows into each, in the data's order."""
    place, found = spot.place, list[tuple[Node, str]]()
    count, value = len(spot.norm.nodes) - spot.skipped, spot.norm.output
    for _ in range(_MOST):
        if len(found) == count:
            return found[::-1]
        node = place.producer(value)
        if node is None or not place.is_local(value):
            break
        if node.op_type in ARITHMETIC:
            flows = [each for each in node.inputs if not place.is_constant(each)]
            if len(flows) != 1:
                break
            found.append((node, flows[0]))
            value = flows[0]
        elif node.op_type in _BETWEEN and found:
            if node.op_type == "Transpose" and spot.skipped:
                return "its axes are moved within the arithmetic"
            value = node.input(0)
        elif node.op_type == "Cast":
            return "its type changes within the arithmetic"
        else:
            break
    return "its arithmetic is not found again"
