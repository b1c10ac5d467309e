from tfq.sources.causes import converter_cause, last_errors, root_cause, signal_name


def test_the_first_exception_of_a_chain_is_the_cause():
    error = RuntimeError("conversion failed")
    error.__cause__ = ValueError("the shape is wrong")
    assert root_cause(error) == "the shape is wrong"
    error.__cause__.__context__ = KeyError("first of all")
    assert root_cause(error) == "'first of all'"


def test_code_excerpts_are_left_out():
    error = ValueError(
        'in user code:\n    File "m.py", line 3, in call\n    Bad rank 3\n\nCall stack:\n x'
    )
    assert root_cause(error) == "Bad rank 3"


def test_an_exception_without_a_message_is_named():
    assert root_cause(KeyError()) == "KeyError"


def test_converter_messages_lose_their_locations_and_name_the_ops():
    text = (
        'Could not translate MLIR to FlatBuffer.loc(callsite(fused["Erfinv:", "f@g"])): error: '
        "loc(callsite(fused[\"Erfinv:\"])): 'tf.Erfinv' op is neither a custom op nor a flex op\n"
        "error: failed while converting: 'main': \nSome ops need Flex\n"
        "TF Select ops: Erfinv, MatrixInverse\nDetails: ...\n"
    )
    assert converter_cause(text) == (
        "these ops have no TFLite form: Erfinv, MatrixInverse; "
        "'tf.Erfinv' op is neither a custom op nor a flex op"
    )


def test_the_last_words_of_a_process():
    assert last_errors("noise\nF0000 tensor.cc:9] Check failed: n > 0\n").endswith("n > 0")
    assert last_errors("nothing telling") == ""
    assert signal_name(-11) == "SIGSEGV"
