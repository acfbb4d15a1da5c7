"""What is known about a model, as frozen dataclasses: no I/O and no onnx.

Every stage of the pipeline is a function from these facts to these facts.
"""
