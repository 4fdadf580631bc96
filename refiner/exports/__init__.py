"""Files that live without this library: TorchScript, ONNX, torch.export and plain Python.

A network and an example input come in; a file that was loaded again and compared goes out. A new
format belongs in ``exporting.py``.
"""
