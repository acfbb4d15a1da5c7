"""What a layer is called in Keras and in PyTorch, by the operator that makes it what it is.

Sources: https://keras.io/api/layers/, https://pytorch.org/docs/stable/nn.html.
"""

from __future__ import annotations

from collections.abc import Mapping

_CLASSES: Mapping[str, tuple[str, str]] = {
    "Conv": ("Conv{}D", "Conv{}d"),
    "DepthwiseConv": ("DepthwiseConv{}D", "Conv{}d"),
    "ConvTranspose": ("Conv{}DTranspose", "ConvTranspose{}d"),
    "Linear": ("Dense", "Linear"),
    "BatchNormalization": ("BatchNormalization", "BatchNorm{}d"),
    "InstanceNormalization": ("GroupNormalization", "InstanceNorm{}d"),
    "LayerNormalization": ("LayerNormalization", "LayerNorm"),
    "GroupNormalization": ("GroupNormalization", "GroupNorm"),
    "RMSNormalization": ("RMSNormalization", "RMSNorm"),
    "SeparableConv": ("SeparableConv{}D", "Conv{}d"),
    "MaxPool": ("MaxPooling{}D", "MaxPool{}d"),
    "AveragePool": ("AveragePooling{}D", "AvgPool{}d"),
    "GlobalAveragePool": ("GlobalAveragePooling{}D", "AdaptiveAvgPool{}d"),
    "GlobalMaxPool": ("GlobalMaxPooling{}D", "AdaptiveMaxPool{}d"),
    "Pad": ("ZeroPadding{}D", "ConstantPad{}d"),
    "Resize": ("UpSampling{}D", "Upsample"),
    "Flatten": ("Flatten", "Flatten"),
    "Reshape": ("Reshape", "Unflatten"),
    "Transpose": ("Permute", "Permute"),
    "Embedding": ("Embedding", "Embedding"),
    "LSTM": ("LSTM", "LSTM"),
    "GRU": ("GRU", "GRU"),
    "RNN": ("SimpleRNN", "RNN"),
    "Add": ("Add", "Add"),
    "Sub": ("Subtract", "Sub"),
    "Mul": ("Multiply", "Mul"),
    "Concat": ("Concatenate", "Concat"),
    "MatMul": ("Dot", "MatMul"),
    "Relu": ("ReLU", "ReLU"),
    "Relu6": ("ReLU", "ReLU6"),
    "LeakyRelu": ("LeakyReLU", "LeakyReLU"),
    "PRelu": ("PReLU", "PReLU"),
    "Elu": ("ELU", "ELU"),
    "Selu": ("Activation", "SELU"),
    "Softmax": ("Softmax", "Softmax"),
    "LogSoftmax": ("Activation", "LogSoftmax"),
    "Sigmoid": ("Activation", "Sigmoid"),
    "Tanh": ("Activation", "Tanh"),
    "Softplus": ("Activation", "Softplus"),
    "HardSigmoid": ("Activation", "Hardsigmoid"),
    "HardSwish": ("Activation", "Hardswish"),
    "Silu": ("Activation", "SiLU"),
    "Gelu": ("Activation", "GELU"),
    "Mish": ("Activation", "Mish"),
    "Dropout": ("Dropout", "Dropout"),
}

ACTIVATIONS = frozenset(
    "Relu Relu6 LeakyRelu Elu Selu Softmax LogSoftmax Sigmoid Tanh Softplus HardSigmoid HardSwish "
    "Silu Gelu Mish Clip".split()
)
"""Kinds that Keras takes as the `activation` of the layer in front of them."""

_KINDS: Mapping[str, str] = {
    "FusedConv": "Conv",
    "ConvInteger": "Conv",
    "QLinearConv": "Conv",
    "NhwcConv": "Conv",
    "Gemm": "Linear",
    "FusedGemm": "Linear",
    "FusedMatMul": "Linear",
    "MatMulInteger": "Linear",
    "QLinearMatMul": "Linear",
    "QGemm": "Linear",
    "DynamicQuantizeMatMul": "Linear",
    "MatMulIntegerToFloat": "Linear",
    "MatMulNBits": "Linear",
    "BatchNormInternal": "BatchNormalization",
    "SimplifiedLayerNormalization": "RMSNormalization",
    "SkipLayerNormalization": "LayerNormalization",
    "SkipSimplifiedLayerNormalization": "RMSNormalization",
    "GroupNorm": "GroupNormalization",
    "Upsample": "Resize",
    "Sum": "Add",
    "QuickGelu": "Silu",
    "FastGelu": "Gelu",
}


def kind_of(op_type: str) -> str:
    """The kind of layer that an operator makes."""
    return _KINDS.get(op_type, op_type)


def classes(kind: str, spatial: int | None) -> tuple[str, str]:
    """A kind of layer as a class of Keras and of PyTorch.

    Parameters
    ----------
    spatial
        The axes of the data beside batch and channels; None where its rank is not known.
    """
    keras, torch = _CLASSES.get(kind, (kind, kind))
    # BatchNorm1d and InstanceNorm1d take data without spatial axes as well.
    axes = "2" if spatial is None else str(max(spatial, 1))
    return keras.replace("{}", axes), torch.replace("{}", axes)
