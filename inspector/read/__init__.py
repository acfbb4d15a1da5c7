"""Open a model file: the only stage that reads files and the official protobuf messages.

Its modules import onnx, which costs a third of a second: whoever opens no model imports none.
"""
