"""Sizes in ONNX Runtime: export, shared weights, quantisation, running. Needs the extra `onnx`."""
