"""What every operator does with each of its inputs, by domain.

Every input is a letter:

    w  weights or a bias: learned
    i  the same, and integers of any width are weights there too
    p  the same, packed: an element may hold several weights
    k  the same, in blocks of channels
    t  a table that rows are looked up in
    s  running statistics
    c  never a parameter: shapes, axes, indices, scales, zero points, limits, masks, caches
    h  the state that an operator begins with
    m  values that come out as they are, moved or converted
    o  an operand of an addition or a multiplication
    a  what is added to attention scores
    b  what goes into a subgraph
    d  data: what flows through the network

Inputs behind a `+` repeat. What is written here holds for all versions of an operator: none of
them gave an input another meaning, they only appended some. The standard domain and ai.onnx.ml
are those of onnx 1.23, com.microsoft that of ONNX Runtime 1.31
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TypeAlias

Table: TypeAlias = Mapping[str, str]
"""The letters of an operator's inputs, by its name."""


def _table(*lines: str) -> Table:
    """Lines that begin with letters, and name the operators that have such inputs."""
    table: dict[str, str] = {}
    for letters, *ops in map(str.split, lines):
        for op in ops:
            assert op not in table, f"{op} is written down twice"
            table[op] = letters
    return table


STANDARD: Table = _table(
    # Weights.
    "dww Conv ConvTranspose FC",
    "dwdwd DeformConv",
    "dwcc ConvInteger",
    "dccwcccci QLinearConv",
    "dwwh CausalConvWithState",
    # Either side of a product may be the weights. Where both are stored, they are a factorised
    # weight or a low-rank adapter, learned as well.
    "www Gemm",
    "ww MatMul",
    "wwcc MatMulInteger",
    "wccwcccc QLinearMatMul",
    "+w Einsum",
    "dwwwchhw LSTM",
    "dwwwch GRU RNN",
    "dw PRelu RMSNormalization SimplifiedLayerNormalization",
    "dww InstanceNormalization LayerNormalization GroupNormalization",
    "dwwss BatchNormalization",
    "tc Gather GatherND",
    # Arithmetic, whose operand may be a bias, a scale or a plain constant.
    "oo Add Sub Mul Div",
    "+o Sum",
    # Attention, and what else has a state.
    "dddahhc Attention",
    "dddhdd LinearAttention",
    "dccc RotaryEmbedding",
    "hdc TensorScatter",
    # Values that only move. Dropout does nothing once the network is trained.
    "m BitCast Cast ConcatFromSequence DepthToSpace Flatten Identity MemcpyFromHost MemcpyToHost",
    "m Optional OptionalGetElement SpaceToDepth Transpose",
    "mc CastLike CenterCropPad Compress Expand GatherElements Reshape ReverseSequence SequenceAt",
    "mc SequenceErase Split SplitToSequence Squeeze Trilu Unsqueeze",
    "mcc DequantizeLinear Dropout QuantizeLinear Tile",
    "mccc DynamicSlice Pad",
    "mcccc Slice",
    "mmc SequenceInsert",
    "+m Concat SequenceConstruct",
    # Only the shape or the type of what comes in matters, or it is itself a shape.
    "c BlackmanWindow ConstantFill ConstantOfShape EyeLike GivenTensorFill HammingWindow",
    "c HannWindow OptionalHasElement RandomNormalLike RandomUniformLike SequenceLength Shape Size",
    "ccc Range",
    "ccccc MelWeightMatrix",
    # Subgraphs.
    "c If",
    "cc+b Loop",
    "+b Scan SequenceMap",
    # Data, beside it at most constants.
    "d Abs Acos Acosh Affine ArgMax ArgMin Asin Asinh Atan Atanh AveragePool Bernoulli BitwiseNot",
    "d Ceil Celu Cos Cosh Crop Det DynamicQuantizeLinear Elu Erf Exp Floor Gelu GlobalAveragePool",
    "d GlobalLpPool GlobalMaxPool HardSigmoid HardSwish Hardmax ImageDecoder ImageScaler IsInf",
    "d IsNaN LRN LeakyRelu Log LogSoftmax LpNormalization LpPool MaxPool",
    "d MeanVarianceNormalization Mish Multinomial Neg NonZero Not ParametricSoftplus Reciprocal",
    "d RegexFullMatch Relu Round Scale ScaledTanh Selu Shrink Sigmoid Sign Sin Sinh Softmax",
    "d Softplus Softsign Sqrt StringNormalizer StringSplit Swish Tan Tanh TfIdfVectorizer",
    "d ThresholdedRelu Unique",
    "dd And BitShift BitwiseAnd BitwiseOr BitwiseXor Equal Greater GreaterOrEqual Less LessOrEqual",
    "dd Mod Or Pow StringConcat SwiGLU Xor",
    "ddd DisentangledAttention_TRT EfficientNMS_TRT",
    "dddd GRUUnit",
    "+d Max Mean Min MultilevelCropAndResize_TRT PyramidROIAlign_TRT",
    "dc AffineGrid CumProd CumSum GridSample MaxRoiPool ReduceL1 ReduceL2 ReduceLogSum",
    "dc ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare TopK",
    "dc Upsample",
    "dcc Clip Col2Im DFT MaxUnpool NegativeLogLikelihoodLoss OneHot RoiAlign",
    "dcc SoftmaxCrossEntropyLoss",
    "dccc Resize STFT",
    "ddccc NonMaxSuppression",
    "dcd Scatter ScatterElements ScatterND",
    "cdd Where",
)

