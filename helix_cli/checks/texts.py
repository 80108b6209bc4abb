"""The prompts that ship with the checks: code, prose, lists, and characters from beyond ASCII."""

PROMPTS = (
    "def read_lines(path):\n    ",
    "The quick brown fox jumps over the lazy dog. The quick brown",
    "import os\nimport sys\n\n\nclass Parser:\n    def __init__(self",
    "Question: what is the capital of France?\nAnswer:",
    "1, 2, 3, 4, 5, 6, 7, 8, 9,",
    "Once upon a time, in a village by the sea, there lived",
    "for name in names:\n    print(name)\nfor name in names:\n    print(",
    "Grüße aus München: naïve café, 東京, 🙂 and",
    '{"name": "Ada", "born": 1815, "field": "',
    "To make bread you need flour, water, salt and",
    "    def test_empty(self):\n        self.assertEqual(",
    "SELECT name, count(*) FROM orders WHERE",
)

SAMPLES = (
    "Plain words, and a number: 3.14159.",
    "def f(x):\n\treturn x ** 2  # tabs\n",
    "Grüße, naïve café; Ελληνικά, русский, 日本語, العربية.",
    "Joined: 👩‍👩‍👧‍👦 🇩🇪 e\u0301 \u200b end",
)
"""What tokenizers stumble over."""

LONG = (
    "The engine keeps a list of committed tokens and a table of blocks. Every step feeds the tokens that are not "
    "computed yet, followed by a draft, and commits what the rule returns. A rejected draft leaves the counter where "
    "the accepted prefix ends, and the stale slots behind it are written again by the next step. "
)
"""Ordinary text that is repeated where many tokens are needed."""
