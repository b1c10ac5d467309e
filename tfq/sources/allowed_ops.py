"""TensorFlow's ops that a model file may hold: those that touch nothing but the model itself.

TensorFlow marks an op as stateful when it does more than compute its outputs. Of those, only the
ones listed here are allowed. A stateless op is allowed, unless it takes a text of any content, as
an input or as an attribute: that may be the name of a file, an address or the key of a Python
function (ReadFile, DatasetFromGraph and PyFuncStateless are stateless), and then it has to be
listed too. So an op that a later TensorFlow brings along is refused until it is looked at.
"""

from __future__ import annotations

import functools
from typing import Any

# By reason. None of these opens a file or a connection, or calls Python.
_STATEFUL = {
    "variables of the model, and what training writes into them": """
        AssignAddVariableOp AssignSubVariableOp AssignVariableOp AssignVariableXlaConcatND
        DestroyResourceOp DisableCopyOnRead IsResourceHandleRefCounting ReadVariableOp
        ReadVariableXlaSplitND ResourceApplyAdaMax ResourceApplyAdadelta ResourceApplyAdagrad
        ResourceApplyAdagradDA ResourceApplyAdagradV2 ResourceApplyAdam
        ResourceApplyAdamWithAmsgrad ResourceApplyAddSign ResourceApplyCenteredRMSProp
        ResourceApplyFtrl ResourceApplyFtrlV2 ResourceApplyGradientDescent
        ResourceApplyKerasMomentum ResourceApplyMomentum ResourceApplyPowerSign
        ResourceApplyProximalAdagrad ResourceApplyProximalGradientDescent ResourceApplyRMSProp
        ResourceCountUpTo ResourceGather ResourceGatherNd ResourceScatterAdd ResourceScatterDiv
        ResourceScatterMax ResourceScatterMin ResourceScatterMul ResourceScatterNdAdd
        ResourceScatterNdMax ResourceScatterNdMin ResourceScatterNdSub ResourceScatterNdUpdate
        ResourceScatterSub ResourceScatterUpdate ResourceSparseApplyAdadelta
        ResourceSparseApplyAdagrad ResourceSparseApplyAdagradDA ResourceSparseApplyAdagradV2
        ResourceSparseApplyCenteredRMSProp ResourceSparseApplyFtrl ResourceSparseApplyFtrlV2
        ResourceSparseApplyKerasMomentum ResourceSparseApplyMomentum
        ResourceSparseApplyProximalAdagrad ResourceSparseApplyProximalGradientDescent
        ResourceSparseApplyRMSProp ResourceStridedSliceAssign TemporaryVariable VarHandleOp
        VarIsInitializedOp Variable VariableShape VariableV2 _ReadVariablesOp _VarHandlesOp
        """,
    "control flow; what it calls is in the file and looked at too": """
        Case If StatefulPartitionedCall While _Arg _If _Retval _While
        """,
    "tables in memory; those that are filled from a file have a rule of their own": """
        AnonymousHashTable AnonymousMutableDenseHashTable AnonymousMutableHashTable
        AnonymousMutableHashTableOfTensors HashTable HashTableV2 InitializeTableFromTextFileV2
        InitializeTableV2 LookupTableExportV2 LookupTableFindV2 LookupTableImportV2
        LookupTableInsertV2 LookupTableRemoveV2 LookupTableSizeV2 MutableDenseHashTable
        MutableDenseHashTableV2 MutableHashTable MutableHashTableOfTensors
        MutableHashTableOfTensorsV2 MutableHashTableV2
        """,
    "random numbers": """
        AllCandidateSampler LearnedUnigramCandidateSampler LogUniformCandidateSampler Multinomial
        NonDeterministicInts ParameterizedTruncatedNormal RandomCrop RandomGamma RandomPoisson
        RandomPoissonV2 RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt
        RngReadAndSkip RngSkip SampleDistortedBoundingBox SampleDistortedBoundingBoxV2
        StatefulRandomBinomial StatefulStandardNormal StatefulStandardNormalV2
        StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt StatefulUniformInt
        StatelessRandomGetAlg ThreadUnsafeUnigramCandidateSampler TruncatedNormal
        UniformCandidateSampler
        """,
    "arrays and stacks of loops, in memory": """
        AddManySparseToTensorsMap AddSparseToTensorsMap Empty Stack StackCloseV2 StackPopV2
        StackPushV2 StackV2 TakeManySparseFromTensorsMap TensorArray TensorArrayCloseV3
        TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayGrad TensorArrayGradV2
        TensorArrayGradV3 TensorArrayGradWithShape TensorArrayReadV3 TensorArrayScatterV3
        TensorArraySizeV3 TensorArraySplitV3 TensorArrayV2 TensorArrayV3 TensorArrayWriteV3
        """,
    "checks, and messages to the log; PrintV2 has a rule of its own": """
        Assert CheckNumerics CheckNumericsV2 GuaranteeConst Print PrintV2 Timestamp
        """,
    "the machine: which device, which kernel": """
        CudnnRNN CudnnRNNBackprop CudnnRNNBackpropV2 CudnnRNNBackpropV3 CudnnRNNV2 CudnnRNNV3
        DeviceIndex IsTensorFloat32Enabled
        """,
    "a computation of JAX; one that calls something else has a rule of its own": """
        XlaCallModule
        """,
}

