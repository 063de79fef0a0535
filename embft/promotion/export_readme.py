"""The README.md of an exported folder: how its queries and items are prefixed, and how it is run."""

from __future__ import annotations

import json
from typing import Any

_FOLDER = """\
An ordinary SentenceTransformer folder; `embft.load_model(folder)` reads it too. `encode_query` and `encode_document`
put the prompts before the texts. A plain `encode` takes a text for a query, never for an item.

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(".")
queries = model.encode_query(["red shoes"])
items = model.encode_document(["Red running shoes, size 42"])
print(queries @ items.T)
```
"""

_ONNX = """\
`pip install onnxruntime tokenizers numpy`. The tokenizers' files hold truncation, padding and special tokens; a graph
takes int64 [batch, tokens], any number of both, and gives `sentence_embedding`, float32 [batch, dimensions].

```python
import json

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

about = json.load(open("embft.json", encoding="utf-8"))


def encoder(side):
    prompt = about[side]["prompt"]
    tokenizer = Tokenizer.from_file(about[side]["tokenizer"])
    session = onnxruntime.InferenceSession(about[side]["graph"])
    names = [it.name for it in session.get_inputs()]

    def encode(texts):
        encodings = tokenizer.encode_batch([prompt + text for text in texts])
        inputs = {
            "input_ids": [it.ids for it in encodings],
            "attention_mask": [it.attention_mask for it in encodings],
            "token_type_ids": [it.type_ids for it in encodings],
        }
        return session.run(None, {name: np.array(inputs[name], dtype=np.int64) for name in names})[0]

    return encode


encode_queries, encode_items = encoder("queries"), encoder("items")
print(encode_queries(["red shoes"]) @ encode_items(["Red running shoes, size 42"]).T)
```
"""


def readme(about: dict[str, Any]) -> str:
    """Write the README.md of an exported folder.

    Args:
        about: Content of its embft.json.

    Returns:
        Markdown.
    """
    night = f", of the night of {about['day']}" if about["day"] else ""
    prompts = "\n".join(f"- {side}: {_put_before(about[side]['prompt'])}" for side in ("queries", "items"))
    return f"""\
# {about["model"]}, version {about["version"]}{night}

Vectors of {about["dimensions"]} numbers, of length 1: a dot product is the cosine. Compare vectors of one version only.

The model was trained with these prompts; a text without its prompt gets another vector, and the ranking spoils:

{prompts}

`embft.json` says the same for programs.

{_ONNX if about["format"] == "onnx" else _FOLDER}"""


def _put_before(prompt: str) -> str:
    # As JSON: a space at its end shows, and a line break or a mark of Markdown cannot end the line of code.
    quoted = json.dumps(prompt, ensure_ascii=False).replace("`", "\\u0060")
    return f"`{quoted}` is put before every text" if prompt else "nothing is put before a text"