MICROSOFT: Table = _table(
    # Convolutions and products.
    "dww NhwcConv",
    "dwwd FusedConv NhwcFusedConv",
    "dwcw ConvTransposeWithDynamicPads",
    "dwwh CausalConvWithState",
    "dwcwhc VarlenCausalConvWithState",
    "dccwcccci QLinearConv",
    "dwww WordConvEmbedding",
    "ww FusedMatMul FusedMatMulActivation SparseToDenseMatMul TransposeMatMul",
    "www FusedGemm",
    "wwwccc GemmFloat8",
    "dww GemmFastGelu",
    "ii MatMulInteger16",
    "wwccccw MatMulIntegerToFloat",
    "wccwccicc QGemm",
    "dwccw DynamicQuantizeMatMul MatMulBlockQuantizedFp8Weight",
    "dcwccwdc QOrderedMatMul",
    "dpcccw MatMulBlockQuantizedFp4Weight MatMulNBits",
    "dpc MatMulBnb4 MatMulFpQ4",
    "ddwpcwpcw MatMulNBitsMlp",
    "ddwpcwpcwpcw MatMulNBitsQkv",
    "ddwwwwww MoE",
    "ddpcwpcwpcwcccdcccccc QMoE",
    # Recurrent networks.
    "dwwwchhwwwwdcw AttnLSTM",
    "dwwwchhwcccc DynamicQuantizeLSTM",
    # Normalisations, and biases that are added on the way.
    "dw SimplifiedLayerNormalization",
    "dww GroupNorm LayerNormalization",
    "dwwdw SkipGroupNorm",
    "ddww SkipSimplifiedLayerNormalization",
    "ddwww SkipLayerNormalization",
    "dcwwc QOrderedLayerNormalization",
    "dwwss BatchNormInternal",
    "dw BiasGelu BiasSplitGelu BranchwiseRMSNorm FastGelu",
    "dwd BiasAdd GatedRMSNorm",
    "dwdcc BiasDropout BitmaskBiasDropout",
    "dddwww EngramGate",
    # Embeddings.
    "tc GatherND",
    "pccc GatherBlockQuantized",
    "wccc TorchEmbedding",
    "ddwwwwwcc EmbedLayerNormalization",
    "ddwwwwwccccccccccc QEmbedLayerNormalization",
    # Attention.
    "dwwchac Attention",
    "ddwwwchhcccc DecoderAttention",
    "dddcahhcccw DecoderMaskedMultiHeadAttention",
    "dwwchaccc DecoderMaskedSelfAttention",
    "dddhhddcccccccwww DynamicSparseAttention",
    "dddcddhwwcc GatedDeltaNet",
    "dwawwwc GatedRelativePositionBias",
    "dddhhcccccawccww GroupQueryAttention",
    "dddhdd LinearAttention",
    "dwwd LinearAttentionGate",
    "dwwcwwc LongformerAttention",
    "dddwcahhcc MultiHeadAttention",
    "dwwcca PackedAttention",
    "dddwcca PackedMultiHeadAttention",
    "ddwwccccdwdchhhccc PackedSparseAttentionIndexer",
    "dddhhccccccwwwccc PagedAttention",
    "dwwccccch QAttention",
    "dccccwwwcccwwwccccha QOrderedAttention",
    "dcwcwcccwcwccc QOrderedLongformerAttention",
    "wcc RelativePositionBias",
    "dddhhcccccc SparseAttention",
    "ddwwccchdwdcch SparseAttentionIndexer",
    "dddhhccccccddcccwwwccc SparsePagedAttention",
    "dccc MRotaryEmbedding RotaryEmbedding",
    "da BiasSoftmax",
    # Arithmetic on integers.
    "ococ MulInteger",
    "occocccc QLinearAdd QLinearMul",
    # Values that only move.
    "m QuantizeBFP",
    "mc DequantizeWithOrder ExpandDims QuantizeWithOrder SplitTraining Trilu",
    "mcc BitmaskDropout DequantizeBFP DequantizeLinear Pad QuantizeLinear",
    "+m ConcatTraining",
    "cc+mcc QLinearConcat",
    # Data, beside it at most constants.
    "d DynamicTimeWarping Gelu Inverse Irfft MurmurHash3 NhwcMaxPool QuickGelu ReduceSumInteger",
    "d Rfft SampleOp Tokenizer UnfoldTensor Unique",
    "dd CDist ComplexMul ComplexMulConj HyperConnectionPreMix NGramRepeatBlock",
    "ddd GatedAdd",
    "dddd BifurcationDetector HyperConnectionPostMix",
    "ddddd GemmaRotaryEmbedding",
    "+d EPContext IsAllFinite Snpe",
    "dc GridSample MaxpoolWithMask RemovePadding RestorePadding ScaledSiLU",
    "dcc QOrderedGelu",
    "dccc CropAndResize",
    "dcccc QLinearAveragePool QLinearGlobalAveragePool QLinearLeakyRelu QLinearReduceMean",
    "dcccc QLinearSigmoid QLinearSoftmax",
    "cdccdcccc QLinearWhere",
    "d+c BeamSearch GreedySearch NGramHashMapping Sampling VarlenNGramHashMapping",
    "d+c WhisperBeamSearch",
    "ccc Range",
)