_WITH_TEXT = {
    "text that is processed": """
        AsString DecodeBase64 DecodeCSV EncodeBase64 Fingerprint ReduceJoin RegexFullMatch
        RegexReplace SdcaFprint StaticRegexFullMatch StaticRegexReplace StringFormat StringJoin
        StringLength StringLower StringNGrams StringSplit StringSplitV2 StringStrip
        StringToHashBucket StringToHashBucketFast StringToHashBucketStrong StringToNumber
        StringUpper Substr UnicodeDecode UnicodeDecodeWithOffsets UnicodeTranscode
        UnsortedSegmentJoin
        """,
    "bytes that are decoded": """
        DecodeAndCropJpeg DecodeBmp DecodeCompressed DecodeGif DecodeImage DecodeJSONExample
        DecodeJpeg DecodePaddedRaw DecodePng DecodeRaw DecodeWav DecodeWebP DeserializeManySparse
        EncodeJpeg ExtractJpegShape ParseExample ParseExampleV2 ParseSequenceExample
        ParseSequenceExampleV2 ParseSingleExample ParseSingleSequenceExample ParseTensor
        """,
    "the name of a mode": """
        DataFormatDimMap DataFormatVecPermute DenseToDenseSetOperation DenseToSparseSetOperation
        Einsum ExtractGlimpse ExtractGlimpseV2 GatherNd ImageProjectiveTransformV2
        ImageProjectiveTransformV3 RaggedCross RaggedTensorToTensor ScaleAndTranslate
        ScaleAndTranslateGrad ScatterNd ScatterNdAdd ScatterNdMax ScatterNdMin
        ScatterNdNonAliasingAdd ScatterNdSub ScatterNdUpdate SparseCrossV2
        SparseToSparseSetOperation TensorScatterAdd TensorScatterMax TensorScatterMin
        TensorScatterSub TensorScatterUpdate UniformQuantizedConvolution
        UniformQuantizedConvolutionHybrid XlaConv XlaConvV2 XlaDot XlaDotV2 XlaEinsum XlaGather
        XlaScatter XlaSharding XlaSpmdFullToShardShape XlaSpmdShardToFullShape XlaSvd
        """,
    "the name of a frame, a variable or a type": """
        CompositeTensorVariantFromComponents CompositeTensorVariantToComponents
        DestroyTemporaryVariable Enter PartitionedCall PreventGradient RefEnter
        """,
    "handles of tables, arrays and stacks of the first TensorFlow, which are text": """
        InitializeTable InitializeTableFromTextFile LookupTableExport LookupTableFind
        LookupTableImport LookupTableInsert LookupTableSize StackClose StackPop StackPush
        TensorArrayClose TensorArrayCloseV2 TensorArrayConcat TensorArrayConcatV2
        TensorArrayGather TensorArrayGatherV2 TensorArrayPack TensorArrayRead TensorArrayReadV2
        TensorArrayScatter TensorArrayScatterV2 TensorArraySize TensorArraySizeV2
        TensorArraySplit TensorArraySplitV2 TensorArrayUnpack TensorArrayWrite TensorArrayWriteV2
        """,
    "names of the variables' files, as text; what opens them has a rule of its own": """
        ShardedFilename ShardedFilespec
        """,
}

_ALLOWED = frozenset(
    name for group in (_STATEFUL, _WITH_TEXT) for names in group.values() for name in names.split()
)

# Tables that are filled from a file; input 1 is its name.
FROM_TEXT_FILE = frozenset({"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"})
# Read variables from the file that input 0 names.
RESTORE = frozenset({"Restore", "RestoreSlice", "RestoreV2"})
# Write variables.
SAVE = frozenset({"MergeV2Checkpoints", "Save", "SaveSlices", "SaveV2"})


def refused(node: Any) -> bool:
    """Whether a NodeDef's op may do more than compute, for all that is known of the op alone.

    Saving and restoring variables is refused here: where that is a SavedModel's own saver, its
    surroundings say so (`tfq.sources.scan_graph`). An op that this TensorFlow does not have cannot
    run, and loading says so.
    """
    name = node.op
    if name in _ALLOWED:
        if name == "PrintV2":
            return node.attr["output_stream"].s.startswith(b"file:")
        if name == "XlaCallModule":  # MLIR bytecode: names of ops are plain text in it.
            return b"custom_call" in node.attr["module"].s
        return False
    return name in _risky()


@functools.cache
def _risky() -> frozenset[str]:
    """Ops of this TensorFlow that are stateful, or take a text that may be anything."""
    from tensorflow.core.framework import op_def_pb2, types_pb2
    from tensorflow.python.client import pywrap_tf_session

    ops = op_def_pb2.OpList()
    ops.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    texts = (types_pb2.DT_STRING, types_pb2.DT_STRING_REF)

    def takes_text(op: Any) -> bool:
        return any(a.type in texts for a in op.input_arg) or any(
            a.type in ("string", "list(string)") and not a.allowed_values.list.s for a in op.attr
        )

    return frozenset(op.name for op in ops.op if op.is_stateful or takes_text(op))
