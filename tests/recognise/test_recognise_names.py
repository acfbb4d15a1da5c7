"""What names and exporters' notes are taken for; each is one that an exporter or a person wrote."""

from __future__ import annotations

import pytest

from inspector.facts.model import Node
from inspector.recognise.names import (
    batchnorm_scope,
    is_torch_batchnorm,
    other_norm,
    torch_folding,
    torch_numbers,
    torch_scope,
    witness_scope,
)

SCOPES = [
    ("functional_1/batch_normalization_1/batchnorm/mul_1", "functional_1/batch_normalization_1"),
    ("model/batch_normalization/FusedBatchNormV3", "model/batch_normalization"),
    ("functional_1/after_depth_1/batchnorm/mul_1", "functional_1/after_depth_1"),
    ("resnet/conv1_bn/batchnorm/mul", "resnet/conv1_bn"),
    ("batchnorm/mul_1", "batchnorm"),
    ("layer1.0.bn1.weight", "layer1.0.bn1"),
    ("BatchNorm2d_3", "BatchNorm2d_3"),
    ("model_1/bn/Fused;model_1/conv/BiasAdd", "model_1/bn"),
    ("a/relu/Relu;m/batch_normalization_3/FusedBatchNormV3;m/c", "m/batch_normalization_3"),
    # The layer counts, not what it is a part of, and not where TensorFlow computes it.
    ("group_norm_net/bn1/mul", "group_norm_net/bn1"),
    ("model_1/layer_normalization/batchnorm/mul_1", ""),
    ("model_1/group_normalization/batchnorm/sub", ""),
    ("bn_net/layer_norm/mul", ""),
    ("spectral_norm", ""),
    ("subnet/abnormal/cabin", ""),
    ("onnx::Mul_141", ""),
    ("", ""),
]


@pytest.mark.parametrize(("name", "scope"), SCOPES)
def test_the_layer_that_a_name_speaks_of(name, scope):
    assert batchnorm_scope(name) == scope


WITNESSES = [
    ("functional_1/batch_normalization_1/batchnorm/sub:0", "functional_1/batch_normalization_1"),
    ("model/conv2d/BiasAdd_weights_fused_bn", "model/conv2d/BiasAdd_weights_fused_bn"),
    ("ConvBnFusion_W_conv1.weight", "ConvBnFusion_W_conv1.weight"),
    ("model/layer_normalization/FusedBatchNormV3:0", ""),
    # Plain layers that people call so.
    ("bn_conv.weight", ""),
    ("functional_1/batchnorm_1/BiasAdd", ""),
    ("conv1_bn/Conv2D", ""),
]


@pytest.mark.parametrize(("name", "scope"), WITNESSES)
def test_names_that_nothing_but_a_batchnorm_leaves(name, scope):
    assert bool(witness_scope(name)) == bool(scope)
    assert witness_scope(name) == scope


def noted(classes: str, *, scopes: str = "", traced: str = "", rule: str = "", name="") -> Node:
    notes = {
        "pkg.torch.onnx.class_hierarchy": classes,
        "pkg.torch.onnx.name_scopes": scopes,
        "pkg.torch.onnx.fx_node": traced,
        "pkg.onnxscript.rewriter.rule_name": rule,
    }
    return Node(
        op_type="Conv",
        domain="",
        name=name,
        inputs=("x", "w"),
        outputs=("y",),
        attributes={},
        metadata={key: value for key, value in notes.items() if value},
    )


NORM = "['__main__.Net', 'torch.nn.modules.batchnorm.BatchNorm2d', 'aten.batch_norm.default']"
TRACED = (
    "%_native_batch_norm_legit_no_training : [num_users=1] = "
    "call_function[target=torch.ops.aten._native_batch_norm_legit_no_training.default]"
    "(args = (%conv2d, %p_bn1_weight, %p_bn1_bias, %b_bn1_running_mean, %b_bn1_running_var, "
    "0.15, 1e-05), kwargs = {})"
)


def test_torchs_notes_on_a_batchnorm_that_was_folded():
    node = noted(
        NORM,
        scopes="['', 'layer1.0.bn1', '_native_batch_norm']",
        traced=TRACED,
        rule="FuseBatchNormIntoConv, RemoveOptionalBiasFromConv",
    )
    assert is_torch_batchnorm(node)
    assert torch_scope(node) == "layer1.0.bn1"
    assert torch_folding(node) == "FuseBatchNormIntoConv"
    assert torch_numbers(node) == "eps 1e-05, torch momentum 0.15"


def test_a_subclass_is_told_by_what_was_traced():
    node = noted("['__main__.Net', '__main__.MyNorm', 'aten.batch_norm']", traced=TRACED)
    assert is_torch_batchnorm(node)


OTHERS = [
    # A Conv within a module that is called after a BatchNorm.
    "['__main__.ConvReluBatchNorm', 'torch.nn.modules.conv.Conv2d', 'aten.conv2d.default']",
    "['__main__.Net', '__main__.NoBatchNormBlock', 'aten.mul.Tensor']",
    "[]",
    "no list at all",
]


@pytest.mark.parametrize("classes", OTHERS)
def test_the_innermost_module_is_meant(classes):
    # The operand of a Conv right behind a BatchNorm carries that one's name.
    traced = "%conv : call_function[target=torch.ops.aten.conv2d.default](args = (%batch_norm,))"
    assert not is_torch_batchnorm(noted(classes, traced=traced))


KINDS = [
    ("model_1/layer_normalization/FusedBatchNormV3", "", "LayerNorm"),
    ("model_1/group_normalization/batchnorm/mul_1", "", "GroupNorm"),
    ("group_norm_net/bn1/mul", "", ""),
    ("/norm/Mul", "", ""),
    ("n", "['A', 'torch.nn.modules.instancenorm.InstanceNorm2d', 'aten.x']", "InstanceNorm"),
    # torch notes the class: names around it no longer count.
    ("instance_norm/y", NORM, ""),
]


@pytest.mark.parametrize(("name", "classes", "kind"), KINDS)
def test_other_normalisations(name, classes, kind):
    assert other_norm(noted(classes, name=name)) == kind