ML: Table = _table(
    "d Binarizer CastMap CategoryMapper DictVectorizer Imputer LabelEncoder LinearClassifier",
    "d LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble",
    "d TreeEnsembleClassifier TreeEnsembleRegressor ZipMap",
    "dc ArrayFeatureExtractor",
    "+d FeatureVectorizer",
)
"""What these learn are attributes, most of them plain lists of numbers and no tensors."""

PREVIEW: Table = _table("ddd FlexAttention")

TRAINING: Table = _table("cc+d Adagrad Adam Momentum", "+d Gradient")

BLOCKED: Table = _table(
    # Written by ONNX Runtime for one kind of processor; channels are filled up to whole blocks.
    "dkkd Conv",
    "m ReorderInput ReorderOutput",
    "d AveragePool GlobalAveragePool GlobalMaxPool MaxPool Upsample",
)

CHANNELS_LAST: Table = {**MICROSOFT, **STANDARD, "QLinearConvTranspose": "dccwcccci"}
"""The standard operators on another layout: their weights are what they were."""

QUANTISED: Table = _table(
    # https://github.com/fastmachinelearning/qonnx/tree/main/docs/qonnx-custom-ops
    "m+c BipolarQuant FloatQuant IntQuant Quant Trunc",
    "ww XnorPopcountMatMul",
    "d Im2Col MaxPoolNHWC QuantAvgPool2d",
    "dd MultiThreshold",
    "+b GenericPartition",
)

DOMAINS: Mapping[str, Table] = {
    "": STANDARD,
    "ai.onnx": STANDARD,
    "ai.onnx.ml": ML,
    "ai.onnx.preview": PREVIEW,
    "ai.onnx.preview.training": TRAINING,
    "com.microsoft": MICROSOFT,
    "com.microsoft.nchwc": BLOCKED,
    "com.ms.internal.nhwc": CHANNELS_LAST,
    "finn.custom_op.general": QUANTISED,
    "onnx.brevitas": QUANTISED,
    "qonnx.custom_op.channels_last": CHANNELS_LAST,
    "qonnx.custom_op.general": QUANTISED,
}
"""An operator is known by its domain and its name; `Conv` of any other domain is no convolution."""


@cache
def letter(domain: str, op_type: str, position: int) -> str:
    """What an operator does with one input, in one of the letters above; empty if not known."""
    inputs = DOMAINS.get(domain, {}).get(op_type)
    if inputs is None:
        return ""
    first, _, rest = inputs.partition("+")
    if position < len(first):
        return first[position]
    return rest[(position - len(first)) % len(rest)] if rest else ""
