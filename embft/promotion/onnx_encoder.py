"""An exported ONNX folder as a server runs it: tokenizers and onnxruntime, neither torch nor embft's models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer


class OnnxEncoder:
    """One side of an exported folder.

    Args:
        folder: The folder.
        side: `queries` or `items` of its embft.json.
    """

    def __init__(self, folder: Path, side: dict[str, Any]) -> None:
        import onnxruntime

        self._prompt = str(side["prompt"])
        self._tokenizer = Tokenizer.from_file(str(folder / side["tokenizer"]))
        self._session = onnxruntime.InferenceSession(folder / side["graph"], providers=["CPUExecutionProvider"])

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of texts, all in one batch.

        Args:
            texts: Without the prompt.

        Returns:
            Unit-length vectors, float32 [texts, dim]; a text without a known token gives zeros.
        """
        encodings = self._tokenizer.encode_batch([self._prompt + text for text in texts])
        arrays = {
            "input_ids": [it.ids for it in encodings],
            "attention_mask": [it.attention_mask for it in encodings],
            "token_type_ids": [it.type_ids for it in encodings],
        }
        names = [it.name for it in self._session.get_inputs()]
        vectors: NDArray[np.float32]
        (vectors,) = self._session.run(None, {name: np.array(arrays[name], dtype=np.int64) for name in names})
        return vectors
